"""Cells of a large memory bank: patches that lie together, so that a search looks at a few alone.

Cells are all of one size, since a graph knows its sizes beforehand. Those of a bank with spacings
hold patches of like spacing: an isolated patch is the nearest to much that lies far from it, and
in a cell of dense ones nobody would look for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROUP", "Cells", "balanced_cells", "learn_cells", "near_spacings", "sort_and_score"]

GROUP = 48  # patches of a picture that look into the same cells
LARGEST_PLAIN = 65_536  # patches of a bank, up to which one product over all is taken
_RECALL = 0.995  # of the nearest patches, on parts that the search was measured on
_CELLS_PER_BAND = 128  # of like spacing
_PLAIN_CELL = 256  # patches of a cell in which neighbours are looked for
_NEAR_CELLS = 8
_SAMPLE, _ROUNDS = 1024, 3
_ROWS = 16_384
_ASKED = 512  # patches of a part whose nearest are computed in full
_COST_OF_CELL, _COST_OF_LOOK = 2.5, 2.2  # in those of a patch of a bank in one product
_FIRST_SPREAD = 0.5  # of a cell's, taken off the distance to its centre

Points = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """Hold how a memory bank is searched: its cells, and how many of them are looked into.

    `members` (M, capacity) are rows of the bank, each in one cell, of which a smaller one repeats
    its first. `landmarks` (L, C) sort the patches of a picture, so that those that look into the
    same cells are alike.
    """

    members: NDArray[np.intp]
    landmarks: NDArray[np.float32]
    n_near: int


def balanced_cells(
    points: Points, n_cells: int, order: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Return rows of `points` (n, d) in `n_cells` of equal size, a power of 2, (n_cells, capacity).

    Each half is cut in two where its points spread most, cells that follow each other lie near each
    other. `order` picks the rows that are shared out.
    """
    parts = [np.arange(len(points)) if order is None else order]
    rng = np.random.default_rng(0)
    while len(parts) < n_cells:
        parts = [half for part in parts for half in _halves(points, part, rng)]
    capacity = max(map(len, parts))
    return np.stack([np.concatenate([p, np.repeat(p[:1], capacity - len(p))]) for p in parts])


