"""How well a classifier names classes, how far its probabilities hold, and what its verdicts give.

Two readings of one classifier stand side by side. The figures of the classes take the likeliest
class, whatever the threshold; the figures of the verdict take what was rejected at the calibrated
threshold, with defective as the positive class. A label that the classifier never learned is a
defect to the verdict, right when it is rejected; in the figures of the classes it can never be
right, so that it has a row of its own in the confusion matrix and counts nowhere else.

As in `ranking`, every figure is read off counts that may carry weights and a leading axis, which
is how `class_intervals` evaluates all resamples of a bootstrap at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation._checks import check_defective, check_labels, check_length
from makellos.evaluation.ranking import ratio

__all__ = ["ClassFigures", "OneClass", "ReliabilityBin", "class_figures", "class_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

GOOD, DEFECTIVE = "good", "defective"
UNKNOWN = -1
N_BINS = 15
EDGES = np.arange(1, N_BINS) / N_BINS  # inner ones; a bin holds its upper edge (Guo et al. 2017)
_ROUNDING = 1e-3  # of probabilities that should add up to 1


@dataclass(frozen=True)
class OneClass:
    """Hold the figures of one class in [0, 1], by the likeliest class of each part.

    `n` parts are of the class. `precision` is None where no part was named so, `recall` where no
    part is of the class, `f1` where neither is.
    """

    n: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ReliabilityBin:
    """Hold the parts whose confidence, the probability of the likeliest class, is in (low, high].

    `confidence` is their mean confidence and `accuracy` the share named correctly; None without
    parts.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ClassFigures:
    """Hold the figures of a classifier, in [0, 1]; None where the parts at hand define none.

    By the likeliest class, over the parts whose class is known to the classifier:
    `accuracy_of_classes`; `balanced_accuracy_of_classes` and `macro_f1`, means over the classes
    that were tested (or, for F1, named), None for parts of fewer than two classes; `per_class`.
    `confusion_matrix` counts parts, a row per name in `matrix_rows` (the classes, then a row
    ``unknown: NAME`` for each label in `unknown`, which maps it to its number of parts), a column
    per name in `classes`.

    `ece` is the expected calibration error in 15 bins of equal width over the confidence (Guo et
    al. 2017, arXiv 1706.04599), `ece_by_chance` what a perfectly calibrated classifier would be
    expected to show on as many parts with the same confidences, and `reliability` the bins.

    Of the verdict, over all parts, with defective as the positive class: `balanced_accuracy`,
    `precision`, `recall`, `f1`. Precision is None where nothing was rejected.
    """

    classes: list[str]
    accuracy_of_classes: float | None
    balanced_accuracy_of_classes: float | None
    macro_f1: float | None
    per_class: dict[str, OneClass]
    confusion_matrix: list[list[int]]
    matrix_rows: list[str]
    unknown: dict[str, int]
    ece: float | None
    ece_by_chance: float | None
    reliability: list[ReliabilityBin]
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None

    @property
    def note(self) -> str | None:
        """Say which labels the classifier does not know, or return None where it knows all."""
        if not self.unknown:
            return None
        n = sum(self.unknown.values())
        kinds = ", ".join(self.unknown)
        return (
            f"{n} {'part is' if n == 1 else 'parts are'} of a kind that the classifier has not "
            f"learned: {kinds}. Rejecting {'it' if n == 1 else 'them'} counts as right; macro F1, "
            "the accuracy of the classes and the calibration error leave such parts out. To have "
            "the kind named, fit again with examples of it."
        )


@dataclass(frozen=True)
class ClassedParts:
    """Hold n checked parts: their class and the likeliest class by index, and the verdict.

    `truth` is `UNKNOWN` where `labels` has a name that is no class.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.object_]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    confidence: Floats
    rejected: Bools
    defective: Bools

    @property
    def known(self) -> Bools:
        return np.asarray(self.truth != UNKNOWN)

    def matrix(self, weights: Floats) -> Floats:
        """Return counts (r, K, K), truth by prediction, for weights (r, n), unknown left out."""
        size = len(self.classes)
        cells = self.truth[self.known] * size + self.predicted[self.known]
        return totals(weights[:, self.known], cells, size * size).reshape(-1, size, size)

    def bins(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return counts, sums of confidence and right ones per bin, each (r, 15)."""
        known = self.known
        given = weights[:, known]
        index = np.searchsorted(EDGES, self.confidence[known], side="left")
        right = (self.predicted == self.truth)[known]
        weighted = (given, given * self.confidence[known], given * right)
        counts, confidence, rights = (totals(values, index, N_BINS) for values in weighted)
        return counts, confidence, rights


