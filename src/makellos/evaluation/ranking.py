"""How well scores rank defective parts above good ones, before any threshold.

Every figure is read off the same counts: with the scores sorted from most to least anomalous,
how many defective (`hits`) and how many good parts (`alarms`) lie at or above each distinct
score. Parts with equal scores enter together, so ties never depend on the order of the input.
Counts may carry leading axes and weights, which is how `intervals` evaluates all resamples of a
bootstrap at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.evaluation._checks import check_defective, check_scores

__all__ = [
    "BestAccuracy",
    "F1Max",
    "PrecisionRecallCurve",
    "RocCurve",
    "auroc",
    "average_precision",
    "best_accuracy",
    "f1_max",
    "precision_recall_curve",
    "roc_curve",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class F1Max:
    """Hold the best F1 and its threshold: parts with `score >= threshold` count as defective."""

    value: float
    threshold: float


@dataclass(frozen=True)
class BestAccuracy:
    """Hold the best accuracy and its threshold, infinite where to reject no part is best.

    Parts with `score >= threshold` count as defective.
    """

    value: float
    threshold: float


@dataclass(frozen=True)
class RocCurve:
    """Hold a ROC curve, float64, n + 1 points from (0, 0) to (1, 1).

    `thresholds` fall from infinity; a point counts parts with `score >= threshold`.
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Hold a precision-recall curve, float64, one point per distinct score.

    `thresholds` fall and `recall` rises to 1; a point counts parts with `score >= threshold`.
    """

    precision: Floats
    recall: Floats
    thresholds: Floats


@dataclass(frozen=True)
class RankedParts:
    """Hold parts from most to least anomalous, and where runs of equal scores start."""

    order: NDArray[np.intp]
    run_starts: NDArray[np.intp]
    thresholds: Floats
    defective: NDArray[np.bool_]

    def counts(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """Return hits and alarms, (..., n distinct scores), for part weights (..., n parts).

        Without weights every part counts once.
        """
        ordered = np.ones(self.order.size) if weights is None else weights[..., self.order]
        is_defective = self.defective[self.order]
        hits = np.add.reduceat(ordered * is_defective, self.run_starts, axis=-1)
        alarms = np.add.reduceat(ordered * ~is_defective, self.run_starts, axis=-1)
        return np.cumsum(hits, axis=-1), np.cumsum(alarms, axis=-1)


def rank_parts(scores: ArrayLike, defective: ArrayLike) -> RankedParts | None:
    """Rank parts by score; None where a class is missing, since then nothing can be compared."""
    values = check_scores(scores)
    positive = check_defective(defective, values.size)
    if not positive.any() or positive.all():
        return None
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    run_starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return RankedParts(order, run_starts, ordered[run_starts], positive)


def auroc(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Return the area under the ROC curve, in [0, 1]; a tie counts one half.

    `scores` is (n,), higher is more anomalous; `defective` is (n,) of bool or 0 and 1. None where
    a class is missing. Raises InputError for scores that are not finite or lengths that differ.

    >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    0.875
    """
    ranked = rank_parts(scores, defective)
    return None if ranked is None else float(auroc_from_counts(*ranked.counts()))


def average_precision(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Return the average precision, in [0, 1]: precision summed over the steps of recall.

    The step-wise sum, without interpolation. Arguments, None and errors are those of `auroc`.

    >>> average_precision([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    0.8333333333333333
    """
    ranked = rank_parts(scores, defective)
    return None if ranked is None else float(average_precision_from_counts(*ranked.counts()))


def f1_max(scores: ArrayLike, defective: ArrayLike) -> F1Max | None:
    """Return the highest F1 over all thresholds, and the highest threshold that reaches it.

    Arguments, None and errors are those of `auroc`. The threshold is chosen with the labels, so
    it describes the ranking; it promises nothing about new parts.

    >>> f1_max([0.1, 0.2, 0.8], [False, False, True])
    F1Max(value=1.0, threshold=0.8)
    """
    ranked = rank_parts(scores, defective)
    if ranked is None:
        return None
    values = f1_from_counts(*ranked.counts())
    best = int(np.argmax(values))
    return F1Max(float(values[best]), float(ranked.thresholds[best]))


def best_accuracy(scores: ArrayLike, defective: ArrayLike) -> BestAccuracy | None:
    """Return the highest accuracy over all thresholds, and the highest threshold that reaches it.

    Arguments, None and errors are those of `auroc`. It is optimistic: the threshold is chosen on
    the parts that it is measured on, knowing which are defective.

    >>> best_accuracy([0.1, 0.2, 0.2, 0.8], [False, False, True, True])
    BestAccuracy(value=0.75, threshold=0.8)
    """
    ranked = rank_parts(scores, defective)
    if ranked is None:
        return None
    # To reject no part at all is a threshold, too: it lies above every score.
    hits, alarms = (np.concatenate(([0.0], count)) for count in ranked.counts())
    n_right = hits + alarms[-1] - alarms
    best = int(np.argmax(n_right))
    threshold = np.inf if best == 0 else ranked.thresholds[best - 1]
    return BestAccuracy(float(n_right[best] / ranked.order.size), float(threshold))


def roc_curve(scores: ArrayLike, defective: ArrayLike) -> RocCurve | None:
    """Return the ROC curve with every distinct score as a threshold.

    Arguments, None and errors are those of `auroc`.
    """
    ranked = rank_parts(scores, defective)
    if ranked is None:
        return None
    hits, alarms = ranked.counts()
    return RocCurve(
        false_positive_rate=np.concatenate(([0.0], alarms / alarms[-1])),
        true_positive_rate=np.concatenate(([0.0], hits / hits[-1])),
        thresholds=np.concatenate(([np.inf], ranked.thresholds)),
    )


def precision_recall_curve(scores: ArrayLike, defective: ArrayLike) -> PrecisionRecallCurve | None:
    """Return precision and recall with every distinct score as a threshold.

    Arguments, None and errors are those of `auroc`.
    """
    ranked = rank_parts(scores, defective)
    if ranked is None:
        return None
    hits, alarms = ranked.counts()
    return PrecisionRecallCurve(hits / (hits + alarms), hits / hits[-1], ranked.thresholds)


def auroc_from_counts(hits: Floats, alarms: Floats) -> Floats:
    """Return the trapezoidal area under the curve of hits over alarms; NaN without a class."""
    rectangle = alarms[..., -1] * hits[..., -1]
    area = np.sum(_steps(alarms) * (hits - _steps(hits) / 2), axis=-1)
    return ratio(area, rectangle)


def average_precision_from_counts(hits: Floats, alarms: Floats) -> Floats:
    """Return the step-wise average precision; NaN without a class."""
    precision = hits / np.maximum(hits + alarms, np.finfo(np.float64).tiny)
    area = np.sum(_steps(hits) * precision, axis=-1)
    both = (alarms[..., -1] > 0) & (hits[..., -1] > 0)
    return ratio(area, np.where(both, hits[..., -1], 0.0))


def f1_from_counts(hits: Floats, alarms: Floats) -> Floats:
    """Return F1 at every threshold, the shape of `hits`; NaN without a class."""
    both = (alarms[..., -1:] > 0) & (hits[..., -1:] > 0)
    return ratio(2.0 * hits, np.where(both, hits + alarms + hits[..., -1:], 0.0))


def _steps(cumulative: Floats) -> Floats:
    return np.diff(cumulative, axis=-1, prepend=0.0)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where the denominator is 0."""
    quotient = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
