"""Structure among good parts: whether parts of a series resemble each other more than others.

A threshold promises something for parts like those that set it. Where good parts come in series
(lots, shifts, places, exposures of one part) a part of a new series is farther from all that is
known than a part of a known one. How much farther is measured: each part's oddest patch is looked
for among the patches of the other parts, once with some parts at random left out, and once with
its whole series. Leaving out as many parts drawn at random says what chance and fewer parts do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Effect", "clusters", "effect_of", "is_crossed"]

_N_DRAWS = 40
_LEAST_TIMES, _LEAST_SIGMAS = 1.8, 4.0
_LEAST_ABOVE = 4  # parts above the threshold by which rates are compared, at least
_MOST_CLUSTERS, _LEAST_CLUSTER = 12, 5
_APART = 0.8  # silhouette; one even distribution has 0.6, screws that lie either way have 0.71
_N_ROUNDS, _N_MEASURED = 25, 300
_FEW, _N_AXES = 5, 3  # columns that are looked at each; principal components

Distances = NDArray[np.float32]


@dataclass(frozen=True)
class Effect:
    """Say how often a part of a series that is left out is rejected, beside one drawn at random.

    `rate` and `usual` are shares of parts in [0, 1], `sigmas` how far the first lies above what
    chance does, in standard deviations of random draws.
    """

    rate: float
    usual: float
    sigmas: float

    @property
    def times(self) -> float:
        """Return how many times as often as promised a part of a new series is rejected."""
        return self.rate / self.usual if self.usual > 0 else 1.0

    @property
    def matters(self) -> bool:
        """Tell whether the promise does not carry over to a new series."""
        return self.times >= _LEAST_TIMES and self.sigmas >= _LEAST_SIGMAS


def effect_of(
    distances: Distances,
    series: NDArray[np.intp],
    units: NDArray[np.intp],
    budget: float,
    *,
    seed: int,
) -> Effect:
    """Compare leaving out a part's series with leaving out as many parts at random.

    `distances` (n, P, n): of P patches of each part to the nearest patch of each other part.
    `series` and `units` (n,) number the series of each part and the pictures of one part, which are
    left out together in any case. `budget` is the share of good parts that may be rejected.
    """
    n = len(series)
    own = units[:, None] == units[None]
    alone = _oddest(distances, own)
    n_above = min(n // 2, max(_LEAST_ABOVE, round(budget * n)))
    threshold = float(np.sort(alone)[n - n_above - 1])
    rng = np.random.default_rng([seed, 31])
    first = np.unique(units, return_index=True)[1]
    series_of_unit = np.full(int(units.max()) + 1, -1)
    series_of_unit[units[first]] = series[first]
    rates = []
    for _ in range(_N_DRAWS):
        drawn = np.zeros_like(series_of_unit)
        drawn[units[first]] = rng.permutation(series_of_unit[units[first]])
        rates.append(_rate(distances, drawn[units], own, threshold))
    usual, spread = float(np.mean(rates)), float(np.std(rates))
    rate = _rate(distances, series, own, threshold)
    # Of some parts above a threshold chance alone moves the number by its root.
    noise = math.sqrt(spread**2 + max(usual, 1 / n) / n)
    return Effect(rate, max(usual, n_above / n), (rate - usual) / noise)


def is_crossed(series: NDArray[np.intp], units: NDArray[np.intp]) -> bool:
    """Tell whether pictures of one part are mostly of several series: then these are views."""
    several = [np.flatnonzero(units == unit) for unit in np.unique(units)]
    several = [members for members in several if len(members) > 1]
    n_split = sum(len(np.unique(series[members])) > 1 for members in several)
    return n_split > len(several) / 4


def clusters(values: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the number (n,) of the cluster of each row of values (n, d); None without clusters.

    Clusters are clearly apart along one column, or in the first principal components of all.
    """
    n = len(values)
    scale = values.std(0)
    kept = values[:, scale > 1e-9]
    if n < 2 * _LEAST_CLUSTER or not kept.shape[1]:
        return None
    unit = (kept - kept.mean(0)) / kept.std(0)
    columns = [unit[:, [i]] for i in range(unit.shape[1])] if unit.shape[1] <= _FEW else []
    if unit.shape[1] > _N_AXES:
        left, sizes, _ = np.linalg.svd(unit, full_matrices=False)
        unit = (left * sizes)[:, :_N_AXES]
    best: tuple[float, NDArray[np.intp] | None] = (_APART, None)
    spaces = [*columns, *(unit[:, [axis]] for axis in range(unit.shape[1]))]
    for space in [*spaces, *([unit] if unit.shape[1] > 1 else [])]:
        for k in range(2, min(_MOST_CLUSTERS, n // _LEAST_CLUSTER) + 1):
            silhouette, labels = _divided(space, k)
            if silhouette > best[0] and np.bincount(labels).min() >= _LEAST_CLUSTER:
                best = silhouette, labels
    return best[1]


def _divided(space: NDArray[np.float64], k: int) -> tuple[float, NDArray[np.intp]]:
    """Return how far `k` clusters lie apart, in [-1, 1], and the number of each row's cluster."""
    centres = space[[int(np.square(space - np.median(space, 0)).sum(1).argmin())]]
    while len(centres) < k:
        farthest = _squares(space, centres).min(1).argmax()
        centres = np.concatenate([centres, space[[farthest]]])
    for _ in range(_N_ROUNDS):
        labels = _squares(space, centres).argmin(1)
        known = [labels == number for number in range(k)]
        if not all(each.any() for each in known):
            return -1.0, labels
        centres = np.array([space[each].mean(0) for each in known])
    return _silhouette(space, labels), labels


def _squares(space: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.square(space[:, None] - centres[None]).sum(2)
    return found


def _silhouette(space: NDArray[np.float64], labels: NDArray[np.intp]) -> float:
    """Return how much nearer rows are to their own cluster than to the next, on average."""
    kept = np.linspace(0, len(space) - 1, min(len(space), _N_MEASURED)).astype(int)
    space, labels = space[kept], labels[kept]
    sizes = np.bincount(labels)
    if len(sizes) < 2 or sizes.min() < 2:
        return -1.0
    far = np.sqrt(_squares(space, space))
    sums = np.array([far[:, labels == number].sum(1) for number in range(len(sizes))]).T
    rows = np.arange(len(space))
    own = sums[rows, labels] / (sizes[labels] - 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    other = means.min(1)
    return float(np.mean((other - own) / np.maximum(np.maximum(own, other), 1e-12)))


def _rate(
    distances: Distances, series: NDArray[np.intp], own: NDArray[np.bool_], threshold: float
) -> float:
    """Return the share of parts above a threshold without their series, each series alike."""
    above = _oddest(distances, own | (series[:, None] == series[None])) > threshold
    return float(np.mean([above[series == each].mean() for each in np.unique(series)]))


def _oddest(distances: Distances, left_out: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance (n,) of each part's oddest patch to the parts that are not left out."""
    rest = np.where(left_out[:, None, :], np.float32(np.inf), distances)
    nearest = rest.min(2)
    # A part whose series is all there is has nothing to be compared with.
    nearest[~np.isfinite(nearest)] = 0
    found: NDArray[np.float32] = nearest.max(1)
    return found


def as_numbers(labels: Sequence[object]) -> NDArray[np.intp]:
    """Return labels as numbers from 0 on."""
    return np.unique(np.array([str(label) for label in labels]), return_inverse=True)[1]
