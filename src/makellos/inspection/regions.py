"""Outlined damage: the connected regions of an anomaly map above its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Region", "find_regions", "resize_map"]


@dataclass(frozen=True)
class Region:
    """Place one region of damage: its box and area in pixels of the original picture, its peak."""

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
    above: NDArray[np.bool_] = resize_map(anomaly_map, height, width) > threshold
    if not above.any() and (anomaly_map > threshold).any():
        cells = (anomaly_map > threshold).astype(np.uint8)
        above = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return above


def find_regions(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> list[Region]:
    """Return the regions above `threshold` in a picture of `height` × `width`, highest peak first."""
    if not (anomaly_map > threshold).any():
        return []
    full = resize_map(anomaly_map, height, width)
    mask = damage_mask(anomaly_map, height, width, threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    regions = []
    for i in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[i])
        window = (slice(y, y + h), slice(x, x + w))
        peak = float(full[window][labels[window] == i].max())
        regions.append(Region(x=x, y=y, width=w, height=h, area=area, peak=peak))
    return sorted(regions, key=lambda region: -region.peak)
