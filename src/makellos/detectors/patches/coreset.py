"""Greedy k-center selection, exact picks in batches; coresets of several sets, merged to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.detectors.patches.cells import LARGEST_PLAIN, near_spacings

__all__ = ["Coreset", "coverage", "k_center", "k_center_of_folds", "merge", "reduce_to", "spacings"]

_CANDIDATES = 1024
_ROWS = 16384
_SAMPLE = 32768  # points that picks are made among first, at least, where there are many more
_PER_PICK = 4  # of those for each point kept
_STAGES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)  # of the picks, after which all is looked at
_LEADERS_ASKED = 3
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

    Of many points (more than twice 32,768, or than 8 for each that is kept) an even sample is
    picked from first. After a tenth of the picks, and seven times later on, all others are looked
    at, and those join the sample that lie farther from every pick than any point of it. So what few
    points show alone is kept as before, for a time that grows with n times the root of `n_keep`.
    """
    n_points = len(points)
    if n_keep >= n_points:
        return np.arange(n_points)
    squares = np.einsum("ij,ij->i", points, points)
    n_sampled = max(_SAMPLE, _PER_PICK * n_keep)
    if slack > 0 and n_points > 2 * n_sampled:
        return _k_center_of_many(points, squares, n_keep, n_sampled, slack)
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


@dataclass(frozen=True, eq=False)
class Coreset:
    """Hold points (k, d) that stand for `n_points`, each of which lies within `radius` of one."""

    points: NDArray[np.float32]
    radius: float
    n_points: int


def reduce_to(points: NDArray[np.float32], n_keep: int) -> Coreset:
    """Return `n_keep` of the points (n, d), picked by `k_center`, with the radius they cover."""
    if not len(points):
        return Coreset(points, 0.0, 0)
    kept = k_center(points, n_keep)
    return Coreset(points[kept], coverage(points, kept), len(points))


def merge(coresets: Sequence[Coreset], n_keep: int) -> Coreset:
    """Return `n_keep` points for all that several coresets stand for.

    They are picked by `k_center` from the union. A point of any set lies within its coreset's
    radius of a point of the union, and that within the union's coverage of a point kept: the sum of
    both is the radius that is returned, the triangle inequality its proof. It is at most four times
    the least that `n_keep` points of all sets together can have where each coreset has as many
    (Malkomes et al., Fast Distributed k-Center Clustering with Outliers on Massive Data, 2015), and
    a few per cent more than that of one piece where sets are alike. Merging again and again adds
    the radii up. Sets without points may be among them.
    """
    given = [each for each in coresets if len(each.points)]
    if not given:
        return Coreset(np.empty((0, 0), np.float32), 0.0, 0)
    union = np.concatenate([each.points for each in given])
    kept = k_center(union, n_keep)
    radius = max(each.radius for each in given) + coverage(union, kept)
    return Coreset(union[kept], radius, sum(each.n_points for each in given))


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
    65,536 points the neighbours are those of `near_spacings`.
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


def _k_center_of_many(
    points: NDArray[np.float32],
    squares: NDArray[np.float32],
    n_keep: int,
    n_sampled: int,
    slack: float,
) -> NDArray[np.intp]:
    active = np.arange(n_sampled) * len(points) // n_sampled
    outside = np.setdiff1d(np.arange(len(points)), active, assume_unique=True)
    bounds = np.full(len(outside), np.inf, np.float32)  # of the squared distance to the nearest
    own, own_squares = points[active], squares[active]
    first = int(np.argmax(_squared_distances(own, own_squares, own.mean(0, keepdims=True))[:, 0]))
    kept = [int(active[first])]
    nearest = _squared_distances(own, own_squares, own[first : first + 1])[:, 0]
    nearest[first] = _KEPT
    for target in (*(max(1, int(stage * n_keep)) for stage in _STAGES), n_keep):
        while len(kept) < target:
            picks = _pick(own, own_squares, nearest, target - len(kept), (1.0 - slack) ** 2)
            kept.extend(active[picks].tolist())
            _update(nearest, own, own_squares, own[picks])
            nearest[picks] = _KEPT
        if target == n_keep or not len(outside):
            continue
        limit = float(nearest.max())
        far = np.flatnonzero(bounds > limit)
        bounds[far] = _bounds(points, squares, outside[far], np.array(kept), limit)
        joins = bounds > limit
        new = outside[joins]
        active = np.concatenate([active, new])
        own, own_squares = points[active], squares[active]
        nearest = np.concatenate([nearest, bounds[joins]])
        outside, bounds = outside[~joins], bounds[~joins]
    return np.array(kept)


def _bounds(
    points: NDArray[np.float32],
    squares: NDArray[np.float32],
    rows: NDArray[np.intp],
    kept: NDArray[np.intp],
    limit: float,
) -> NDArray[np.float32]:
    """Return for points at `rows` squared distances to a kept one, the nearest if above `limit`.

    Kept ones are grouped around their first, which were picked far from each other. A point is
    compared with its nearest groups, and only where that shows none within the limit with all.
    """
    leaders = kept[: max(1, int(len(kept) ** 0.5))]
    group_of = _squared_distances(points[kept], squares[kept], points[leaders]).argmin(1)
    groups = [kept[group_of == number] for number in range(len(leaders))]
    n_asked = min(_LEADERS_ASKED, len(leaders))
    found = np.full(len(rows), np.inf, np.float32)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        own, own_squares = points[block], squares[block]
        near = _squared_distances(own, own_squares, points[leaders])
        asked = np.argpartition(near, n_asked - 1, axis=1)[:, :n_asked]
        best = found[start : start + _ROWS]
        for number, members in enumerate(groups):
            those = np.flatnonzero((asked == number).any(1) & (best > limit))
            if len(those):
                far = _squared_distances(own[those], own_squares[those], points[members])
                best[those] = np.minimum(best[those], far.min(1))
        left = np.flatnonzero(best > limit)
        for first in range(0, len(kept), _CANDIDATES):
            if len(left):
                centers = points[kept[first : first + _CANDIDATES]]
                far = _squared_distances(own[left], own_squares[left], centers)
                best[left] = np.minimum(best[left], far.min(1))
    return found


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
