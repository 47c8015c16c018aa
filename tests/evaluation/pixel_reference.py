"""Pixel metrics by definition: every pixel sorted, every region by itself."""

from __future__ import annotations

import numpy as np


def regions_of(mask):
    """Return the 8-connected regions of a mask as lists of (row, column), by flood fill."""
    waiting = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while waiting:
        region, border = [], [waiting.pop()]
        while border:
            y, x = border.pop()
            region.append((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & waiting
            waiting -= around
            border.extend(around)
        regions.append(region)
    return regions


def exact_aupro(maps, masks, fpr_limit=0.3):
    """Return AUPRO from a curve with one point per distinct score."""
    masks = [np.zeros(m.shape) if k is None else k for m, k in zip(maps, masks, strict=True)]
    good = [m[k == 0] for m, k in zip(maps, masks, strict=True)]
    regions = [
        np.array([anomaly_map[pixel] for pixel in region])
        for anomaly_map, mask in zip(maps, masks, strict=True)
        for region in regions_of(mask)
    ]
    return aupro_of_regions(np.concatenate(good), regions, fpr_limit)


def aupro_of_regions(good, regions, fpr_limit=0.3):
    """Return AUPRO from the scores of good pixels and of each region."""
    thresholds = np.unique(np.concatenate([good, *regions]))[::-1]
    rate = np.concatenate(([0.0], share_at_least(good, thresholds)))
    overlap = np.mean([share_at_least(region, thresholds) for region in regions], axis=0)
    overlap = np.concatenate(([0.0], overlap))
    at_limit = interpolate(fpr_limit, rate, overlap)
    inside = rate <= fpr_limit
    x, y = np.append(rate[inside], fpr_limit), np.append(overlap[inside], at_limit)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) / fpr_limit


def share_at_least(values, thresholds):
    """Return the share of values that are at least each threshold."""
    ordered = np.sort(values)
    return 1.0 - np.searchsorted(ordered, thresholds, side="left") / ordered.size


def interpolate(at, x, y):
    """Return the curve's value, its upper end where it rises vertically."""
    after = int(np.searchsorted(x, at, side="right"))
    if after == x.size:
        return y[-1]
    span = x[after] - x[after - 1]
    return y[after - 1] + (y[after] - y[after - 1]) * (at - x[after - 1]) / span


def exact_f1_max(scores, damaged):
    """Return the best F1 by trying every score as the threshold."""
    return max(exact_f1(scores, damaged, cut, inclusive=True) for cut in np.unique(scores))


def exact_f1(scores, damaged, threshold, *, inclusive=False):
    """Return the F1 of the pixels above a threshold, or at it as well."""
    marked = scores >= threshold if inclusive else scores > threshold
    hits = int(np.sum(marked & damaged))
    return 2 * hits / (int(marked.sum()) + int(damaged.sum()))
