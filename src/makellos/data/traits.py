"""What a picture is like as a whole: light, focus, size, where the part lies; and what stands out.

These are the differences that come from taking a picture and not from the part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture

__all__ = ["Standout", "Traits", "outline_of", "stand_outs", "traits_of"]

_SIDE = 256  # pixels of the longer side at which a picture is looked at
_FEW = 10  # pictures, below which none stands out
_ROBUST = 1.4826  # from the median absolute deviation to a standard deviation
_MOST_BORDER = 0.9  # of the border is background, where there is one
_SHARES = (0.02, 0.8)  # of the picture that a part covers which stands before a background


@dataclass(frozen=True)
class Traits:
    """Hold what a picture is like; `thumbnail` is a small gray copy 24×24, of mean 0 and length 1.

    `brightness` and `contrast` are in shares of white, `focus` is a logarithm, `area` the share of
    the picture that the part covers, `x` and `y` its middle; these are None without a background.
    """

    size: tuple[int, int]
    brightness: float
    contrast: float
    focus: float
    area: float | None
    x: float | None
    y: float | None
    thumbnail: NDArray[np.float32]


class Standout(NamedTuple):
    """Say of a picture by how many usual spreads it lies off, and in what words."""

    spreads: float
    reason: str


def traits_of(picture: Picture) -> Traits:
    """Return the traits of a picture H×W or H×W×3, uint8 or uint16."""
    gray = _gray(picture)
    height, width = gray.shape
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    contrast = float(small.std())
    # Fine detail of the picture as it is, relative to its coarse detail: blur takes the fine alone.
    fine = float(cv2.Laplacian(gray, cv2.CV_32F).std())
    coarse = float(cv2.Laplacian(small, cv2.CV_32F).std())
    outline = outline_of(picture)
    area = x = y = None
    if outline is not None:
        rows, columns = np.nonzero(outline)
        area = float(outline.mean())
        x, y = (float(v.mean()) / n for v, n in ((columns, width), (rows, height)))
    thumb = cv2.resize(small, (24, 24), interpolation=cv2.INTER_AREA)
    thumb = thumb - thumb.mean()
    thumb = thumb / max(float(np.linalg.norm(thumb)), 1e-6)
    focus = float(np.log((fine + 1e-4) / (coarse + 1e-4)))
    return Traits((height, width), float(small.mean()), contrast, focus, area, x, y, thumb)


def outline_of(picture: Picture) -> NDArray[np.bool_] | None:
    """Return where the part is, H×W, by brightness; None where no background runs round it."""
    gray = _gray(picture)
    height, width = gray.shape
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    level = cv2.GaussianBlur((small * 255).astype(np.uint8), (5, 5), 0)
    _, bright = cv2.threshold(level, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    side = float(border.mean()) > 0.5
    part = (bright == (0 if side else 1)).astype(np.uint8)
    share = float((border == int(side)).mean())
    part = cv2.morphologyEx(part, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    if share < _MOST_BORDER or not part.any():
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    found = (labels == largest).astype(np.uint8)
    if not _SHARES[0] <= float(found.mean()) <= _SHARES[1]:
        return None
    whole: NDArray[np.bool_] = (
        cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    )
    return whole


def stand_outs(traits: Sequence[Traits]) -> list[Standout | None]:
    """Return how far each picture lies off the others where that is farthest, None for few."""
    if len(traits) < _FEW:
        return [None] * len(traits)
    found = [Standout(0.0, "")] * len(traits)
    for values, least, low, high in _scales(traits):
        known = np.array([np.nan if value is None else value for value in values])
        middle = np.nanmedian(known) if not np.isnan(known).all() else 0.0
        spread = max(_ROBUST * float(np.nanmedian(np.abs(known - middle))), least)
        for i, off in enumerate((known - middle) / spread):
            if np.isfinite(off) and abs(off) > found[i].spreads:
                found[i] = Standout(float(abs(off)), low if off < 0 else high)
    return list(found)


def _scales(
    traits: Sequence[Traits],
) -> list[tuple[list[float | None], float, str, str]]:
    """Return the values of each trait, its least spread, and what to say below and above."""
    moved = "the part lies in another place than usual"
    return [
        ([each.brightness for each in traits], 0.01, "darker than usual", "brighter than usual"),
        (
            [each.contrast for each in traits],
            0.005,
            "less contrast than usual",
            "more contrast than usual",
        ),
        ([each.focus for each in traits], 0.05, "blurred", "sharper or noisier than usual"),
        (
            [float(np.log(each.size[0] * each.size[1])) for each in traits],
            0.05,
            "a smaller picture than usual",
            "a larger picture than usual",
        ),
        (
            [None if each.area is None else float(np.log(each.area)) for each in traits],
            0.05,
            "the part is smaller than usual",
            "the part is larger than usual",
        ),
        ([each.x for each in traits], 0.02, moved, moved),
        ([each.y for each in traits], 0.02, moved, moved),
    ]


def _gray(picture: Picture) -> NDArray[np.float32]:
    white = 65535.0 if picture.dtype == np.uint16 else 255.0
    gray = picture if picture.ndim == 2 else picture.mean(2, dtype=np.float32)
    found: NDArray[np.float32] = gray.astype(np.float32) / np.float32(white)
    return found
