"""95 % bootstrap intervals: how far figures move when other parts of the same kind are tested.

Good and defective parts are resampled separately, so every resample has as many of each as the
test set. Parts that belong together (exposures of one tile, windows of one recording) are drawn as
whole groups; groups with a defective part and groups without one are then the two strata.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation._checks import check_defective, check_length, check_scores
from makellos.evaluation.ranking import (
    RankedParts,
    auroc_from_counts,
    average_precision_from_counts,
    f1_from_counts,
    rank_parts,
    ratio,
)

__all__ = ["ImageIntervals", "Interval", "Resampling", "image_intervals", "percentile_interval"]

Floats = NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95
# Values in one block of resamples: keeps every array of a block at about 16 MB.
BLOCK_VALUES = 2_000_000


@dataclass(frozen=True)
class Resampling:
    """Say how the bootstrap draws the parts of a test set: by what generator, and how often.

    `groups` names the group of each part, None for a part by itself; whole groups are then drawn.
    """

    rng: np.random.Generator
    n_resamples: int = 1000
    groups: Sequence[object] | None = None

    def blocks(self, defective: NDArray[np.bool_], row_size: int) -> Iterator[Floats]:
        """Yield blocks (r, n parts) of how often each resample draws each part.

        `row_size` is the number of values that the caller computes per resample; it bounds the
        blocks. Raises InputError for a wrong number of groups, ConfigurationError for fewer than
        one resample.
        """
        if self.n_resamples < 1:
            raise ConfigurationError(
                f"`n_resamples` is {self.n_resamples}; at least 1 is needed, and 1000 is usual."
            )
        units = unit_of_part(defective.size, self.groups)
        n_units = int(units.max(initial=-1)) + 1
        has_defective = np.zeros(n_units, dtype=np.bool_)
        has_defective[units[defective]] = True
        strata = [np.flatnonzero(has_defective), np.flatnonzero(~has_defective)]
        block = max(1, BLOCK_VALUES // max(row_size, defective.size, 1))

        def draw() -> Iterator[Floats]:
            for start in range(0, self.n_resamples, block):
                n_rows = min(block, self.n_resamples - start)
                drawn = np.zeros((n_rows, n_units))
                for stratum in strata:
                    drawn[:, stratum] = _draw_counts(stratum.size, n_rows, self.rng)
                yield drawn[:, units]

        return draw()


@dataclass(frozen=True)
class ImageIntervals:
    """Hold 95 % intervals (low, high) in [0, 1]; None where the metric is None."""

    image_auroc: Interval | None
    image_ap: Interval | None
    f1_max: Interval | None
    false_alarm_rate: Interval | None
    miss_rate: Interval | None
    accuracy: Interval | None


def image_intervals(
    scores: ArrayLike, defective: ArrayLike, rejected: ArrayLike, resampling: Resampling
) -> ImageIntervals:
    """Return 95 % percentile intervals of the image-level metrics by the stratified bootstrap.

    `scores` (n,) are finite, higher is more anomalous; `defective` and `rejected` (n,) are bool or
    0 and 1. The rates count rejected parts alone. A rate of exactly 0 or 1 has no spread to
    resample: there the open end is the exact binomial bound (Clopper and Pearson 1934), with as
    many trials as parts or groups. One part or group alone shows nothing of others: there is no
    interval of what it decides.
    Raises InputError for lengths that differ or scores that are not finite, ConfigurationError for
    fewer than one resample.
    """
    values = check_scores(scores)
    is_defective = check_defective(defective, values.size)
    is_rejected = check_defective(rejected, values.size, name="rejected")
    ranked = rank_parts(values, is_defective)
    blocks = resampling.blocks(is_defective, row_size=values.size)
    metrics = [_block_metrics(weights, ranked, is_defective, is_rejected) for weights in blocks]
    columns = np.concatenate(metrics, axis=1)
    units = unit_of_part(values.size, resampling.groups)
    wrong = is_rejected != is_defective
    sides = [np.unique(units[side]).size for side in (is_defective, ~is_defective) if side.any()]
    is_alone = min(sides, default=0) < 2
    ranking = [None if is_alone else percentile_interval(each) for each in columns[:3]]
    return ImageIntervals(
        image_auroc=ranking[0],
        image_ap=ranking[1],
        f1_max=ranking[2],
        false_alarm_rate=_rate_interval(columns[3], wrong[~is_defective], units[~is_defective]),
        miss_rate=_rate_interval(columns[4], wrong[is_defective], units[is_defective]),
        accuracy=_rate_interval(columns[5], ~wrong, units),
    )


def percentile_interval(resampled: Floats) -> Interval | None:
    """Return the central 95 % of resampled figures, (r,), clipped to [0, 1].

    NaN, the figure of a resample that lacks a class, is left out; None when nothing is left.
    """
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return None
    tail = (1.0 - LEVEL) / 2
    low, high = np.clip(np.quantile(defined, [tail, 1.0 - tail]), 0.0, 1.0)
    return float(low), float(high)


def _draw_counts(n_units: int, n_rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return (n_rows, n_units): how often each unit is drawn in n_units draws with replacement."""
    drawn = rng.integers(0, max(n_units, 1), size=(n_rows, n_units))
    drawn += np.arange(n_rows)[:, np.newaxis] * n_units
    return np.bincount(drawn.ravel(), minlength=n_rows * n_units).reshape(n_rows, n_units)


