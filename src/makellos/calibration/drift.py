"""Whether a stream of parts has left the good state: test martingales with a false-alarm rate.

A channel is a figure that each part has. From n good parts its order statistics are known, and the
share of good parts to come that lies beyond one of them has a beta distribution (Wilks 1941), so
that an upper bound q on it holds with any confidence wanted. A bet that pays 1 / q where a part
lies beyond multiplies a wealth that does not grow in expectation as long as the good state lasts,
however parts depend on one another; the finite sample is part of the bound, where conformal
p-values would be uniform only on average over samples. Wealths of all channels, levels and stakes
are joined by the Shiryaev-Roberts procedure (Vovk et al., Retrain or not retrain: conformal test
martingales for change-point detection, 2021): from a sum of theirs above 10,000 / r on there is an
alarm, and in the good state at most r alarms come in 10,000 parts on average.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from makellos.calibration.beta import beta_quantile
from makellos.errors import ConfigurationError, InputError

__all__ = ["ALLOWED", "Limits", "Watch", "alarm_level", "largest_share", "learn_limits"]

ALLOWED = 0.02  # share of parts that may lie anywhere, such as defective ones
STAKES = (0.25, 0.5, 0.9)  # shares of the wealth that a bet risks

Floats = NDArray[np.float64]


def alarm_level(false_alarms: float) -> float:
    """Return the sum of wealths at which `false_alarms` in 10,000 parts are kept.

    Raises `ConfigurationError` for a rate that is not above 0 and up to 1000.
    """
    if not 0 < false_alarms <= 1000:
        raise ConfigurationError(
            f"The false alarms per 10,000 parts are {false_alarms:g}; expected a number above 0 "
            "and up to 1000, such as 1."
        )
    return 10_000 / false_alarms


@lru_cache(maxsize=4096)
def largest_share(n: int, k: int, doubt: float) -> float:
    """Return what the share of parts beyond the k-th highest of n is below, but for `doubt`.

    It is the quantile 1 - `doubt` of Beta(k, n + 1 - k): there k - 1 or fewer of n parts would lie
    beyond it with probability `doubt`.

    >>> round(largest_share(99, 1, 0.05), 4)
    0.0298
    """
    return beta_quantile(k, n + 1 - k, 1.0 - doubt)


@dataclass(frozen=True, eq=False)
class Limits:
    """Hold between which figures good parts lie: `low` and `high` (C, L) of channels and levels.

    `share` (C, L) is what of the parts to come lies beyond a limit in the good state at most; 1
    where nothing is known.
    """

    low: Floats
    high: Floats
    share: Floats

    def joined(self, other: Limits) -> Limits:
        """Return the limits of the channels of both."""
        return Limits(
            np.concatenate([self.low, other.low]),
            np.concatenate([self.high, other.high]),
            np.concatenate([self.share, other.share]),
        )


def ranks(n: int, levels: Sequence[float]) -> list[int]:
    """Return which highest and lowest of n figures are limits at levels: the k-th of each."""
    return [max(1, math.ceil(level * n)) for level in levels]


def learn_limits(
    values: Floats,
    levels: Sequence[float],
    doubt: float,
    groups: Sequence[Hashable] | None = None,
) -> Limits:
    """Return the limits of channels from good parts' figures (n, C), NaN where a part has none.

    At the level 0 they are the highest and lowest figure, at 0.1 those that a tenth lies beyond.
    With probability `doubt` at most, shared by all channels, a share is larger than is said. Of
    parts that belong together one counts, which is drawn. Raises `InputError` for other shapes.
    """
    if values.ndim != 2 or not len(values):
        raise InputError(f"Limits are learned from figures (n, C); received {values.shape}.")
    if groups is not None:
        values = values[_one_of_each(groups)]
    ordered = np.sort(values, axis=0)  # NaN last
    known = (~np.isnan(values)).sum(axis=0)
    n_channels = values.shape[1]
    each = doubt / max(1, 2 * n_channels * len(levels))
    low, high = np.zeros((2, n_channels, len(levels)))
    share = np.ones((n_channels, len(levels)))
    for n in np.unique(known[known > 0]).tolist():
        (those,) = np.nonzero(known == n)
        for j, k in enumerate(ranks(n, levels)):
            low[those, j], high[those, j] = ordered[k - 1, those], ordered[n - k, those]
            share[those, j] = min(1.0, largest_share(n, k, each) + ALLOWED)
    return Limits(low, high, share)


def _one_of_each(groups: Sequence[Hashable]) -> list[int]:
    """Return the place of one part of each group; the first may be of a kind, such as darker."""
    drawn: dict[Hashable, int] = {}
    for place in np.random.default_rng(0).permutation(len(groups)).tolist():
        drawn.setdefault(groups[place], place)
    return sorted(drawn.values())


@dataclass
class Watch:
    """Hold the wealths of bets on channels, (2, C, L, S): below and above, by level and stake.

    `weights` (C,) are shares of the first wealth; those of all watches that are judged together sum
    to 1.
    """

    limits: Limits
    weights: Floats
    sums: Floats = field(init=False)
    runs: Floats = field(init=False)
    begun: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        shape = (2, *self.limits.share.shape, len(STAKES))
        self.sums = np.full(shape, -np.inf)  # logarithms
        self.runs = np.zeros(shape)
        self.begun = np.zeros(shape, np.int64)

    def update(self, values: Floats, number: int) -> None:
        """Bet on a part's figures (C,); where there is none the wealth stays. It is the n-th."""
        known = ~np.isnan(values)
        if not known.any():
            return
        figures = values[known, np.newaxis]
        limits, share = self.limits, self.limits.share[known]
        beyond = np.stack([figures < limits.low[known], figures > limits.high[known]])
        stakes = np.array(STAKES)
        won = np.log1p(stakes * (1 / share[..., np.newaxis] - 1))
        paid = np.where(beyond[..., np.newaxis], won, np.log1p(-stakes))
        paid = np.where(share[..., np.newaxis] < 1, paid, 0.0)
        self.sums[:, known] = np.logaddexp(self.sums[:, known], 0.0) + paid
        runs, begun = self.runs[:, known], self.begun[:, known]
        begun = np.where(runs <= 0, number, begun)
        self.runs[:, known] = np.maximum(runs, 0.0) + paid
        self.begun[:, known] = begun

    def total(self) -> float:
        """Return the weighted sum of Shiryaev and Roberts."""
        return float(np.exp(np.minimum(self._weighted(self.sums), 600)).sum())

    def evidence(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Return the logarithm of each channel's best run (2, C), below and above; 0 at least.

        It is averaged over levels and stakes; with the sum (2, C), and when the best one began.
        """
        shape = (*self.runs.shape[:2], -1)
        runs = np.maximum(self.runs, 0.0).reshape(shape)
        best = runs.argmax(axis=2)[..., np.newaxis]
        begun = np.take_along_axis(self.begun.reshape(shape), best, axis=2)[..., 0]
        mean = np.log(np.exp(np.minimum(runs, 600)).mean(axis=2))
        sums = np.exp(np.minimum(self._weighted(self.sums), 600)).reshape(shape).sum(axis=2)
        return mean, sums, begun

    def state(self) -> dict[str, Any]:
        """Return what a later watch with the same limits goes on from, as plain data."""
        return {
            "sums": [None if not np.isfinite(v) else round(v, 9) for v in self.sums.ravel()],
            "runs": [round(v, 9) for v in self.runs.ravel().tolist()],
            "begun": self.begun.ravel().tolist(),
        }

    def restored(self, state: dict[str, Any]) -> Self:
        """Take over a state; raise `InputError` where it is of other channels."""
        try:
            sums = np.array([-np.inf if v is None else v for v in state["sums"]], np.float64)
            self.sums = sums.reshape(self.sums.shape)
            self.runs = np.array(state["runs"], np.float64).reshape(self.runs.shape)
            self.begun = np.array(state["begun"], np.int64).reshape(self.begun.shape)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"The state of the watch is of other channels: {error}.") from None
        return self

    def _weighted(self, logarithms: Floats) -> Floats:
        _, n_levels, n_stakes = logarithms.shape[1:]
        weights = self.weights / (2 * n_levels * n_stakes)
        with np.errstate(divide="ignore"):
            found: Floats = logarithms + np.log(weights)[:, np.newaxis, np.newaxis]
        return found
