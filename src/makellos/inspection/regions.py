"""Outlined damage: the connected regions of an anomaly map above its threshold.

Maps of large pictures are enlarged stripe by stripe, and regions joined across stripes, so that no
map of the picture's own size is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Region", "damage_mask", "find_regions", "resize_map"]

_WHOLE = 1 << 24  # pixels of a picture whose map is enlarged at once
_STRIPE = 1 << 22  # pixels of a stripe of a larger one


@dataclass(frozen=True)
class Region:
    """Place one region of damage: its box and area in pixels of the original picture, its peak.

    `peak` is the highest value of the map in it, above the threshold it was found with. `zone` and
    `area_mm2` are None where the model has no zones and knows no size of a pixel.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float
    zone: str | None = None
    area_mm2: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the region as plain data, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def resize_map(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return an anomaly map h×w at the size of its picture, bilinear between cell centres."""
    if anomaly_map.shape == (height, width):
        return anomaly_map
    resized: NDArray[np.float32] = cv2.resize(
        np.ascontiguousarray(anomaly_map), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return resized


def damage_mask(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> NDArray[np.bool_]:
    """Return where the map, at the size of the picture, is above `threshold`.

    A cell above the threshold is never lost: where resizing flattened it below, the cell's own
    square is marked.
    """
    return _above(_enlarge(anomaly_map, height, width, threshold), threshold)


def find_regions(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> list[Region]:
    """Return the regions above `threshold` in a picture height × width, highest peak first."""
    if not _above(anomaly_map, threshold).any():
        return []
    joined = _JoinedRegions()
    for top, full in _stripes(anomaly_map, height, width, threshold):
        joined.add(top, full, _above(full, threshold).astype(np.uint8))
    return sorted(joined.regions(), key=lambda region: -region.peak)


class _JoinedRegions:
    """Collect the regions of stripes from top to bottom, and join those that touch."""

    def __init__(self) -> None:
        self._found: list[Region] = []
        self._parents: list[int] = []
        self._bottom = -1  # the row after the last stripe
        self._edge = np.zeros(0, np.intp)  # number of the region, from 1, along its last row

    def add(self, top: int, full: NDArray[np.float32], mask: NDArray[np.uint8]) -> None:
        """Take in the stripe that begins at row `top`."""
        count, labels, stats = _labelled(mask)
        before = len(self._found)
        for i in range(1, count):
            x, y, w, h, area = (int(value) for value in stats[i])
            window = (slice(y, y + h), slice(x, x + w))
            peak = float(full[window][labels[window] == i].max())
            self._found.append(Region(x=x, y=top + y, width=w, height=h, area=area, peak=peak))
            self._parents.append(before + i - 1)
        first, last = (
            np.where(labels[row] > 0, labels[row] + before, 0).astype(np.intp) for row in (0, -1)
        )
        if top == self._bottom:
            self._join(first)
        self._bottom, self._edge = top + len(full), last

    def regions(self) -> list[Region]:
        """Return the joined regions, in the order of their first rows."""
        joined: dict[int, Region] = {}
        for i, region in enumerate(self._found):
            root = self._root(i)
            joined[root] = _together(joined[root], region) if root in joined else region
        return list(joined.values())

    def _join(self, first: NDArray[np.intp]) -> None:
        above, below = np.pad(self._edge, 1), first
        for shift in range(3):  # diagonal neighbours touch as well
            pairs = np.stack([above[shift : shift + below.size], below])
            for one, other in np.unique(pairs[:, (pairs > 0).all(0)], axis=1).T.tolist():
                roots = sorted((self._root(one - 1), self._root(other - 1)))
                self._parents[roots[1]] = roots[0]

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i


def _labelled(
    mask: NDArray[np.uint8],
) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
    """Return how many pieces h×w has, with what lies outside, their labels and their figures.

    What lies outside of all of them is not looked at, which is most of a picture.
    """
    x, y, width, height = cv2.boundingRect(mask)
    labels = np.zeros(mask.shape, np.int32)
    if not width:
        return 1, labels, np.zeros((1, 5), np.int32)
    window = (slice(y, y + height), slice(x, x + width))
    count, labels[window], stats, _ = cv2.connectedComponentsWithStats(mask[window], connectivity=8)
    stats[:, cv2.CC_STAT_LEFT] += x
    stats[:, cv2.CC_STAT_TOP] += y
    return count, labels, np.asarray(stats, np.int32)


def _together(one: Region, other: Region) -> Region:
    x, y = min(one.x, other.x), min(one.y, other.y)
    return Region(
        x=x,
        y=y,
        width=max(one.x + one.width, other.x + other.width) - x,
        height=max(one.y + one.height, other.y + other.height) - y,
        area=one.area + other.area,
        peak=max(one.peak, other.peak),
    )


def _above(values: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    # An array, for NumPy rounds a scalar to float32, and a verdict compares in float64.
    above: NDArray[np.bool_] = values > np.array([[threshold]], np.float64)
    return above


def _enlarge(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> NDArray[np.float32]:
    """Return the map at the size of its picture; cells above the threshold stay above it.

    Between cell centres interpolation flattens a lone peak: its centre gets the cell's value, and
    its whole square where nothing of it was left above the threshold.
    """
    full = resize_map(anomaly_map, height, width)
    if anomaly_map.shape == (height, width):
        return full
    _keep_peaks(full, 0, anomaly_map, height, threshold, range(anomaly_map.shape[0]))
    return full


def _stripes(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield first row and values of stripes of the enlarged map; those without a peak are left out.

    The stripes of a small picture are one.
    """
    h = anomaly_map.shape[0]
    if height * width <= _WHOLE or height < h:
        yield 0, _enlarge(anomaly_map, height, width, threshold)
        return
    n_cells = max(1, _STRIPE * h // (width * height))
    above = np.atleast_1d(_above(anomaly_map, threshold).any(1))
    for start in range(0, h, n_cells):
        end = min(h, start + n_cells)
        # A cell reaches into the rows of its neighbours, so these are enlarged as well.
        cells = range(max(0, start - 1), min(h, end + 1))
        if above[cells.start : cells.stop].any():
            top, bottom = cells.start * height // h, -(-cells.stop * height // h)
            full = _enlarge_rows(anomaly_map, height, width, top, bottom)
            _keep_peaks(full, top, anomaly_map, height, threshold, cells)
            first = start * height // h
            yield first, full[first - top : end * height // h - top]


def _enlarge_rows(
    anomaly_map: NDArray[np.float32], height: int, width: int, top: int, bottom: int
) -> NDArray[np.float32]:
    """Return the rows from `top` up to `bottom` of what `resize_map` returns."""
    h = anomaly_map.shape[0]
    places = np.clip((np.arange(top, bottom) + 0.5) * (h / height) - 0.5, 0, h - 1)
    upper = np.floor(places).astype(np.intp)
    lower = np.minimum(upper + 1, h - 1)
    share = (places - upper).astype(np.float32)[:, np.newaxis]
    first = int(upper[0])
    wide = resize_map(anomaly_map[first : int(lower[-1]) + 1], int(lower[-1]) + 1 - first, width)
    full: NDArray[np.float32] = wide[upper - first] * (1 - share)
    full += wide[lower - first] * share
    return full


def _keep_peaks(
    full: NDArray[np.float32],
    start: int,
    anomaly_map: NDArray[np.float32],
    height: int,
    threshold: float,
    cells: range,
) -> None:
    """Put cells above the threshold, of the rows `cells`, back above it in the enlarged map.

    `full` are the rows of the enlarged map of a picture of `height`, from row `start` on.
    """
    np.minimum(full, anomaly_map.max(), out=full)  # interpolation rounds up at times
    inside = anomaly_map[cells.start : cells.stop]
    rows, columns = np.nonzero(_above(inside, threshold))
    if not rows.size:
        return
    values = inside[rows, columns]
    top, bottom = (edge - start for edge in _span(rows + cells.start, anomaly_map.shape[0], height))
    left, right = _span(columns, anomaly_map.shape[1], full.shape[1])
    sums = cv2.integral(_above(full, threshold).astype(np.uint8))
    n_above = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    for i in np.flatnonzero(n_above == 0):
        square = full[top[i] : bottom[i], left[i] : right[i]]
        np.maximum(square, values[i], out=square)
    np.maximum.at(full, ((top + bottom) // 2, (left + right) // 2), values)


def _span(
    cells: NDArray[np.intp], n_cells: int, n_pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first pixel of each cell along one axis, and the one after its last."""
    return cells * n_pixels // n_cells, -(-(cells + 1) * n_pixels // n_cells)
