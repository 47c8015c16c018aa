"""What good parts of earlier lots say of a part of a lot to come, or of one that has begun.

Lots (groups of parts) are exchangeable, and so are the parts within each; parts of different lots
are not. One part drawn from each of K lots and a part of a new lot are exchangeable (single
subsampling, Dunn, Wasserman and Ramdas 2022, arXiv 1809.07441): they calibrate as K parts do.

Where n good parts of the new lot are known, n + 1 parts are drawn from each earlier lot. In each of
these K + 1 blocks every part is measured against the others of its block, by their mean and spread;
then any of the (K + 1)(n + 1) parts is as likely as any other to be the highest. So many parts
calibrate, each put at the level and the spread of the new lot.

A draw depends on luck. Thresholds are therefore averaged over many draws, rank by rank. Where
higher scores of good parts are rarer, their share above a threshold is convex in it, and the
average threshold lets through no more than the draws do on average (Jensen): what a single draw
promises holds for the average. Deviations from the paper, which averages p-values: that costs half
of the guarantee or, at the smallest budget, all power.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["expected_ranks", "lots_larger_than", "scores_in_lot", "weighted_ranks"]

_DRAWS = 256
_SAMPLES = 4_000_000  # scores drawn at most, which bounds time and memory
_COMMON = 10.0  # parts of a lot that the spread common to all lots counts as
_LEAST = 1e-12  # a spread, relative to the scores
_MOST_LEVELS = 4096  # sums of weights at which thresholds are known
_ROUNDING = 1e-9


def expected_ranks(
    scores: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    """Return the expected scores (K,), in ascending order, of one part drawn from each of K groups.

    Those of the parts themselves, (n,), where no parts belong together. Neither the order of parts
    nor the names of groups matter.
    """
    if groups is None or len(set(groups)) == scores.size:
        return np.sort(scores)
    # In an order that neither names nor parts decide.
    lots = sorted(lot.tolist() for lot in _lots(scores, groups))
    drawn = _one_of_each([np.array(lot) for lot in lots])
    ranks = np.sort(drawn, axis=0)
    # The mean of equal numbers may be off by rounding.
    found: NDArray[np.float64] = ranks.mean(1).clip(ranks.min(1), ranks.max(1))
    return found


def _one_of_each(lots: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return draws (K, draws) of a score of each of K lots, which are in ascending order."""
    n_draws = _n_draws(len(lots))
    random = np.random.PCG64(0).random_raw(len(lots) * n_draws).reshape(len(lots), n_draws)
    drawn = np.repeat([[lot[0]] for lot in lots], n_draws, axis=1)
    # Most lots are of one part, and what is drawn from these is known.
    several = [number for number, lot in enumerate(lots) if lot.size > 1]
    # Each lot is drawn from evenly, so that only how lots meet is left to chance.
    shares = (np.argsort(random[several], axis=1, kind="stable") + 0.5) / n_draws
    for number, share in zip(several, shares, strict=True):
        drawn[number] = lots[number][(share * lots[number].size).astype(int)]
    return drawn


