"""The distance to a large memory bank in a graph that looks into a few cells of it alone.

The patches of a picture are sorted by the landmark nearest to each, so that those that follow each
other are alike, and cut into groups. A group looks into the cells that come nearest to any of its
patches, and there products and squares are those of `GraphBuilder.nearest_distance`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.patches.cells import GROUP, Cells, sort_and_score

__all__ = ["distance_by_cells"]

_NEVER = np.float32(1e30)  # squared distance of what is left out
_VALUES = 1 << 23  # distances that are held at once


def distance_by_cells(
    builder: GraphBuilder,
    patches: str,
    n_patches: int,
    bank: NDArray[np.float16],
    weights: NDArray[np.float32],
    cells: Cells,
) -> str:
    """Return the distance of patches N×P×C to the nearest that is found of bank B×C, as N×P×1.

    `n_patches` is P. Squared distances to a patch of the bank count by its weight (B,); one of
    weight 0 is left out.
    """
    landmarks, gains, offsets, own = sort_and_score(bank, weights, cells)
    n_cells, size = len(cells.members), min(GROUP, n_patches)
    n_groups = -(-n_patches // size)
    order, back = _order(builder, patches, n_patches, n_groups * size, landmarks)
    ordered = _taken(builder, patches, order)
    lengths = builder.squared_length(ordered)
    scores = builder.add("Add", _product(builder, ordered, gains), builder.constant(offsets))
    scores = builder.add("Add", scores, builder.add("Mul", lengths, builder.constant(own)))
    best = builder.add("ReduceMin", scores, attributes={"axes": [2], "keepdims": 1})
    gaps = builder.add("Sub", scores, best)
    gaps = builder.add("Reshape", gaps, builder.shape(0, n_groups, size, n_cells))
    gaps = builder.add("ReduceMin", gaps, attributes={"axes": [2], "keepdims": 0})
    looked_at = builder.smallest(gaps, min(cells.n_near, n_cells), axis=2)
    groups = builder.add("Reshape", ordered, builder.shape(0, n_groups, 1, size, bank.shape[1]))
    lengths = builder.add("Reshape", lengths, builder.shape(0, n_groups, 1, size, 1))
    stored = _stored(builder, bank, weights, cells)
    together = max(1, _VALUES // (size * cells.n_near * cells.members.shape[1]))
    pieces = []
    for start in range(0, n_groups, together):
        piece, own_lengths, cells_of_piece = (
            _part(builder, x, start, together) for x in (groups, lengths, looked_at)
        )
        pieces.append(_least(builder, piece, own_lengths, cells_of_piece, stored))
    least = pieces[0]
    if len(pieces) > 1:
        least = builder.add("Concat", *pieces, attributes={"axis": 1})
    least = builder.add("Reshape", least, builder.shape(0, n_groups * size, 1))
    return builder.root(_taken(builder, least, back))


def _stored(
    builder: GraphBuilder, bank: NDArray[np.float16], weights: NDArray[np.float32], cells: Cells
) -> tuple[str, str, str]:
    """Add the bank by cells: products M×C×capacity, squares and weights M×1×capacity."""
    own = weights[cells.members]
    products = np.empty((len(own), bank.shape[1], own.shape[1]), np.float16)
    squares = np.full(own.shape, _NEVER, np.float32)
    for i, rows in enumerate(cells.members):
        # Squares are those of what was rounded: what cancels must cancel.
        rounded = (own[i][:, np.newaxis] * bank[rows].astype(np.float32)).astype(np.float16)
        products[i] = -2 * rounded.T
        counts = own[i] > 0
        lengths = np.square(rounded[counts].astype(np.float32)).sum(1)
        squares[i, counts] = lengths / own[i, counts]
    cast = {"to": builder.float_kind}
    return (
        builder.add("Cast", builder.constant(products), attributes=cast),
        builder.constant(squares[:, np.newaxis]),
        builder.constant(own[:, np.newaxis].astype(np.float32)),
    )


def _least(
    builder: GraphBuilder, groups: str, lengths: str, looked_at: str, stored: tuple[str, str, str]
) -> str:
    """Return the least squared distance of groups N×G×1×g×C in the cells N×G×K, as N×G×1×g×1."""
    products, squares, weights = (
        builder.add("Gather", each, looked_at, attributes={"axis": 0}) for each in stored
    )
    total = builder.add("Add", builder.add("MatMul", groups, products), squares)
    total = builder.add("Add", total, builder.add("Mul", lengths, weights))
    return builder.add("ReduceMin", total, attributes={"axes": [2, 4], "keepdims": 1})


def _order(
    builder: GraphBuilder, patches: str, n: int, n_padded: int, landmarks: NDArray[np.float32]
) -> tuple[str, str]:
    """Return the places of patches N×P×C in the order of their landmarks, and the way back.

    The order repeats its first up to `n_padded`.
    """
    squares = builder.constant(np.square(landmarks).sum(1))
    away = builder.add("Add", _product(builder, patches, -2 * landmarks.T), squares)
    nearest = builder.add("ArgMin", away, attributes={"axis": 2, "keepdims": 0})
    # Patches of one landmark keep their order, or runtimes would sort them each in its own way.
    key = builder.add("Mul", nearest, builder.constant(np.array(n, np.int64)))
    key = builder.add("Add", key, builder.constant(np.arange(n, dtype=np.int64)))
    order = builder.smallest(key, n, axis=1)
    back = builder.smallest(order, n, axis=1)
    if n_padded > n:
        first = _part(builder, order, 0, n_padded - n)
        order = builder.add("Concat", order, first, attributes={"axis": 1})
    return order, back


def _taken(builder: GraphBuilder, x: str, order: str) -> str:
    """Return rows of N×P×C in an order N×Q, as N×Q×C."""
    places = builder.add("Unsqueeze", order, builder.shape(2))
    return builder.add("GatherND", x, places, attributes={"batch_dims": 1})


def _product(builder: GraphBuilder, x: str, y: NDArray[np.float32]) -> str:
    return builder.add("MatMul", x, builder.constant(np.ascontiguousarray(y, np.float32)))


def _part(builder: GraphBuilder, x: str, start: int, count: int) -> str:
    """Return `count` entries of the second axis from `start` on, or as many as there are."""
    return builder.add(
        "Slice", x, builder.shape(start), builder.shape(start + count), builder.shape(1)
    )
