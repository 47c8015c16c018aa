"""Good parts turned and mirrored, for detectors that learn from more poses than there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from makellos.data.parts import Part
from makellos.data.pictures import Picture

__all__ = ["TurnedPart", "turned", "views"]


@dataclass(frozen=True, kw_only=True)
class TurnedPart(Part):
    """Name a part whose picture is read turned by `degrees` against the clock, or mirrored first.

    The picture keeps its size: what a turn uncovers repeats the border.
    """

    degrees: float = 0.0
    mirrored: bool = False

    def read(self) -> Picture:
        """Return the turned picture; raises `InputError` for a file that cannot be read."""
        return turned(super().read(), self.degrees, mirrored=self.mirrored)


def turned(picture: Picture, degrees: float, *, mirrored: bool = False) -> Picture:
    """Return a picture H×W or H×W×3 mirrored left to right, then turned against the clock.

    Half turns are exact, and quarter turns where the picture is square.
    """
    if mirrored:
        picture = picture[:, ::-1]
    height, width = picture.shape[:2]
    quarters = degrees / 90
    if quarters.is_integer() and (height == width or quarters % 2 == 0):
        exact: Any = np.rot90(picture, int(quarters) % 4)
        return np.ascontiguousarray(exact)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    result: Picture = cv2.warpAffine(
        np.ascontiguousarray(picture),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return result


def views(parts: Sequence[Part], *, n_turns: int = 1, mirror: bool = False) -> list[Part]:
    """Return each part at `n_turns` even turns from its own pose on, and those mirrored as well.

    The views of a part follow each other, its own first.
    """
    found: list[Part] = []
    for part in parts:
        known = {field.name: getattr(part, field.name) for field in fields(part)}
        for mirrored in (False, True)[: 1 + mirror]:
            for turn in range(n_turns):
                plain = not turn and not mirrored
                degrees = 360.0 * turn / n_turns
                found.append(
                    part if plain else TurnedPart(**known, degrees=degrees, mirrored=mirrored)
                )
    return found
