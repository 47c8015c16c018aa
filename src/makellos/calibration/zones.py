"""Zones of a part, or kinds of damage, each with a calibration and a budget, as one calibration.

A zone rejects a part when its score there is above the threshold that the zone's budget sets; the
part is rejected when any zone rejects it. By the union bound at most the sum of the budgets of
good parts is rejected, however zones hang together. Scores of zones compare once each is divided
by its zone's threshold: their highest is the part's score, rejected above 1, and its p-value is
the sum of the zones' p-values at that height.

Kinds of damage that a classifier tells apart are such zones as well: each has the probability of
its kind for a score.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.calibration.conformal import Calibration, Verdict, parts_needed
from makellos.errors import ConfigurationError

__all__ = ["ZonedCalibration", "calibrate_zones", "divided_budget"]

_LEAST = 1e-12  # a zone in which good parts never differ from what was learned has threshold 0


@dataclass(frozen=True, eq=False)
class ZonedCalibration(Calibration):
    """Turn a part's highest zone score into p-value and verdict, under budgets per zone.

    `zones` are the calibrations of each zone's scores, `scales` their thresholds, in which scores
    are counted: `scores` and `tolerance` are in units of these.
    """

    zones: tuple[Calibration, ...] = field(default=(), repr=False)
    scales: tuple[float, ...] = ()

    @property
    def smallest_budget(self) -> float:
        """Return the smallest budget that so many groups can promise over all zones."""
        return len(self.zones) / (self.n_effective + 1)

    @property
    def false_alarms(self) -> float:
        """Return the budget that is promised: the sum of what each zone promises."""
        return sum(zone.false_alarms for zone in self.zones)

    @property
    def keeps_budget(self) -> bool:
        """Tell whether every zone can promise its budget."""
        return all(zone.keeps_budget for zone in self.zones)

    @property
    def n_needed(self) -> int:
        """Return how many good parts or groups it takes to promise every zone's budget."""
        return max(parts_needed(zone.asked) for zone in self.zones)

    def p_value(self, score: float) -> float:
        """Return the sum of the zones' p-values at a height, at most 1."""
        return min(1.0, super().p_value(score))

    def verdict(self, score: float) -> Verdict:
        """Return `reject`, `look_again` or `ok` for a part's score."""
        self.p_value(score)  # refuses what is no number
        if score > self.threshold:
            return "reject"
        return "look_again" if score > self.look_again_threshold else "ok"

    def with_budget(self, false_alarms: float) -> ZonedCalibration:
        """Return the same calibration under another budget, shared among zones as before."""
        share = false_alarms / self.asked
        budgets = [zone.asked * share for zone in self.zones]
        rows = [zone.scores for zone in self.zones]
        return calibrate_zones(
            rows,
            budgets,
            self.groups,
            self.tolerance,
            look_again=self.look_again,
            weights=self.weights,
        )

    @cached_property
    def _ranking(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where any zone's p-value changes (m,), and their sums (m + 1,) between."""
        rankings = [
            self._heights(zone, scale) for zone, scale in zip(self.zones, self.scales, strict=True)
        ]
        limits = np.sort(np.concatenate([limits for limits, _ in rankings]))
        heights = np.append(limits, np.inf)
        sums = sum(
            p_values[np.searchsorted(own, heights, side="left")] for own, p_values in rankings
        )
        return limits, np.asarray(sums, np.float64)

    def _heights(
        self, zone: Calibration, scale: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a zone's ranking, which reaches its budget at its threshold.

        Where that is less than `scale`, for it is next to 0, it would do so below: what others may
        reject more by that is not theirs.
        """
        limits, p_values = zone.ranking(scale, self.tolerance)
        if 0.0 <= zone.threshold < scale:
            reached = limits >= zone.threshold / scale + self.tolerance
            limits = np.where(reached, np.maximum(limits, 1.0 + self.tolerance), limits)
        return limits, p_values


def divided_budget(own: Sequence[float | None], asked: float, whose: str) -> list[float]:
    """Return the budget of each zone or kind; what is left of `asked` is shared by those without.

    Raises `ConfigurationError` where their `own` budgets are more than that; `whose` says of what.
    """
    given = sum(budget for budget in own if budget is not None)
    n_free = list(own).count(None)
    left = asked - given
    if left < -1e-12 or (n_free and left < 1e-12):
        raise ConfigurationError(
            f"The budgets of {whose} add up to {given:g}, but all {whose} together may have "
            f"{asked:g}{' with something left for the others' if n_free else ''}. Raise "
            f"--false-alarms or lower those of {whose}."
        )
    return [left / n_free if budget is None else budget for budget in own]


def calibrate_zones(
    scores: ArrayLike,
    budgets: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    tolerance: float = 0.0,
    *,
    look_again: float | None = None,
    weights: ArrayLike | None = None,
) -> ZonedCalibration:
    """Return the calibration of zone scores (zones, n) under a budget per zone.

    `tolerance` is in units of the zones' thresholds, `look_again` and `weights` (n,) are those of
    the parts. Raises as `Calibration` does.
    """
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    zones = tuple(
        Calibration(row, budget, groups, weights=weights)  # type: ignore[arg-type]
        for row, budget in zip(rows, budgets, strict=True)
    )
    scales = tuple(max(zone.threshold, _LEAST) for zone in zones)
    highest = (rows / np.array(scales)[:, np.newaxis]).max(0)
    asked = min(0.5, sum(budgets))
    return ZonedCalibration(
        highest,
        asked,
        groups,
        tolerance,
        look_again,
        zones[0].weights,
        zones=zones,
        scales=scales,
    )
