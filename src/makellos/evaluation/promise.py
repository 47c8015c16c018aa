"""Whether the good parts that were rejected agree with what was promised of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from makellos.calibration.beta import beta_quantile, beta_share
from makellos.errors import InputError

__all__ = ["PromiseCheck", "check_promise", "realised_range", "share_of_plants"]

LEVEL = 0.05  # below it, chance is no explanation

Finding = Literal["kept", "chance", "broken", "unknown"]
Unit = Literal["parts", "groups", "recordings"]


@dataclass(frozen=True)
class PromiseCheck:
    """Hold how the rejected good parts compare with the false-alarm budget.

    `n_units` are what was counted, parts or groups of them or recordings; `n_rejected` of them were
    rejected, a group by the share of its parts. `p_value` is how likely so many or more are where
    the promise holds, None for fewer than two units. `finding` is ``kept`` (the share is within the
    budget), ``chance`` (above it, which chance explains), ``broken`` (which chance does not
    explain) or ``unknown`` (one unit shows nothing).
    """

    unit: Unit
    n_units: int
    n_rejected: float
    p_value: float | None
    finding: Finding


def check_promise(
    rejected: Sequence[bool],
    groups: Sequence[str | None],
    budget: float,
    *,
    unit: Unit | None = None,
) -> PromiseCheck | None:
    """Compare rejected good parts with a budget in (0, 1), by the exact binomial test of groups.

    `groups` names the group of each part, None for a part by itself. Parts of a group are alike, so
    that a group counts once, by the share of its parts that is rejected; the sum of shares is
    rounded down, in favour of the promise. `unit` is what a group is called. None without parts;
    raises `InputError` for lengths that differ.

    >>> check_promise([True] * 4 + [False] * 26, [None] * 30, 0.05).finding
    'chance'
    >>> check_promise([True] + [False] * 28, ["a"] * 29, 0.01).finding
    'unknown'
    """
    if len(rejected) != len(groups):
        raise InputError(
            f"There are {len(rejected)} verdicts and {len(groups)} groups; expected as many."
        )
    members: dict[tuple[str, object], list[bool]] = {}
    for i, (each, group) in enumerate(zip(rejected, groups, strict=True)):
        members.setdefault(("part", i) if group is None else ("group", group), []).append(each)
    if not members:
        return None
    n = len(members)
    total = math.fsum(sum(each) / len(each) for each in members.values())
    called = unit or ("groups" if n < len(rejected) else "parts")
    if n == 1:
        return PromiseCheck(called, n, total, None, "unknown")
    p_value = _as_many(math.floor(total + 1e-9), n, budget)
    finding: Finding = "kept" if total <= budget * n * (1 + 1e-9) else "chance"
    if finding == "chance" and p_value < LEVEL:
        finding = "broken"
    return PromiseCheck(called, n, total, p_value, finding)


def realised_range(n_units: int, budget: float, level: float = 0.95) -> tuple[float, float]:
    """Return between which shares the good parts lie that are rejected, with probability `level`.

    `n_units` good parts (or groups) set the threshold for a `budget` in (0, 1). Another `n_units`
    would set another: the share rejected, in [0, 1], has the distribution Beta(k, n + 1 - k), where
    the k-th highest score is the threshold. Its mean is within the budget; one plant has one draw.

    >>> [round(share, 4) for share in realised_range(99, 0.01)]
    [0.0003, 0.0366]
    """
    k = max(1, math.floor(budget * (n_units + 1) + 1e-9))
    tail = (1 - level) / 2
    b = n_units + 1 - k
    return beta_quantile(k, b, tail), beta_quantile(k, b, 1 - tail)


def share_of_plants(n_units: int, budget: float, rate: float) -> float:
    """Return in which share of plants at most a `rate` of good parts is rejected.

    Arguments are those of `realised_range`.
    """
    return _as_many(max(1, math.floor(budget * (n_units + 1) + 1e-9)), n_units, rate)


def _as_many(k: int, n: int, share: float) -> float:
    """Return the probability of k or more of n, each by itself with a probability of `share`."""
    return beta_share(k, n + 1 - k, share) if k > 0 else 1.0
