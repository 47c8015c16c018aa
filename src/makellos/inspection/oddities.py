"""What is odd about a part, in words: where its map is highest, and what lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture

__all__ = ["Oddity", "oddity"]

_THIN = 4.0  # perimeter squared over that of a disc of the same area: from here on it is a fibre
_CLEAR = 5.0  # robust spreads of the surroundings by which what lies there differs from them
_LEAST = 6  # pixels of something that can be seen


class Box(NamedTuple):
    """Place a box in pixels of the picture."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Oddity:
    """Say where a part is oddest: the box, what lies there and where that is.

    `what` is ``fibre``, ``speck`` or empty where it cannot be told; `where` is ``at the border``,
    ``beside the part``, ``on the part``, or empty where there is no background.
    """

    box: Box
    what: str
    where: str

    @property
    def words(self) -> str:
        """Return a phrase such as ``fibre beside the part``."""
        what = self.what or "unusual place"
        return f"{what} {self.where}".strip()


def oddity(
    anomaly_map: NDArray[np.float32], picture: Picture, outline: NDArray[np.bool_] | None
) -> Oddity:
    """Return what is odd where a map h×w of a picture H×W or H×W×3 is highest.

    `outline` H×W is where the part is, None where no background is known.
    """
    height, width = picture.shape[:2]
    rows, columns = anomaly_map.shape
    row, column = divmod(int(anomaly_map.argmax()), columns)
    box = _scaled(_around(anomaly_map, row, column), height / rows, width / columns)
    y, x = (int((i + 0.5) * s) for i, s in ((row, height / rows), (column, width / columns)))
    near = max(1, round(max(height / rows, width / columns)))
    what = ""
    if outline is None:
        where = "at the border" if _at_border(row, column, rows, columns) else ""
    elif outline[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1].any():
        where = "on the part"
    else:
        where = "at the border" if _at_border(row, column, rows, columns) else "beside the part"
        what = _seen(picture, outline, box, near)
    return Oddity(box, what, where)


def _at_border(row: int, column: int, rows: int, columns: int) -> bool:
    return row < 1 or column < 1 or row >= rows - 1 or column >= columns - 1


def _around(anomaly_map: NDArray[np.float32], row: int, column: int) -> Box:
    """Return the cells around the highest one that lie above halfway from the median to it."""
    peak = float(anomaly_map[row, column])
    above = anomaly_map > (float(np.median(anomaly_map)) + peak) / 2
    above[row, column] = True
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8))
    x, y, w, h = (int(value) for value in stats[labels[row, column]][:4])
    return Box(x, y, w, h)


def _scaled(cells: Box, down: float, across: float) -> Box:
    x, y = int(cells.x * across), int(cells.y * down)
    return Box(x, y, max(1, round(cells.width * across)), max(1, round(cells.height * down)))


def _seen(picture: Picture, outline: NDArray[np.bool_], box: Box, near: int) -> str:
    """Return what lies in a box beside the part, by its shape: a fibre is long and thin."""
    top, left = max(0, box.y - near), max(0, box.x - near)
    window = (slice(top, box.y + box.height + near), slice(left, box.x + box.width + near))
    gray = picture if picture.ndim == 2 else picture.mean(2, dtype=np.float32)
    values = gray[window].astype(np.float32)
    grown = cv2.dilate(outline[window].astype(np.uint8), np.ones((near | 1, near | 1), np.uint8))
    free = grown == 0
    if not free.any():
        return ""
    smooth = cv2.GaussianBlur(values, (0, 0), max(2.0, near / 2))
    off = np.abs(values - smooth)
    usual = float(np.median(off[free])) / 0.6745 + 1e-6
    marks = ((off > _CLEAR * usual) & free).astype(np.uint8)
    marks = cv2.morphologyEx(marks, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    shapes, _ = cv2.findContours(marks, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not shapes:
        return ""
    largest = max(shapes, key=cv2.contourArea)
    area, around = cv2.contourArea(largest), cv2.arcLength(largest, closed=True)
    if around < _LEAST:
        return ""
    return "fibre" if around**2 > _THIN * 4 * np.pi * max(area, 1.0) else "speck"
