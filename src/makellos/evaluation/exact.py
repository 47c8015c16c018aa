"""Exact bounds of shares, and how many good parts a threshold set by chance rejects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from makellos.calibration.beta import beta_quantile, log_beta
from makellos.errors import InputError

__all__ = [
    "Share",
    "effective_units",
    "exact_bounds",
    "rejected_as_many",
    "share_of",
]


@dataclass(frozen=True)
class Share:
    """Hold that `n_hit` of `n` were hit: their `share`, and its 95 % bounds, in [0, 1].

    They are exact for parts by themselves. Parts of a group are alike: of `n_units` groups, and
    parts by themselves, the bounds count as many as `effective_units` says. Share and bounds are
    None without parts.
    """

    n_hit: int
    n: int
    n_units: int
    share: float | None
    low: float | None
    high: float | None


def share_of(hit: Sequence[bool], groups: Sequence[str | None]) -> Share:
    """Return the share of parts that were hit; `groups` names that of each part, or None.

    Raises `InputError` for lengths that differ.

    >>> share_of([True, False, False], [None, None, None]).n_units
    3
    """
    if len(hit) != len(groups):
        raise InputError(f"There are {len(hit)} parts and {len(groups)} groups; expected as many.")
    n, n_hit = len(hit), sum(map(bool, hit))
    if not n:
        return Share(0, 0, 0, None, None, None)
    n_units = len({group for group in groups if group is not None}) + list(groups).count(None)
    n_counted = effective_units(groups)
    low, high = exact_bounds(n_hit / n * n_counted, n_counted)
    return Share(n_hit, n, n_units, n_hit / n, low, high)


def effective_units(groups: Sequence[str | None]) -> float:
    """Return as how many independent parts those count that `groups` names, 0 without any.

    It is the number of groups where all have one size, and fewer where some are larger than
    others (Kish 1965): then these decide the share.

    >>> effective_units(["a", "a", "b", "b"]), round(effective_units(["a", "a", "a", "b"]), 2)
    (2.0, 1.6)
    """
    sizes = Counter(group for group in groups if group is not None)
    squares = sum(size**2 for size in sizes.values()) + list(groups).count(None)
    return len(groups) ** 2 / squares if squares else 0.0


def exact_bounds(n_hit: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided bounds of a share in [0, 1] (Clopper and Pearson 1934).

    `n_hit` of `n` parts were hit; neither need be whole, for parts that count together (Korn and
    Graubard 1998). Raises `InputError` unless 0 <= `n_hit` <= `n` and 0 < `n`.

    >>> [round(bound, 4) for bound in exact_bounds(0, 29)]
    [0.0, 0.1194]
    """
    if not (0 <= n_hit <= n and n > 0):
        raise InputError(f"{n_hit} of {n} is no share. Give parts, and how many of them.")
    tail = (1 - level) / 2
    low = beta_quantile(n_hit, n - n_hit + 1, tail) if n_hit > 0 else 0.0
    high = beta_quantile(n_hit + 1, n - n_hit, 1 - tail) if n_hit < n else 1.0
    return low, high


def rejected_as_many(n_rejected: int, n_good: int, n_units: int, budget: float) -> float:
    """Return how likely `n_rejected` or more of `n_good` new good parts are rejected by chance.

    `n_units` good parts like them set the threshold for a `budget` in (0, 1). It is the k-th
    highest score of them, so that the share rejected has the distribution Beta(k, n + 1 - k), and
    their number a beta-binomial one.

    >>> round(rejected_as_many(3, 100, 99, 0.01), 3)
    0.125
    """
    k = max(1, math.floor(budget * (n_units + 1) + 1e-9))
    a, b = k, n_units + 1 - k
    logs = (
        math.lgamma(n_good + 1)
        - math.lgamma(i + 1)
        - math.lgamma(n_good - i + 1)
        + log_beta(i + a, n_good - i + b)
        - log_beta(a, b)
        for i in range(n_rejected)
    )
    return max(0.0, 1.0 - math.fsum(math.exp(each) for each in logs))