def _halves(
    points: Points, part: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    drawn = part if len(part) <= _SAMPLE else rng.choice(part, _SAMPLE, replace=False)
    sample = points[drawn].astype(np.float32)
    centred = sample - sample.mean(0)
    axis = centred[np.argmax(np.einsum("ij,ij->i", centred, centred))]
    for _ in range(_ROUNDS):  # towards the direction of most variance
        axis = centred.T @ (centred @ axis)
        axis = axis / max(float(np.linalg.norm(axis)), 1e-20)
    for _ in range(_ROUNDS):  # towards what parts the means of both halves
        heights = centred @ axis
        upper = heights > np.median(heights)
        if not upper.any():
            break
        axis = centred[upper].mean(0) - centred[~upper].mean(0)
    heights = np.concatenate(
        [points[rows].astype(np.float32) @ axis for rows in _chunks(part, _ROWS)]
    )
    middle = (len(part) + 1) // 2
    order = np.argpartition(heights, middle - 1)
    return part[order[:middle]], part[order[middle:]]


def learn_cells(
    bank: NDArray[np.float16],
    units: NDArray[np.float32] | None,
    probes: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]],
) -> Cells | None:
    """Return how a bank B×C with spacings `units` (B,) is searched; None: in one product.

    `probes` are the patches P×C of good parts, and which patches of the bank (B,) are of other
    parts. The search looks into as many cells as find the nearest of 99.5 % of these; where that
    takes longer than one product, or the bank is small, there are none.
    """
    if len(bank) <= LARGEST_PLAIN:
        return None
    n_cells = 1 << round(np.log2(4 * len(bank) ** 0.5))
    n_bands = 1 if units is None else max(1, n_cells // _CELLS_PER_BAND)
    n_bands = 1 << round(np.log2(n_bands))
    weights = np.ones(len(bank), np.float32) if units is None else units**-2.0
    bands = np.array_split(np.argsort(-weights, kind="stable"), n_bands)
    found = [balanced_cells(bank, n_cells // n_bands, band) for band in bands]
    capacity = max(each.shape[1] for each in found)
    members = np.concatenate([_filled(each, capacity) for each in found])
    landmarks = _means(bank, balanced_cells(bank, max(1, n_cells // 16)))
    cells = Cells(members, landmarks, 1)
    needed = np.concatenate(
        [_looks_needed(bank, weights, cells, patches, others) for patches, others in probes]
    )
    n_near = 1 + int(np.quantile(needed, _RECALL, method="higher"))
    cost = _COST_OF_CELL * n_cells + _COST_OF_LOOK * n_near * capacity
    return Cells(members, landmarks, n_near) if cost < len(bank) else None


def _looks_needed(
    bank: NDArray[np.float16],
    weights: NDArray[np.float32],
    cells: Cells,
    patches: NDArray[np.float32],
    others: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return how many cells a group looks into before that of a patch's nearest, for some."""
    asked = np.arange(0, len(patches), max(1, len(patches) // _ASKED))
    nearest = _nearest(bank, weights, patches[asked], others)
    cell_of = np.empty(len(bank), np.intp)
    cell_of[cells.members] = np.arange(len(cells.members))[:, np.newaxis]
    landmarks, gains, offsets, own = sort_and_score(bank, weights, cells)
    key = (np.square(landmarks).sum(1) - 2 * patches @ landmarks.T).argmin(1)
    lengths = np.einsum("ij,ij->i", patches, patches)
    scores = patches @ gains + offsets + lengths[:, np.newaxis] * own
    scores -= scores.min(1, keepdims=True)
    order = np.argsort(key, kind="stable")
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    starts = np.arange(0, len(order), GROUP)
    of_groups = np.minimum.reduceat(scores[order], starts, axis=0)[place[asked] // GROUP]
    own_score = of_groups[np.arange(len(asked)), cell_of[nearest]]
    nearer: NDArray[np.intp] = (of_groups < own_score[:, np.newaxis]).sum(1)
    return nearer


def sort_and_score(
    bank: NDArray[np.float16], weights: NDArray[np.float32], cells: Cells
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return landmarks (L, C), and gains (C, M), offsets (M,), weights (M,) that score cells.

    The score of a cell for a patch x is x @ gains + offsets + |x|² weights: its distance to the
    centre, squared, less half of what the cell's own patches have in the mean. Rows of weight 0
    do not count; a cell of nothing else is never looked into.
    """
    n_cells, n_channels = len(cells.members), bank.shape[1]
    centres, spread = np.zeros((n_cells, n_channels), np.float32), np.zeros(n_cells, np.float32)
    own = np.zeros(n_cells, np.float32)
    for i, rows in enumerate(cells.members):
        inside = rows[weights[rows] > 0]
        if len(inside):
            points = bank[inside].astype(np.float32)
            centres[i] = points.mean(0)
            spread[i] = np.square(points - centres[i]).sum(1).mean()
            own[i] = weights[inside].mean()
    offsets = own * (np.square(centres).sum(1) - _FIRST_SPREAD * spread)
    offsets[own == 0] = 1e30
    return cells.landmarks, (-2 * own[:, np.newaxis] * centres).T, offsets, own


def near_spacings(points: Points, num_neighbors: int) -> NDArray[np.float32]:
    """Return the mean distance of each point (n, d) to its nearest others, found in cells near by.

    In place of all others those of the 8 cells of 256 that lie nearest are looked at: a neighbour
    that is missed makes the spacing somewhat larger.
    """
    n_cells = 1 << max(0, round(np.log2(len(points) / _PLAIN_CELL)))
    members = balanced_cells(points, n_cells)
    centres = _means(points, members)
    found = np.empty(len(points), np.float32)
    n_near = min(_NEAR_CELLS, n_cells)
    for i, rows in enumerate(members):
        away = np.square(centres - centres[i]).sum(1)
        others = np.unique(members[np.argpartition(away, n_near - 1)[:n_near]])
        squares = _squared_distances(points[rows].astype(np.float32), points[others])
        squares[rows[:, np.newaxis] == others] = np.inf
        k = min(num_neighbors, len(others) - 1)
        found[rows] = np.sqrt(np.partition(squares, k - 1, axis=1)[:, :k]).mean(1)
    return found


def _nearest(
    bank: NDArray[np.float16],
    weights: NDArray[np.float32],
    patches: NDArray[np.float32],
    others: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return the row of the bank that is nearest to each patch, among the `others`."""
    least = np.full(len(patches), np.inf, np.float32)
    nearest = np.zeros(len(patches), np.intp)
    for rows in _chunks(np.flatnonzero(others) if others.any() else np.arange(len(bank)), _ROWS):
        squares = _squared_distances(patches, bank[rows]) * weights[rows]
        best = squares.argmin(1)
        lower = squares[np.arange(len(patches)), best]
        nearer = lower < least
        least[nearer], nearest[nearer] = lower[nearer], rows[best[nearer]]
    return nearest


def _squared_distances(x: NDArray[np.float32], y: Points) -> NDArray[np.float32]:
    y = y.astype(np.float32)
    squares: NDArray[np.float32] = x @ (-2 * y.T)
    squares += np.einsum("ij,ij->i", y, y)
    squares += np.einsum("ij,ij->i", x, x)[:, np.newaxis]
    np.maximum(squares, 0, out=squares)
    return squares


def _means(points: Points, members: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.stack([points[rows].astype(np.float32).mean(0) for rows in members])


def _filled(members: NDArray[np.intp], capacity: int) -> NDArray[np.intp]:
    missing = capacity - members.shape[1]
    return np.concatenate([members, np.repeat(members[:, :1], missing, axis=1)], axis=1)


def _chunks(rows: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]
