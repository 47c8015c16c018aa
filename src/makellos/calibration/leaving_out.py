"""What calibration parts cost: the threshold as it would be without them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from makellos.calibration.conformal import Calibration

__all__ = ["calibration_without", "setters", "thresholds_without"]


def calibration_without(calibration: Calibration, left_out: Collection[int]) -> Calibration:
    """Return the calibration without some parts, by their positions; one part at least must stay.

    It promises its budget for parts like those kept, not for parts like those left out.
    """
    kept = [i for i in range(calibration.scores.size) if i not in left_out]
    groups, weights = calibration.groups, calibration.weights
    return replace(
        calibration,
        scores=calibration.scores[kept],
        groups=None if groups is None else [groups[i] for i in kept],
        weights=None if weights is None else weights[kept],
    )


def thresholds_without(calibration: Calibration) -> list[float]:
    """Return for each part the threshold at the same budget without it."""
    n = calibration.scores.size
    if n < 2:
        return [calibration.threshold] * n
    if calibration.groups is not None or calibration.weights is not None:
        return [calibration_without(calibration, {i}).threshold for i in range(n)]
    # Without groups the threshold depends on a part's rank alone, so equal sides share it.
    found: dict[int, float] = {}
    sides = np.sign(calibration.scores + calibration.tolerance - calibration.threshold)
    for i, side in enumerate(sides.astype(int).tolist()):
        if side not in found:
            found[side] = calibration_without(calibration, {i}).threshold
    return [found[int(side)] for side in sides]


def setters(calibration: Calibration) -> list[int]:
    """Return the positions of the parts that set the threshold: it and all above, highest first."""
    reached = calibration.scores + calibration.tolerance >= calibration.threshold
    order = np.argsort(-calibration.scores, kind="stable")
    return [int(i) for i in order if reached[i]]