def class_figures(
    probabilities: ArrayLike, truth: Sequence[str], classes: Sequence[str], rejected: ArrayLike
) -> ClassFigures:
    """Return the figures of a classifier on labelled parts.

    `probabilities` (n, K) are in [0, 1] and add up to 1 per part, in the order of `classes`, which
    starts with ``good``; equal ones count for the later class. `truth` names the class of each
    part; where the classes are ``good`` and ``defective`` every other name is a defect's and means
    ``defective``. `rejected` (n,) is the verdict, bool or 0 and 1. Raises InputError for values or
    lengths that cannot be, ConfigurationError for classes that are not distinct names after
    ``good``.

    >>> found = class_figures([[0.9, 0.1], [0.3, 0.7]], ["good", "dent"], ["good", "dent"], [0, 1])
    >>> found.macro_f1, found.confusion_matrix, round(found.ece, 3)
    (1.0, [[1, 0], [0, 1]], 0.2)
    """
    parts = classed_parts(probabilities, truth, classes, rejected)
    once = np.ones((1, parts.truth.size))
    counts = parts.matrix(once)
    hits, of_class, named = class_counts(counts)
    precision, recall = ratio(hits, named)[0], ratio(hits, of_class)[0]
    f1 = ratio(2 * hits, of_class + named)[0]
    per_class = {
        name: OneClass(int(of_class[0, i]), _or_none(precision[i]), _or_none(recall[i]), found)
        for i, (name, found) in enumerate(zip(parts.classes, map(_or_none, f1), strict=True))
    }
    unknown = Counter(sorted(str(label) for label in parts.labels[~parts.known]))
    bins = parts.bins(once)
    verdict = verdict_figures(once, parts.rejected, parts.defective)
    return ClassFigures(
        classes=list(parts.classes),
        accuracy_of_classes=_or_none(ratio(hits.sum(axis=-1), of_class.sum(axis=-1))[0]),
        balanced_accuracy_of_classes=_or_none(balanced_accuracy_of(counts)[0]),
        macro_f1=_or_none(macro_f1_of(counts)[0]),
        per_class=per_class,
        confusion_matrix=[
            *counts[0].astype(int).tolist(),
            *(_row(parts, name) for name in unknown),
        ],
        matrix_rows=[*parts.classes, *(f"unknown: {name}" for name in unknown)],
        unknown=dict(unknown),
        ece=_or_none(ece_of(*bins)[0]),
        ece_by_chance=_ece_by_chance(bins[0][0], bins[1][0]),
        reliability=_reliability(bins[0][0], bins[1][0], bins[2][0]),
        balanced_accuracy=_or_none(verdict[0][0]),
        precision=_or_none(verdict[1][0]),
        recall=_or_none(verdict[2][0]),
        f1=_or_none(verdict[3][0]),
    )


def classed_parts(
    probabilities: ArrayLike, truth: Sequence[str], classes: Sequence[str], rejected: ArrayLike
) -> ClassedParts:
    """Check the arguments of `class_figures` and return the parts by class."""
    names = _check_classes(classes)
    shares = _check_probabilities(probabilities, len(names))
    labels = check_labels(truth)
    check_length("truth", (len(labels),), len(shares))
    defective = np.array([label != GOOD for label in labels], dtype=np.bool_)
    labels = [class_of(label, names) for label in labels]
    index_of = {name: index for index, name in enumerate(names)}
    return ClassedParts(
        classes=names,
        labels=np.array(labels, dtype=object),
        truth=np.array([index_of.get(label, UNKNOWN) for label in labels], dtype=np.intp),
        predicted=len(names) - 1 - np.argmax(shares[:, ::-1], axis=1),
        confidence=shares.max(axis=1),
        rejected=check_defective(rejected, len(shares), name="rejected"),
        defective=defective,
    )


def class_of(label: str, classes: Sequence[str]) -> str:
    """Return the class that a label means: ``defective`` for any defect where that is all.

    >>> class_of("dent", ["good", "defective"]), class_of("dent", ["good", "scratch"])
    ('defective', 'dent')
    """
    return DEFECTIVE if label != GOOD and tuple(classes) == (GOOD, DEFECTIVE) else label


def totals(weights: Floats, index: NDArray[np.intp], size: int) -> Floats:
    """Return (r, size): the sums of weights (r, n) over the parts with each index (n,)."""
    n_rows = len(weights)
    places = index + size * np.arange(n_rows)[:, np.newaxis]
    summed = np.bincount(places.ravel(), weights.ravel(), minlength=n_rows * size)
    # Without a single part, bincount counts in integers.
    return summed.astype(np.float64).reshape(n_rows, size)


