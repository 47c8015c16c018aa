"""The white level: 16 bit pictures that use fewer bits, learned from as they are inspected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from makellos.data.parts import Change, Changed, Part
from makellos.data.pictures import Picture

__all__ = ["WhiteLevel", "filling_their_depth"]


@dataclass(frozen=True)
class WhiteLevel(Change):
    """Stretch 16 bit pictures so that they reach 65535 where they reached `level`."""

    level: int

    def __call__(self, picture: Picture) -> Picture:
        """Return the stretched picture; one of 8 bit stays as it is."""
        if picture.dtype != np.uint16:
            return picture
        stretched: Picture = np.rint(np.minimum(picture * (65535 / self.level), 65535)).astype(
            np.uint16
        )
        return stretched


def filling_their_depth(parts: Sequence[Part], white_level: int | None) -> list[Part]:
    """Return parts to learn from whose 16 bit pictures fill their depth.

    Detectors read pictures by their bit depth, while an inspection knows the white level.
    """
    if white_level is None:
        return list(parts)
    change = WhiteLevel(white_level)

    def stretched(part: Part) -> Part:
        reference = part.reference
        if reference is not None:
            reference = Changed(Part(source=reference, name=part.name), change)
        return replace(part.changed(change), reference=reference)

    return [stretched(part) for part in parts]
