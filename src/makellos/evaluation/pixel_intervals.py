"""Bootstrap intervals of the pixel metrics from coarse histograms of every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from makellos.evaluation.intervals import Interval, Resampling, percentile_interval
from makellos.evaluation.sketches import Keys, Resolution, Sketch, concatenate

__all__ = ["COARSE", "COARSE_DAMAGED", "LOW_LIMIT", "CoarsePart", "Marked", "PixelIntervals"]

Floats = NDArray[np.float64]

LOW_LIMIT = 0.05  # false positive rate to which MVTec AD 2 integrates AUPRO
# What is kept of one picture, at most about 1,300 and 1,000 samples, and the common cells that all
# pictures are sorted into, at most about 1,500.
COARSE = Resolution(absolute=2.0**-10, relative=2.0**-5)
COARSE_DAMAGED = Resolution(absolute=2.0**-10)
EDGES = Resolution(absolute=2.0**-9, relative=2.0**-5)
EDGES_DAMAGED = Resolution(absolute=2.0**-9)


@dataclass(frozen=True)
class PixelIntervals:
    """Hold 95 % intervals (low, high) in [0, 1]; None where the metric is None."""

    pixel_auroc: Interval | None
    pixel_ap: Interval | None
    aupro: Interval | None
    aupro_5: Interval | None
    pixel_f1_max: Interval | None
    seg_f1: Interval | None


class Marked(NamedTuple):
    """Hold how many good and damaged pixels of a picture are above the threshold."""

    good: int
    damaged: int
    n_damaged: int


@dataclass(frozen=True)
class CoarsePart:
    """Hold what the intervals need of one picture; None where it has no such pixels."""

    good: Sketch | None
    damaged: Sketch | None
    n_regions: int
    marked: Marked


@dataclass(frozen=True)
class Histograms:
    """Hold per picture the masses in common cells, most anomalous first: (n pictures, n cells)."""

    good: NDArray[np.float32]
    damaged: NDArray[np.float32]
    shares: NDArray[np.float32]

    def metrics(self, weights: Floats, fpr_limit: float) -> Floats:
        """Return the first five metrics of `PixelIntervals`, (5, r), for weights (r, n pictures).

        A resample without good or without damaged pixels has no figure: NaN, left out.
        """
        single = weights.astype(np.float32)
        good, damaged, shares = (
            (single @ masses).astype(np.float64)
            for masses in (self.good, self.damaged, self.shares)
        )
        alarms, hits = np.cumsum(good, axis=-1), np.cumsum(damaged, axis=-1)
        n_damaged = hits[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            good /= alarms[:, -1:]
            to_rate = alarms / alarms[:, -1:]
            damaged /= n_damaged
            shares /= shares.sum(axis=-1, keepdims=True)
            # Cells before the first marked pixel are empty: any precision will do.
            precision = hits / np.maximum(hits + alarms, np.finfo(np.float64).tiny)
            f1 = f1_of_pixels(hits=hits, alarms=alarms, n_damaged=n_damaged).max(axis=-1)
        ranked_above = 1.0 - (to_rate - good / 2)
        covered, covered_low = (
            covered_share(to_rate - good, to_rate, limit) for limit in (fpr_limit, LOW_LIMIT)
        )
        sums = [
            np.sum(mass * value, axis=-1)
            for mass, value in (
                (damaged, ranked_above),
                (damaged, precision),
                (shares, covered),
                (shares, covered_low),
            )
        ]
        undefined = np.isnan(sums[0])
        return np.stack([*sums, np.where(undefined, np.nan, f1)])


def f1_of_pixels(*, hits: Floats, alarms: Floats, n_damaged: Floats) -> Floats:
    """Return the F1 of marking `hits` of `n_damaged` damaged pixels and `alarms` good ones."""
    return np.asarray(2.0 * hits / (hits + alarms + n_damaged))


def covered_share(from_rate: Floats, to_rate: Floats, fpr_limit: float) -> Floats:
    """Return the share of the false positive rates up to the limit at which pixels are covered.

    A pixel becomes covered between the two rates, in proportion, and stays covered: the linear
    interpolation of the curve across ties, which also cuts it at the limit. All values in [0, 1].
    """
    until_limit = np.maximum(fpr_limit - from_rate, 0.0)
    width = np.maximum(to_rate - from_rate, np.finfo(np.float64).tiny)
    ramp = np.minimum(width, until_limit)
    return np.asarray((until_limit - ramp + ramp * ramp / (2 * width)) / fpr_limit)


def bootstrap_pixels(
    parts: Sequence[CoarsePart],
    figures: Mapping[str, float | None],
    fpr_limit: float,
    resampling: Resampling,
) -> PixelIntervals:
    """Return the intervals around figures, given by name; see `PixelMetrics.intervals`."""
    has_damage = np.array([part.damaged is not None for part in parts], dtype=np.bool_)
    blocks = resampling.blocks(has_damage, row_size=4096)
    exact = [figures[field.name] for field in fields(PixelIntervals)]
    if exact[0] is None:
        return PixelIntervals(*([None] * len(exact)))
    drawn = list(blocks)
    histograms = _histograms(parts)
    resampled = np.concatenate([histograms.metrics(w, fpr_limit) for w in drawn], axis=1)
    unresampled = histograms.metrics(np.ones((1, len(parts))), fpr_limit)
    # The cells' own error is the same in every resample: take it off.
    shifted = resampled - unresampled + np.array(exact[:-1])[:, np.newaxis]
    marked = np.array([part.marked for part in parts], dtype=np.float64)
    seg_f1 = None if exact[-1] is None else _seg_f1_interval(marked, drawn, undefined=shifted[0])
    return PixelIntervals(*[*(percentile_interval(row) for row in shifted), seg_f1])


def _seg_f1_interval(
    marked: Floats, drawn: Sequence[Floats], *, undefined: Floats
) -> Interval | None:
    counts = np.concatenate([weights @ marked for weights in drawn])
    with np.errstate(invalid="ignore"):
        f1 = f1_of_pixels(hits=counts[:, 1], alarms=counts[:, 0], n_damaged=counts[:, 2])
    return percentile_interval(np.where(np.isnan(undefined), np.nan, f1))


def _histograms(parts: Sequence[CoarsePart]) -> Histograms:
    good = [part.good for part in parts if part.good is not None]
    damage = [part.damaged for part in parts if part.damaged is not None]
    edges = np.union1d(_quantiles(good, EDGES), _quantiles(damage, EDGES_DAMAGED))
    shape = (len(parts), edges.size + 1)
    masses = Histograms(*(np.zeros(shape, dtype=np.float32) for _ in range(3)))
    for row, part in enumerate(parts):
        if part.good is not None:
            masses.good[row] = _binned(part.good, edges)[0]
        if part.damaged is not None:
            masses.damaged[row], masses.shares[row] = _binned(part.damaged, edges)
    return masses


def _quantiles(sketches: Sequence[Sketch], resolution: Resolution) -> Keys:
    pooled = concatenate(sketches)
    cumulative = np.cumsum(pooled.weights.sum(axis=0))
    at = np.searchsorted(cumulative, resolution.cuts(float(cumulative[-1])))
    return np.unique(pooled.keys[np.minimum(at, pooled.keys.size - 1)])


def _binned(sketch: Sketch, edges: Keys) -> Floats:
    cells = np.searchsorted(edges, sketch.keys, side="left")
    binned = [np.bincount(cells, mass, minlength=edges.size + 1) for mass in sketch.weights]
    return np.array(binned, dtype=np.float64)