def weighted_ranks(
    scores: NDArray[np.float64], weights: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores (m,), in ascending order, and the weight (m + 1,) of parts at or above each.

    The last weight, 0, is that above all. Of groups, one part is drawn from each, which has the
    highest weight of the group, and the score that leaves no more than a weight above it is
    averaged over draws.
    """
    if groups is None or len(set(groups)) == scores.size:
        order = np.argsort(scores, kind="stable")
        return scores[order], np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    members: dict[Hashable, tuple[list[float], list[float]]] = {}
    for name, score, weight in zip(groups, scores.tolist(), weights.tolist(), strict=True):
        own = members.setdefault(name, ([], []))
        own[0].append(score)
        own[1].append(weight)
    lots = sorted((sorted(own), max(weight)) for own, weight in members.values())
    drawn = _one_of_each([np.array(own) for own, _ in lots])
    order = np.argsort(-drawn, axis=0, kind="stable")
    highest = np.take_along_axis(drawn, order, 0)
    above = np.cumsum(np.array([weight for _, weight in lots])[order], axis=0)
    levels = np.unique(np.append(0.0, above.round(9)))[:-1]
    levels = levels[:: -(-levels.size // _MOST_LEVELS)]
    limits = np.zeros(levels.size)
    for scores_of, weights_of in zip(highest.T, above.T, strict=True):
        # The highest score whose part, with all above it, weighs more than the level.
        first = np.searchsorted(weights_of, levels + _ROUNDING, side="right")
        limits += scores_of[np.minimum(first, len(lots) - 1)]
    limits /= drawn.shape[1]
    return limits[::-1], np.append(above[-1, 0], levels[::-1])


def lots_larger_than(n: int, groups: Sequence[Hashable] | None) -> int:
    """Return how many groups have more than `n` parts."""
    return sum(size > n for size in Counter(groups or ()).values())


def scores_in_lot(
    scores: ArrayLike, groups: Sequence[Hashable], first: ArrayLike
) -> NDArray[np.float64]:
    """Return the scores that calibrate a lot of which `first` (n,) are known, n of at least 2.

    `scores` (m,) are those of good parts of earlier lots, named by `groups` (m,); the K lots with
    more than n parts count. The result (K (n + 1) + n,), in ascending order, calibrates as so many
    parts of this lot would.
    """
    known = np.asarray(first, np.float64)
    n = known.size
    lots = [lot for lot in _lots(np.asarray(scores, np.float64), groups) if lot.size > n]
    n_draws = _n_draws(len(lots) * (n + 1) + n)
    rng, blocks = np.random.default_rng(0), np.zeros((n_draws, len(lots), n + 1))
    for i, lot in enumerate(lots):
        blocks[:, i] = lot[rng.random((n_draws, lot.size)).argsort(1)[:, : n + 1]]
    found: NDArray[np.float64] = np.sort(_at_level(blocks, known), axis=1).mean(0)
    return found


def _at_level(blocks: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return parts of blocks (draws, K, n + 1) at the level and spread of the n `known`, and those.

    A part is measured against the n others of its block. The spread of these is drawn towards what
    is common to all blocks: of few parts it says little. The known ones count as a block without
    the part that is still to come; with it, where it is high, the common spread would be wider and
    all others less far out, so that to leave it out errs on the safe side.
    """
    n, (n_draws, n_lots, _) = known.size, blocks.shape
    apart = (blocks - blocks.mean(2, keepdims=True)) * (n + 1) / n  # from the mean of the others
    around, own = blocks.var(2, ddof=1, keepdims=True), known.var(ddof=1)
    without = (around * n - apart**2 * n / (n + 1)) / (n - 1)
    every = around.sum(1, keepdims=True) + own
    common = (every - around + without) / (n_lots + 1)
    highest = max(np.abs(known).max(), np.abs(blocks).max(initial=0), 1e-300)
    least = (_LEAST * highest) ** 2
    spreads = np.sqrt(np.maximum(_drawn_in(without, common, n), least))
    spread = np.sqrt(np.maximum(_drawn_in(own, every / (n_lots + 1), n), least))
    moved = (known.mean() + spread * apart / spreads).reshape(n_draws, -1)
    return np.concatenate([moved, np.tile(known, (n_draws, 1))], axis=1)


def _drawn_in(own: ArrayLike, common: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    mixed: NDArray[np.float64] = (_COMMON * common + (n - 1) * np.asarray(own)) / (_COMMON + n - 1)
    return mixed


def _lots(scores: NDArray[np.float64], groups: Sequence[Hashable]) -> list[NDArray[np.float64]]:
    """Return the scores of each group in ascending order."""
    members: dict[Hashable, list[float]] = {}
    for score, name in zip(scores.tolist(), groups, strict=True):
        members.setdefault(name, []).append(score)
    return [np.sort(each) for each in members.values()]


def _n_draws(n: int) -> int:
    return max(64, min(_DRAWS, _SAMPLES // n))