def unit_of_part(n_parts: int, groups: Sequence[object] | None) -> NDArray[np.intp]:
    """Return the index of the unit that each part is drawn with."""
    if groups is None:
        return np.arange(n_parts)
    check_length("groups", (len(groups),), n_parts)
    index_of: dict[object, int] = {}
    try:
        units = [
            index_of.setdefault(
                ("alone", part) if group is None else ("group", group), len(index_of)
            )
            for part, group in enumerate(groups)
        ]
    except TypeError as error:
        raise InputError(
            f"A group is a name or a number, or None for a part by itself; received one that "
            f"cannot be compared ({error})."
        ) from error
    return np.array(units, dtype=np.intp)


def _block_metrics(
    weights: Floats,
    ranked: RankedParts | None,
    defective: NDArray[np.bool_],
    rejected: NDArray[np.bool_],
) -> Floats:
    """Return (6, r): the metrics of `ImageIntervals` for each of r resamples."""
    undefined = np.full(len(weights), np.nan)
    ranking = [undefined] * 3
    if ranked is not None:
        counts = ranked.counts(weights)
        ranking = [
            auroc_from_counts(*counts),
            average_precision_from_counts(*counts),
            f1_from_counts(*counts).max(axis=-1),
        ]
    everyone = np.ones_like(defective)
    return np.stack(
        [
            *ranking,
            weighted_mean(weights, rejected, ~defective),
            weighted_mean(weights, ~rejected, defective),
            weighted_mean(weights, rejected == defective, everyone),
        ]
    )


def weighted_mean(weights: Floats, values: NDArray[Any], among: NDArray[np.bool_]) -> Floats:
    """Return the means (r,) of values (n,) over the parts of `among`, NaN without any."""
    total = weights @ among.astype(np.float64)
    return ratio(weights @ np.where(among, values, 0.0), total)


def exact_interval(hit: NDArray[np.bool_], units: NDArray[np.intp]) -> Interval | None:
    """Return the exact binomial interval of parts that are all hit or all not, else None.

    There are as many trials as different `units` (Clopper and Pearson 1934).
    """
    if not hit.size or (hit.any() and not hit.all()):
        return None
    farthest = float(((1.0 - LEVEL) / 2) ** (1.0 / np.unique(units).size))
    return (farthest, 1.0) if hit.all() else (0.0, 1.0 - farthest)


def _rate_interval(
    resampled: Floats, hit: NDArray[np.bool_], units: NDArray[np.intp]
) -> Interval | None:
    interval = percentile_interval(resampled)
    if interval is None or (exact := exact_interval(hit, units)) is not None:
        return interval and exact
    return interval if np.unique(units).size > 1 else None
