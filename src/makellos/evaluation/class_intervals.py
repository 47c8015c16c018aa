"""95 % bootstrap intervals of a classifier's figures, drawn as `intervals` draws parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.evaluation.classes import (
    N_BINS,
    ClassedParts,
    balanced_accuracy_of,
    class_counts,
    classed_parts,
    ece_of,
    macro_f1_of,
    verdict_figures,
)
from makellos.evaluation.intervals import (
    LEVEL,
    Interval,
    Resampling,
    exact_interval,
    percentile_interval,
    unit_of_part,
)
from makellos.evaluation.ranking import ratio

__all__ = ["ClassIntervals", "class_intervals"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassIntervals:
    """Hold 95 % intervals (low, high) in [0, 1] of figures of `ClassFigures`; None where undefined.

    The names are those of the figures.
    """

    accuracy_of_classes: Interval | None
    balanced_accuracy_of_classes: Interval | None
    macro_f1: Interval | None
    ece: Interval | None
    balanced_accuracy: Interval | None
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None


def class_intervals(
    probabilities: ArrayLike,
    truth: Sequence[str],
    classes: Sequence[str],
    rejected: ArrayLike,
    resampling: Resampling,
) -> ClassIntervals:
    """Return 95 % intervals of a classifier's figures by the stratified bootstrap.

    The first four arguments and their errors are those of `class_figures`; the strata are
    those of `image_intervals`. Intervals are percentiles, with two exceptions. Precision and recall
    of exactly 0 or 1 have no spread to resample: there the open end is the exact binomial bound
    (Clopper and Pearson 1934), with as many trials as parts or groups, and a balanced accuracy of
    0 or 1 takes the mean of its two rates' bounds. The
    calibration error is a sum of absolute values, which chance makes larger in the test set than
    it is and larger again in a resample of it: its interval is the basic one, percentiles mirrored
    at the figure (Davison and Hinkley 1997, section 5.2), widened to hold the figure, and to start
    at 0 where a perfectly calibrated classifier could well have shown as much.
    """
    parts = classed_parts(probabilities, truth, classes, rejected)
    once = np.ones((1, parts.truth.size))
    row_size = max(parts.truth.size, len(parts.classes) ** 2, N_BINS)
    blocks = resampling.blocks(parts.defective, row_size)
    columns = np.concatenate([_figures(parts, weights) for weights in blocks], axis=1)
    found = _figures(parts, once)[:, 0]
    intervals = [percentile_interval(column) for column in columns]
    right, bad = parts.rejected == parts.defective, parts.defective
    units = unit_of_part(right.size, resampling.groups)
    recall, sparing, precision = (
        exact_interval(right[among], units[among]) for among in (bad, ~bad, parts.rejected)
    )
    balanced = None if recall is None or sparing is None else _mean(recall, sparing)
    return ClassIntervals(
        accuracy_of_classes=intervals[0],
        balanced_accuracy_of_classes=intervals[1],
        macro_f1=intervals[2],
        ece=_ece_interval(columns[3], found[3], parts, resampling.rng),
        balanced_accuracy=_open_ended(intervals[4], found[4], balanced),
        precision=_open_ended(intervals[5], found[5], precision),
        recall=_open_ended(intervals[6], found[6], recall),
        f1=intervals[7],
    )


def _figures(parts: ClassedParts, weights: Floats) -> Floats:
    """Return (8, r): the figures of `ClassIntervals` for weights (r, n)."""
    counts = parts.matrix(weights)
    hits, of_class, _ = class_counts(counts)
    return np.concatenate(
        [
            [
                ratio(hits.sum(axis=-1), of_class.sum(axis=-1)),
                balanced_accuracy_of(counts),
                macro_f1_of(counts),
                ece_of(*parts.bins(weights)),
            ],
            verdict_figures(weights, parts.rejected, parts.defective),
        ]
    )


def _ece_interval(
    resampled: Floats, figure: float, parts: ClassedParts, rng: np.random.Generator
) -> Interval | None:
    interval = percentile_interval(2.0 * figure - resampled)
    if interval is None or np.isnan(figure):
        return None
    counts, confidence, _ = parts.bins(np.ones((1, parts.truth.size)))
    chances = np.minimum(ratio(confidence, np.maximum(counts, 1.0)), 1.0)
    rights = rng.binomial(counts.astype(np.intp), chances, size=(resampled.size, N_BINS))
    calibrated = ece_of(counts, confidence, rights.astype(np.float64))
    excluded = figure > np.quantile(calibrated, (1.0 + LEVEL) / 2)
    return (min(interval[0], figure) if excluded else 0.0), max(interval[1], figure)


def _open_ended(
    interval: Interval | None, figure: float, bounds: Interval | None
) -> Interval | None:
    """Return the interval, or the exact bounds where every part or none was judged rightly."""
    if interval is None or np.isnan(figure):
        return None
    return bounds if bounds is not None and figure in {0.0, 1.0} else interval


def _mean(first: Interval, second: Interval) -> Interval:
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
