"""Conformal p-values and thresholds from the scores of good parts alone.

Split conformal prediction (Vovk et al. 2005; Bates et al. 2023 for anomaly detection) promises:
of the good parts still to come, at most the share `false_alarms` is rejected, on average over
calibrations, whatever the detector and whatever the distribution of its scores, as long as
calibration parts and coming parts are exchangeable. Where good parts come in groups (exposures of
one tile, parts of one lot) the groups are exchangeable and the parts are not: each group then
counts as one part, drawn from it (see `lots`). The promise holds for a part of a group not seen
before, on average over groups: of a single group more may be rejected.

Where parts resemble those to come more or less, they can have weights (Barber, Candès, Ramdas and
Tibshirani 2023, arXiv 2202.13415): a part of weight w in (0, 1] counts as w parts, a new one as 1.
More than the budget is then rejected by at most the sum, over parts, of the weight's share of all
times the total variation distance between a set of parts and the same with that one and the new one
exchanged: nothing where parts are exchangeable, little where only those of little weight differ.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.calibration.lots import expected_ranks, weighted_ranks
from makellos.errors import ConfigurationError, InputError

__all__ = ["Calibration", "Verdict", "check_look_again", "parts_needed", "realised_rate"]

Verdict = Literal["ok", "look_again", "reject"]
_LOOK_AGAIN = 2.0  # budgets, beside that of rejects, that parts looked at again have by default
_MOST_AGAIN = 0.5
_ROUNDING = 1e-9  # relative: sums of weights such as 1/3 carry rounding


def parts_needed(false_alarms: float) -> int:
    """Return how many good parts (or groups) it takes to promise the budget `false_alarms`.

    >>> parts_needed(0.01)
    99
    """
    return math.ceil((1.0 - _ROUNDING) / _check_budget(false_alarms)) - 1


@dataclass(frozen=True, eq=False)
class Calibration:
    """Turn scores into p-values, thresholds and verdicts under a false-alarm budget.

    `scores` (n,) are those of good parts that the detector has not learned from, and `groups` (n,)
    says which of them belong together (None: none do). `asked` is the budget in (0, 0.5].
    `tolerance` (in units of the scores) is how much the same part's score may differ between
    runtimes: scores closer than this count as equal, so that a verdict does not depend on rounding.
    `look_again` is the share of good parts, beside those rejected, that may be looked at again, in
    [0, 0.5]; None is twice the budget. `weights` (n,) say as how many parts each counts, in (0, 1],
    and the highest of a group those of the group; None is 1 for each.

    Raises `InputError` for no scores or scores that are not finite, `ConfigurationError` for a
    budget, a tolerance or weights out of range.
    """

    scores: NDArray[np.float64]
    asked: float = 0.01
    groups: Sequence[Hashable] | None = field(default=None, repr=False)
    tolerance: float = 0.0
    look_again: float | None = None
    weights: NDArray[np.float64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64)
        if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
            raise InputError(
                f"Calibration takes the finite scores (n,) of good parts; received shape "
                f"{scores.shape} with {int((~np.isfinite(scores)).sum())} that are not finite. "
                "Score at least one good part, and leave out parts without a finite score."
            )
        if self.groups is not None and len(self.groups) != scores.size:
            raise InputError(
                f"{scores.size} scores have {len(self.groups)} groups; expected one group per "
                "score. Give every part a group, or none."
            )
        if not 0.0 <= self.tolerance < math.inf:
            raise ConfigurationError(
                f"The tolerance is {self.tolerance:g}; expected a finite difference of scores "
                "of at least 0."
            )
        _check_budget(self.asked)
        check_look_again(self.look_again)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "weights", _checked_weights(self.weights, scores.size))

    @cached_property
    def n_groups(self) -> int:
        """Return the number of groups; that of the parts where none belong together."""
        return self.scores.size if self.groups is None else len(set(self.groups))

    @cached_property
    def n_effective(self) -> float:
        """Return as how many groups all count: the sum of their weights; `n_groups` without."""
        if self.weights is None:
            return self.n_groups
        highest: dict[Hashable, float] = {}
        names = range(self.scores.size) if self.groups is None else self.groups
        for name, weight in zip(names, self.weights.tolist(), strict=True):
            highest[name] = max(weight, highest.get(name, 0.0))
        return math.fsum(highest.values())

    @property
    def smallest_budget(self) -> float:
        """Return the smallest budget that this many groups can promise, 1 / (n + 1)."""
        return 1.0 / (self.n_effective + 1)

    @property
    def false_alarms(self) -> float:
        """Return the budget that is promised: the one asked for, or the smallest possible."""
        return max(self.asked, self.smallest_budget)

    @property
    def keeps_budget(self) -> bool:
        """Tell whether the budget asked for can be promised."""
        return self.smallest_budget <= _rounded_up(self.asked)

    @property
    def n_needed(self) -> int:
        """Return how many good parts or groups it takes to promise the budget asked for."""
        return parts_needed(self.asked)

    @property
    def threshold(self) -> float:
        """Return the score above which a part is rejected."""
        return self.quantile(self.false_alarms)

    @property
    def look_again_threshold(self) -> float:
        """Return the score above which a part is at least to be looked at again.

        Minus infinity where so few good groups are known that every part is.
        """
        return self.quantile(self.look_again_limit)

    @property
    def look_again_limit(self) -> float:
        """Return the p-value up to which a part is at least to be looked at again."""
        beside = _LOOK_AGAIN * self.false_alarms if self.look_again is None else self.look_again
        return self.false_alarms + beside

    def p_value(self, score: float) -> float:
        """Return the conformal p-value of a part's score, in [1 / (n + 1), 1].

        It is the share of good parts, the part itself counted, that look at least as anomalous; of
        groups, one part each.
        Raises `InputError` for a score that is no number.
        """
        if math.isnan(score):
            raise InputError("A part's score is NaN; a p-value takes a number. Check the detector.")
        limits, p_values = self._ranking
        return float(p_values[np.searchsorted(limits, score, side="left")])

    def verdict(self, score: float) -> Verdict:
        """Return `reject`, `look_again` or `ok` for a part's score."""
        p_value = self.p_value(score)
        if p_value <= _rounded_up(self.false_alarms):
            return "reject"
        return "look_again" if p_value <= _rounded_up(self.look_again_limit) else "ok"

    def quantile(self, false_alarms: float) -> float:
        """Return the score above which the p-value is at most `false_alarms`.

        Infinite where this many groups cannot promise so small a share, minus infinity for a share
        that every part keeps.
        """
        limits, p_values = self._ranking
        kept = p_values <= _rounded_up(false_alarms)
        if not kept[-1]:
            return math.inf
        first = int(np.argmax(kept))
        return float(limits[first - 1]) if first else -math.inf

    def with_budget(self, false_alarms: float) -> Calibration:
        """Return the same calibration under another budget."""
        return replace(self, asked=false_alarms)

    @property
    def steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores (n,) at which p-values change, ascending, and these (n + 1,) between.

        Scores include the tolerance. A part has the p-value i when its score is above i of them.
        """
        return self._ranking

    @cached_property
    def _ranking(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ordered scores plus tolerance (n,), and the p-values (n + 1,) between them.

        Of groups they are those to expect of a part of each. A part has the p-value of rank i when
        its score is above i of these limits. Verdicts and thresholds both read this table, so that
        rounding cannot set them at odds.
        """
        return self.ranking(1.0, self.tolerance)

    def ranking(
        self, scale: float, tolerance: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ordered scores (n,) in units of `scale` and the p-values (n + 1,) between.

        Equal limits, also those that only a sum with the tolerance made equal, share a rank.
        """
        if self.weights is None:
            ranks = expected_ranks(self.scores, self.groups)
            above = np.arange(ranks.size, -1.0, -1.0)
        else:
            ranks, above = weighted_ranks(self.scores, self.weights, self.groups)
        limits = ranks / scale + tolerance
        first = np.append(np.searchsorted(limits, limits, side="left"), limits.size)
        return limits, (1.0 + above[first]) / (1.0 + above[0])


def realised_rate(calibration: Calibration, scores: ArrayLike) -> float:
    """Return the share of `scores` (n,) that the calibration rejects."""
    values = np.asarray(scores, dtype=np.float64)
    return float(np.mean(values > calibration.threshold))


def check_look_again(share: float | None) -> None:
    """Raise `ConfigurationError` for a share of parts to look at again that is out of range."""
    if share is not None and not 0.0 <= share <= _MOST_AGAIN:
        raise ConfigurationError(
            f"The share of good parts to look at again is {share:g}; expected a share from 0 to "
            f"{_MOST_AGAIN:g}, such as 0.02 for two in a hundred, beside those rejected."
        )


def _checked_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64] | None:
    """Return weights (n,); None where all are 1."""
    if weights is None:
        return None
    found = np.asarray(weights, np.float64)
    if found.shape != (n,) or not ((found > 0) & (found <= 1)).all():
        raise ConfigurationError(
            f"{n} scores have weights of shape {found.shape}; expected a weight above 0 and up to "
            "1 for each: as how many parts it counts."
        )
    return None if (found == 1).all() else found


def _check_budget(false_alarms: float) -> float:
    if not 0.0 < false_alarms <= 0.5:
        percent = f" Write {false_alarms:g} % as {false_alarms / 100:g}."
        raise ConfigurationError(
            f"The false-alarm budget is {false_alarms:g}; expected a share above 0 and up to "
            "0.5, such as 0.01 for one good part in a hundred."
            f"{percent if 1 <= false_alarms <= 50 else ''}"
        )
    return false_alarms


def _rounded_up(share: float) -> float:
    return share * (1.0 + _ROUNDING)