def class_counts(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Return per class (r, K) how many were named correctly, are of it, and were named so."""
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def macro_f1_of(counts: Floats) -> Floats:
    """Return the mean F1 (r,) of matrices (r, K, K) over the classes tested or named."""
    hits, of_class, named = class_counts(counts)
    return _mean_of_classes(ratio(2 * hits, of_class + named), of_class)


def balanced_accuracy_of(counts: Floats) -> Floats:
    """Return the mean recall (r,) of matrices (r, K, K) over the classes tested."""
    hits, of_class, _ = class_counts(counts)
    return _mean_of_classes(ratio(hits, of_class), of_class)


def ece_of(counts: Floats, confidence: Floats, right: Floats) -> Floats:
    """Return the expected calibration error (r,) from sums per bin, each (r, 15)."""
    return ratio(np.abs(right - confidence).sum(axis=-1), counts.sum(axis=-1))


def verdict_figures(weights: Floats, rejected: Bools, defective: Bools) -> Floats:
    """Return (4, r): balanced accuracy, precision, recall and F1 for weights (r, n)."""
    found, missed = weights @ (rejected & defective), weights @ (~rejected & defective)
    alarms, passed = weights @ (rejected & ~defective), weights @ (~rejected & ~defective)
    recall = ratio(found, found + missed)
    return np.stack(
        [
            (recall + ratio(passed, passed + alarms)) / 2,
            ratio(found, found + alarms),
            recall,
            ratio(2 * found, 2 * found + missed + alarms),
        ]
    )


def _mean_of_classes(values: Floats, of_class: Floats) -> Floats:
    """Return the mean (r,) of the defined values (r, K); NaN with parts of fewer than two."""
    defined = ~np.isnan(values)
    mean = ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))
    return np.where((of_class > 0).sum(axis=-1) >= 2, mean, np.nan)


def _row(parts: ClassedParts, name: str) -> list[int]:
    here = (parts.labels == name) & ~parts.known
    row: list[int] = np.bincount(parts.predicted[here], minlength=len(parts.classes)).tolist()
    return row


def _reliability(counts: Floats, confidence: Floats, right: Floats) -> list[ReliabilityBin]:
    edges = np.concatenate(([0.0], EDGES, [1.0])).tolist()
    means, shares = ratio(confidence, counts), ratio(right, counts)
    return [
        ReliabilityBin(
            edges[i], edges[i + 1], int(counts[i]), _or_none(means[i]), _or_none(shares[i])
        )
        for i in range(N_BINS)
    ]


def _ece_by_chance(counts: Floats, confidence: Floats) -> float | None:
    """Return the mean gap per part if each bin's right ones were binomial at its confidence."""
    filled = counts > 0
    if not filled.any():
        return None
    n = counts[filled].astype(int)
    chances = np.minimum(confidence[filled] / counts[filled], 1.0)
    gaps = [_mean_deviation(*pair) for pair in zip(n.tolist(), chances.tolist(), strict=True)]
    return float(sum(gaps) / n.sum())


def _mean_deviation(n: int, chance: float) -> float:
    """Return E|X - n p| of a binomial X by the formula of De Moivre (Diaconis and Zabell 1991)."""
    if not 0.0 < chance < 1.0:
        return 0.0
    k = min(int(n * chance), n - 1) + 1
    steps = np.arange(1, k + 1)
    log_choose = np.log((n - k + steps) / steps).sum()
    log_mass = log_choose + k * np.log(chance) + (n - k) * np.log1p(-chance)
    return float(2 * k * (1.0 - chance) * np.exp(log_mass))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    if isinstance(classes, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ConfigurationError(
            f"The classes are {classes!r}; expected two or more different names, 'good' first, "
            "such as ('good', 'scratch', 'dent'). Pass those that the classifier learned."
        )
    if names[0] != GOOD:
        raise ConfigurationError(
            f"The first class is {names[0]!r}; it must be 'good', with the defects after it. "
            "Order the classes and the columns of the probabilities alike."
        )
    return names


def _check_probabilities(probabilities: ArrayLike, n_classes: int) -> Floats:
    given = np.asarray(probabilities, dtype=np.float64)
    if given.size == 0:
        given = given.reshape(-1, n_classes)
    if given.ndim != 2 or given.shape[1] != n_classes:
        raise InputError(
            f"The probabilities have the shape {given.shape}; {n_classes} classes need (parts, "
            f"{n_classes}). Pass one row per part with one probability per class."
        )
    off = np.abs(given.sum(axis=1) - 1.0)
    wrong = ~((given >= -_ROUNDING).all(axis=1) & (off <= _ROUNDING))
    if wrong.any():
        index = int(np.argmax(wrong))
        raise InputError(
            f"The probabilities of part {index} are {given[index].tolist()}; expected numbers "
            "in [0, 1] that add up to 1. Pass probabilities, not logits or scores, and leave out "
            "parts that could not be read."
        )
    return np.clip(given, 0.0, 1.0)
