"""The silhouette of one part on a plain ground, and how it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.inspection.background import part_in

__all__ = ["Silhouette", "find_silhouette"]

_RING = 1 / 16  # of the shorter side: the ground is seen along the border
_ROUNDS, _CLEAR, _NOISES = 4, 3.0, 5.0  # deviations that leave the ground; that are no noise
_EVERY = 3  # of the pixels along the border
_LEAST_CONTRAST = 0.04
_LEAST_AREA, _MOST_AREA = 0.005, 0.8  # shares of the picture
_MOST_BORDER = 0.15  # share of the picture's border that a part may reach

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Silhouette:
    """Hold the mask h×w of a part, and how it lies.

    `x` and `y` are the middle of its extents along and across its longer axis, in pixels, and
    `degrees` in [0, 180) the direction of that axis from the x axis towards the y axis;
    `elongation` says how many times it is as long as wide. `length` and `width` are its extents
    along and across, in pixels, but for the outermost two of a thousand on each side.
    """

    mask: Mask
    x: float
    y: float
    degrees: float
    elongation: float
    length: float
    width: float


def find_silhouette(picture: Floats) -> Silhouette | None:
    """Return the silhouette of the part on a picture h×w×C in [0, 1]; None where there is none.

    The ground is a surface of second order laid through the border; the part is what stands out
    from it in any channel. There is none where that is next to nothing or nearly all, or reaches
    far along the border, as on textures and close-ups.
    """
    apart, noise = _apart_from_ground(picture)
    bright = np.clip(apart / max(float(apart.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(bright, 0, 255, cv2.THRESH_OTSU)
    threshold = max(_NOISES * noise, _LEAST_CONTRAST, level / 255 * float(apart.max()) * 0.7)
    found = (apart > threshold).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    for step in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN):
        found = cv2.morphologyEx(found, step, kernel).astype(np.uint8)
    mask = part_in(found > 0)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if not _LEAST_AREA <= mask.mean() <= _MOST_AREA or border.mean() > _MOST_BORDER:
        return None
    return _lying(mask)


def _apart_from_ground(picture: Floats) -> tuple[Floats, float]:
    """Return how far pixels h×w are from the ground, and how much the ground itself varies."""
    terms, plane, border = _terms(*picture.shape[:2])
    apart = np.zeros(picture.shape[:2], np.float32)
    noise = 0.0
    for channel in _planes(picture):
        beside = channel.ravel()[border].astype(np.float64)
        clear = np.abs(beside - np.median(beside)) <= _CLEAR * _spread(beside - np.median(beside))
        for _ in range(_ROUNDS):
            # By the normal equations: few terms of a like size, and many pixels.
            seen = plane[clear]
            surface = np.linalg.lstsq(seen.T @ seen, seen.T @ beside[clear], rcond=None)[0]
            left = beside - plane @ surface
            clear = np.abs(left) <= _CLEAR * _spread(left[clear])
        noise = max(noise, _spread(left[clear]))
        ground = (terms @ surface.astype(np.float32)).reshape(apart.shape)
        apart = np.maximum(apart, cv2.absdiff(channel, ground))
    return cv2.GaussianBlur(apart, (0, 0), 0.8), noise


def _planes(picture: Floats) -> list[Floats]:
    """Return the channels h×w of a picture, one where all are the same."""
    planes = [np.asarray(each, np.float32) for each in cv2.split(picture)]
    return planes[:1] if all(np.array_equal(planes[0], each) for each in planes[1:]) else planes


@lru_cache(maxsize=4)
def _terms(height: int, width: int) -> tuple[Floats, NDArray[np.float64], NDArray[np.intp]]:
    """Return the terms h·w×6 of a surface of second order, those of border pixels, and which."""
    rows, columns = np.mgrid[:height, :width]
    y, x = (rows / height * 2 - 1).ravel(), (columns / width * 2 - 1).ravel()
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    ring = max(2, round(_RING * min(height, width)))
    along = np.ones((height, width), bool)
    along[ring:-ring, ring:-ring] = False
    border = np.flatnonzero(along)[::_EVERY]
    return terms.astype(np.float32), terms[border], border


def _spread(values: NDArray[np.floating]) -> float:
    return max(1.4826 * float(np.median(np.abs(values))), 1e-4)


def _lying(mask: Mask) -> Silhouette:
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    area = moments["m00"]
    across, along, both = (moments[key] / area for key in ("mu20", "mu02", "mu11"))
    middle, apart = (across + along) / 2, math.hypot((across - along) / 2, both)
    turn = 0.5 * math.atan2(2 * both, across - along)
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    rows, columns = np.nonzero(mask)
    low, high = np.quantile(axes @ np.stack([columns, rows]), (0.002, 0.998), axis=1)
    (x, y), (length, width) = axes.T @ ((low + high) / 2), high - low + 1
    elongation = math.sqrt((middle + apart) / max(middle - apart, 1e-6))
    place = float(x), float(y), math.degrees(turn) % 180
    return Silhouette(mask, *place, elongation, float(length), float(width))
