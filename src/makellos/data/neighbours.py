"""Which of many vectors lie nearest to each, in less than quadratic time, and what they join."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Joined", "nearest"]

_EXACT = 8192  # vectors, of which each is compared with every other
_ROWS = 512
_CELLS_EACH = 3  # cells that a vector is looked for in, where there are more vectors
_LARGEST = 8192  # members of a cell that are compared with each other

Vectors = NDArray[np.float32]
Numbers = NDArray[np.intp]


def nearest(vectors: Vectors, k: int) -> Iterator[tuple[Numbers, Numbers, Vectors]]:
    """Yield for blocks of vectors (n, d) their numbers (m,), those most like each, and how much.

    Likeness is the inner product, `k` others of each are found (m, k), in no order. Of more than
    8,192 vectors, each is compared with those that share one of its three nearest cells alone, so
    that time grows as n times its root: vectors far more alike than is usual, as copies are, share
    cells; where there are fewer than `k`, the rest has a likeness of minus infinity.
    """
    if len(vectors) > _EXACT:
        yield np.arange(len(vectors)), *_through_cells(vectors, k)
        return
    for start in range(0, len(vectors), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(vectors)))
        alike = vectors[rows] @ vectors.T
        alike[np.arange(len(rows)), rows] = -np.inf
        found = np.argpartition(-alike, k - 1, axis=1)[:, :k]
        yield rows, found, np.take_along_axis(alike, found, 1)


class Joined:
    """Hold which of `n` things belong together, as they are joined two by two."""

    def __init__(self, n: int) -> None:
        self._above = list(range(n))

    def of(self, i: int) -> int:
        """Return the one that stands for all that belong to thing `i`."""
        above = self._above
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Let all that belongs to `j` belong to what `i` belongs to."""
        self._above[self.of(j)] = self.of(i)


def _through_cells(vectors: Vectors, k: int) -> tuple[Numbers, Vectors]:
    n, n_cells = len(vectors), math.isqrt(len(vectors))
    cells = _cells_of(vectors, n_cells)
    order = np.argsort(cells.ravel(), kind="stable")
    ends = np.searchsorted(cells.ravel()[order], np.arange(n_cells + 1))
    found = np.zeros((n, k), np.intp)
    alike = np.full((n, k), -np.inf, np.float32)
    for first, last in pairwise(ends.tolist()):
        members = order[first:last] // _CELLS_EACH
        for start in range(0, len(members), _LARGEST):
            _compare(vectors, members[start : start + _LARGEST], found, alike)
    return found, alike


def _cells_of(vectors: Vectors, n_cells: int) -> Numbers:
    """Return the numbers (n, 3) of the cells whose centres, vectors evenly drawn, are nearest."""
    centres = vectors[np.linspace(0, len(vectors) - 1, n_cells).astype(np.intp)]
    squares = np.square(centres).sum(1)
    cells = np.empty((len(vectors), _CELLS_EACH), np.intp)
    for start in range(0, len(vectors), _ROWS):
        far = squares - 2 * (vectors[start : start + _ROWS] @ centres.T)
        near = np.argpartition(far, _CELLS_EACH - 1, axis=1)[:, :_CELLS_EACH]
        cells[start : start + _ROWS] = near
    return cells


def _compare(vectors: Vectors, members: Numbers, found: Numbers, alike: Vectors) -> None:
    """Take what members of one cell are like each other into `found` and `alike` (n, k)."""
    k = found.shape[1]
    own = vectors[members]
    for start in range(0, len(members), _ROWS):
        rows = members[start : start + _ROWS]
        near = own[start : start + _ROWS] @ own.T
        near[np.arange(len(rows)), start + np.arange(len(rows))] = -np.inf
        if near.shape[1] > k:
            best = np.argpartition(-near, k - 1, axis=1)[:, :k]
            near = np.take_along_axis(near, best, 1)
        else:
            best = np.broadcast_to(np.arange(len(members)), near.shape)
        numbers = members[best]
        # Two that share several cells count once.
        near[(numbers[:, :, np.newaxis] == found[rows][:, np.newaxis, :]).any(2)] = -np.inf
        both = np.concatenate([alike[rows], near], axis=1)
        those = np.concatenate([found[rows], numbers], axis=1)
        kept = np.argpartition(-both, k - 1, axis=1)[:, :k]
        found[rows] = np.take_along_axis(those, kept, 1)
        alike[rows] = np.take_along_axis(both, kept, 1)
