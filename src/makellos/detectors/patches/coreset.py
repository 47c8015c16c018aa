"""Greedy k-center selection, exact picks in batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from makellos.detectors.patches.cells import LARGEST_PLAIN, near_spacings

__all__ = ["coverage", "k_center", "k_center_of_folds", "spacings"]

_CANDIDATES = 1024
_ROWS = 16384
_SPACING_ROWS = 2048
_LEAST_SPACING = 0.1  # of the mean: patches that are all alike are no measure for others
_KEPT = -1.0  # below every squared distance: rounding must not make a kept point the farthest


def k_center(
    points: NDArray[np.float32],
    n_keep: int,
    *,
    slack: float = 0.03,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.intp]:
    """Return indices of `n_keep` points, picked as far from each other as can be.

    Greedy k-center (Gonzalez 1985; the coreset of PatchCore, Roth et al. 2022) picks the point
    farthest from those kept, again and again; each pick costs a pass over all `points` (n, d).
    Here the farthest points are taken out as candidates and picked from among themselves as long
    as the best of them is at most `slack` nearer than any point left outside; then one matrix
    product brings all points up to date. With `slack` 0 the picks are those of the plain loop.
    """
    n_points = len(points)
    if n_keep >= n_points:
        return np.arange(n_points)
    squares = np.einsum("ij,ij->i", points, points)
    first = int(np.argmax(_squared_distances(points, squares, points.mean(0, keepdims=True))[:, 0]))
    kept = [first]
    nearest = _squared_distances(points, squares, points[first : first + 1])[:, 0]
    nearest[first] = _KEPT
    while len(kept) < n_keep:
        picks = _pick(points, squares, nearest, n_keep - len(kept), (1.0 - slack) ** 2)
        kept.extend(picks)
        _update(nearest, points, squares, points[picks])
        nearest[picks] = _KEPT
        if progress is not None:
            progress(len(kept), n_keep)
    return np.array(kept)


def k_center_of_folds(
    points: NDArray[np.float32], folds: NDArray[np.intp], n_keep: int
) -> NDArray[np.intp]:
    """Return indices of about `n_keep` points, of each fold as many as is its share of them.

    `folds` (n,) numbers the fold of each point; those of a fold are picked by `k_center`.
    """
    chosen = []
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        share = max(1, round(n_keep * len(inside) / len(points)))
        chosen.append(inside[k_center(points[inside], share)])
    return np.concatenate(chosen)


def coverage(points: NDArray[np.float32], kept: NDArray[np.intp]) -> float:
    """Return the largest distance of a point (n, d) to its nearest kept point."""
    squares = np.einsum("ij,ij->i", points, points)
    nearest = np.full(len(points), np.inf, np.float32)
    for start in range(0, len(kept), _CANDIDATES):
        _update(nearest, points, squares, points[kept[start : start + _CANDIDATES]])
    return float(np.sqrt(nearest.max()))


def spacings(
    points: NDArray[np.float32], num_neighbors: int, cap: float = 1.0
) -> NDArray[np.float32]:
    """Return the mean distance of each point (n, d) to its nearest others, relative to all, (n,).

    Where there are fewer others than `num_neighbors`, all of them count; a lone point has 1. Points
    that lie farther apart than the share `cap` of all count as those at that share. Of more than
    16,384 points the neighbours are those of `near_spacings`.
    """
    k = min(num_neighbors, len(points) - 1)
    if k < 1:
        return np.ones(len(points), np.float32)
    if len(points) > LARGEST_PLAIN:
        return _relative(near_spacings(points, k), cap)
    squares = np.einsum("ij,ij->i", points, points)
    found = np.empty(len(points), np.float32)
    for start in range(0, len(points), _SPACING_ROWS):
        rows = np.arange(start, min(start + _SPACING_ROWS, len(points)))
        distances = _squared_distances(points[rows], squares[rows], points)
        distances[np.arange(len(rows)), rows] = np.inf
        found[rows] = np.sqrt(np.partition(distances, k - 1, axis=1)[:, :k]).mean(1)
    return _relative(found, cap)


def _relative(found: NDArray[np.float32], cap: float) -> NDArray[np.float32]:
    mean = float(found.mean())
    if mean <= 0:
        return np.ones_like(found)
    most = float(np.quantile(found, cap)) / mean
    capped: NDArray[np.float32] = np.minimum(found / mean, np.float32(most))
    return np.maximum(capped, np.float32(_LEAST_SPACING))


def _pick(
    points: NDArray[np.float32],
    squares: NDArray[np.float32],
    nearest: NDArray[np.float32],
    n_wanted: int,
    accept: float,
) -> list[int]:
    n_candidates = min(_CANDIDATES, len(points))
    split = len(points) - n_candidates
    order = np.argpartition(nearest, split - 1) if split else np.arange(len(points))
    candidates = order[split:]
    outside = float(nearest[order[split - 1]]) if split else 0.0
    among = _squared_distances(points[candidates], squares[candidates], points[candidates])
    left = nearest[candidates].copy()
    picks: list[int] = []
    while len(picks) < min(n_wanted, n_candidates):
        best = int(np.argmax(left))
        if picks and left[best] < accept * outside:
            break
        picks.append(int(candidates[best]))
        np.minimum(left, among[best], out=left)
        left[best] = _KEPT
    return picks


def _update(
    nearest: NDArray[np.float32],
    points: NDArray[np.float32],
    squares: NDArray[np.float32],
    centers: NDArray[np.float32],
) -> None:
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = _squared_distances(points[rows], squares[rows], centers)
        np.minimum(nearest[rows], distances.min(1), out=nearest[rows])


def _squared_distances(
    points: NDArray[np.float32], squares: NDArray[np.float32], centers: NDArray[np.float32]
) -> NDArray[np.float32]:
    distances = points @ (-2.0 * centers.T)
    distances += np.einsum("ij,ij->i", centers, centers)
    distances += squares[:, np.newaxis]
    np.maximum(distances, 0.0, out=distances)
    return distances
