"""Outlined damage: the connected regions of an anomaly map above its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Region", "damage_mask", "find_regions", "resize_map"]


@dataclass(frozen=True)
class Region:
    """Place one region of damage: its box and area in pixels of the original picture, its peak.

    `peak` is the highest value of the map in it, above the threshold it was found with.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    peak: float


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
    full = _enlarge(anomaly_map, height, width, threshold)
    mask = _above(full, threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    regions = []
    for i in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[i])
        window = (slice(y, y + h), slice(x, x + w))
        peak = float(full[window][labels[window] == i].max())
        regions.append(Region(x=x, y=y, width=w, height=h, area=area, peak=peak))
    return sorted(regions, key=lambda region: -region.peak)


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
    np.minimum(full, anomaly_map.max(), out=full)  # interpolation rounds up at times
    rows, columns = np.nonzero(_above(anomaly_map, threshold))
    if not rows.size:
        return full
    top, bottom = _span(rows, anomaly_map.shape[0], height)
    left, right = _span(columns, anomaly_map.shape[1], width)
    values = anomaly_map[rows, columns]
    sums = cv2.integral(_above(full, threshold).astype(np.uint8))
    n_above = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    for i in np.flatnonzero(n_above == 0):
        square = full[top[i] : bottom[i], left[i] : right[i]]
        np.maximum(square, values[i], out=square)
    np.maximum.at(full, ((top + bottom) // 2, (left + right) // 2), values)
    return full


def _span(
    cells: NDArray[np.intp], n_cells: int, n_pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first pixel of each cell along one axis, and the one after its last."""
    return cells * n_pixels // n_cells, -(-(cells + 1) * n_pixels // n_cells)
