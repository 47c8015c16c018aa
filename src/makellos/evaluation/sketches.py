"""Weighted samples that stand for many pixels, with bounded memory and a known error.

A test set has hundreds of millions of pixels, but every pixel metric depends only on how much
mass (good pixels, damaged pixels, shares of regions) lies above each threshold. A sketch cuts
the pixels, sorted from most to least anomalous, into cells and keeps one value and the mass of
each. Cells are cut by rank and not by value, so the scale of the scores, outliers and narrow
ranges do not matter; a run of equal scores is never divided, so maps with few distinct values
are kept exactly.

The middle value by mass stands for its cell, so at any threshold the mass above it is off by at
most half a cell of each sketch.

Keys are scores with the sign turned: ascending keys start with the most anomalous pixel, which is
the end where figures at low false positive rates need the finest cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Resolution", "Sketch", "SketchPool", "concatenate", "sketch_pixels", "sketch_weighted"]

Keys = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resolution:
    """Say how much mass a cell may hold.

    At most the share `absolute` of the total, and, where `relative` is given, at most that share
    of the mass above the cell: then the most anomalous 1 / `relative` pixels are kept one by one.
    """

    absolute: float
    relative: float | None = None

    def cuts(self, total: float) -> Floats:
        """Return the masses above which cells are cut, ascending, inside (0, total)."""
        cell = total * self.absolute
        if self.relative is None:
            return np.arange(1.0, round(1.0 / self.absolute)) * cell
        exact_until = 1.0 / self.relative
        linear_from = cell / self.relative
        if linear_from <= exact_until:
            return np.arange(1.0, total)
        growth = np.log1p(self.relative)
        n_growing = int(np.ceil(np.log(linear_from / exact_until) / growth))
        cuts = np.concatenate(
            (
                np.arange(1.0, exact_until),
                exact_until * np.exp(growth * np.arange(n_growing)),
                np.arange(linear_from, total, cell),
            )
        )
        return cuts[cuts < total]


@dataclass(frozen=True)
class Sketch:
    """Hold keys, float32 (n,), ascending, and weights, float64 (k, n): k masses per key."""

    keys: Keys
    weights: Floats


def sketch_pixels(keys: Keys, resolution: Resolution) -> Sketch:
    """Summarise sorted keys (n,), n >= 1, each of mass 1, by cells of bounded mass."""
    n_pixels = keys.size
    if n_pixels * resolution.absolute <= 1.0:
        return Sketch(keys, np.ones((1, n_pixels)))
    starts = np.ceil(resolution.cuts(float(n_pixels))).astype(np.intp)
    starts = _keep_ties_whole(keys, starts)
    ends = np.append(starts[1:], n_pixels)
    return Sketch(keys[(starts + ends - 1) // 2], (ends - starts).astype(np.float64)[np.newaxis])


def sketch_weighted(keys: Keys, weights: Floats, resolution: Resolution) -> Sketch:
    """Summarise keys (n,), n >= 1, in any order, with weights (k, n), by cells of bounded mass.

    With several masses a cell is bounded in the mean of their shares, so in each of them by k
    times as much. A relative resolution needs k = 1 and pixels as the unit of mass.
    """
    order = np.argsort(keys)
    keys, weights = keys[order], weights[:, order]
    measure = weights[0] if len(weights) == 1 else _mean_share(weights)
    cumulative = np.cumsum(measure)
    cuts = resolution.cuts(float(cumulative[-1]))
    if keys.size <= cuts.size:
        return Sketch(keys, weights)
    starts = _keep_ties_whole(keys, _starts_at(cuts, cumulative))
    ends = np.append(starts[1:], keys.size)
    middle_mass = (cumulative[starts] - measure[starts] + cumulative[ends - 1]) / 2
    middles = np.clip(np.searchsorted(cumulative, middle_mass), starts, ends - 1)
    return Sketch(keys[middles], np.add.reduceat(weights, starts, axis=1))


def concatenate(sketches: Iterable[Sketch]) -> Sketch:
    """Return all samples of at least one sketch, sorted again."""
    parts = list(sketches)
    keys = np.concatenate([part.keys for part in parts])
    weights = np.concatenate([part.weights for part in parts], axis=1)
    order = np.argsort(keys)
    return Sketch(keys[order], weights[:, order])


class SketchPool:
    """Collect the sketches of any number of pictures in memory that grows with their logarithm.

    Every `buffer_size` sketches become one pooled sketch, and two pooled sketches of equally many
    pictures become one, so a pixel is summarised once per doubling of the number of pictures.
    """

    def __init__(self, *, resolution: Resolution, buffer_size: int = 32) -> None:
        self._resolution = resolution
        self._buffer_size = buffer_size
        self._buffer: list[Sketch] = []
        self._pooled: list[tuple[int, Sketch]] = []

    def add(self, sketch: Sketch) -> None:
        """Take in the sketch of one picture."""
        self._buffer.append(sketch)
        if len(self._buffer) < self._buffer_size:
            return
        level, merged = 0, self._merge(self._buffer)
        self._buffer = []
        while self._pooled and self._pooled[-1][0] == level:
            level, merged = level + 1, self._merge([self._pooled.pop()[1], merged])
        self._pooled.append((level, merged))

    def combined(self) -> Sketch | None:
        """Return everything taken in as one sketch, or None when there is nothing."""
        sketches = [sketch for _, sketch in self._pooled] + self._buffer
        return concatenate(sketches) if sketches else None

    def _merge(self, sketches: list[Sketch]) -> Sketch:
        keys = np.concatenate([sketch.keys for sketch in sketches])
        weights = np.concatenate([sketch.weights for sketch in sketches], axis=1)
        return sketch_weighted(keys, weights, self._resolution)


def _mean_share(weights: Floats) -> Floats:
    mean: Floats = weights[0] / (weights[0].sum() * len(weights))
    for mass in weights[1:]:
        mean += mass / (mass.sum() * len(weights))
    return mean


def _starts_at(cuts: Floats, cumulative: Floats) -> NDArray[np.intp]:
    # A sample that a cut would divide becomes a cell of its own.
    reached = np.searchsorted(cumulative, cuts, side="left")
    exceeded = np.searchsorted(cumulative, cuts, side="right")
    return np.concatenate((exceeded, exceeded[reached == exceeded] + 1))


def _keep_ties_whole(keys: Keys, starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return sorted cell starts, 0 first, of which none lies inside a run of equal keys."""
    inside = starts[(starts > 0) & (starts < keys.size)]
    torn = keys[inside - 1] == keys[inside]
    runs = keys[_distinct(inside[torn])]
    first = np.searchsorted(keys, runs, side="left")
    last = np.searchsorted(keys, runs, side="right")
    whole = _distinct(np.concatenate(([0], inside[~torn], first, last)))
    return whole[whole < keys.size]


def _distinct(indices: NDArray[np.intp]) -> NDArray[np.intp]:
    # np.unique hashes first and takes ten times as long here.
    ordered = np.sort(indices)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))[: ordered.size]]
