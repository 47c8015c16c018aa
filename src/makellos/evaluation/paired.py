"""Paired differences: by how much one detector does better than another on the same parts.

Every resample draws the same parts for both, so what makes a set of parts easy or hard for both
cancels out. Two intervals that overlap may well hide a difference that the paired one shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.evaluation._checks import check_defective, check_scores
from makellos.evaluation.intervals import LEVEL, Interval, Resampling, unit_of_part, weighted_mean
from makellos.evaluation.ranking import RankedParts, auroc_from_counts, rank_parts

__all__ = ["Difference", "PairedDifferences", "paired_differences"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """Hold a figure minus that of the reference, in [-1, 1], and its 95 % interval."""

    value: float
    interval: Interval

    @property
    def within_chance(self) -> bool:
        """Tell whether the interval holds 0: other parts might have shown no difference."""
        return self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class PairedDifferences:
    """Hold differences from a reference on the same parts; None where a class is missing.

    `n_found_alone` counts defective parts that this one rejects and the reference does not,
    `n_missed_alone` those the other way round.
    """

    image_auroc: Difference | None
    miss_rate: Difference | None
    false_alarm_rate: Difference | None
    n_found_alone: int
    n_missed_alone: int


def paired_differences(
    scores: ArrayLike,
    rejected: ArrayLike,
    reference_scores: ArrayLike,
    reference_rejected: ArrayLike,
    defective: ArrayLike,
    resampling: Resampling,
) -> PairedDifferences:
    """Return differences from a reference with 95 % percentile intervals, by the paired bootstrap.

    All arrays are (n,) over the same parts in the same order; strata are those of
    `image_intervals`. Where no resample differs from another there is nothing to take percentiles
    of: the interval is then that of a difference in not one of n parts or groups (Clopper and
    Pearson 1934), to both sides. Raises InputError for lengths that differ or scores that are not
    finite, ConfigurationError for fewer than one resample.
    """
    values = [check_scores(scores), check_scores(reference_scores)]
    is_defective = check_defective(defective, values[0].size)
    verdicts = [
        check_defective(given, values[0].size, name="rejected")
        for given in (rejected, reference_rejected)
    ]
    ranked = [rank_parts(each, is_defective) for each in values]
    blocks = resampling.blocks(is_defective, row_size=values[0].size)
    resampled = np.concatenate(
        [_differences(weights, ranked, verdicts, is_defective) for weights in blocks], axis=1
    )
    once = _differences(np.ones((1, is_defective.size)), ranked, verdicts, is_defective)[:, 0]
    units = unit_of_part(is_defective.size, resampling.groups)
    n_defective, n_good = (np.unique(units[among]).size for among in (is_defective, ~is_defective))
    found, found_before = (verdict & is_defective for verdict in verdicts)
    return PairedDifferences(
        image_auroc=_difference(once[0], resampled[0], min(n_defective, n_good)),
        miss_rate=_difference(once[1], resampled[1], n_defective),
        false_alarm_rate=_difference(once[2], resampled[2], n_good),
        n_found_alone=int((found & ~found_before).sum()),
        n_missed_alone=int((found_before & ~found).sum()),
    )


def _differences(
    weights: Floats, ranked: Sequence[RankedParts | None], rejected: Sequence[Bools], bad: Bools
) -> Floats:
    """Return (3, r): differences of AUROC, miss rate and false-alarm rate; NaN without a class."""
    undefined = np.full(len(weights), np.nan)
    ours, theirs = (
        undefined if each is None else auroc_from_counts(*each.counts(weights)) for each in ranked
    )
    more = rejected[0].astype(np.float64) - rejected[1]
    rates = weighted_mean(weights, -more, bad), weighted_mean(weights, more, ~bad)
    return np.stack([ours - theirs, *rates])


def _difference(value: float, resampled: Floats, n_units: int) -> Difference | None:
    if np.isnan(value):
        return None
    tail = (1.0 - LEVEL) / 2
    defined = resampled[~np.isnan(resampled)]
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    if defined.min() == defined.max():
        reach = 1.0 - tail ** (1.0 / n_units)
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return Difference(float(value), (float(low), float(high)))
