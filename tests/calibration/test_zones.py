"""Zones with budgets of their own: a part is rejected where any zone rejects it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.calibration import Calibration, calibrate_zones

whole = st.integers(1, 40).map(float)


@given(
    st.integers(1, 3).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(whole, min_size=n, max_size=n), min_size=1, max_size=30),
            st.lists(st.floats(0.005, 0.16), min_size=n, max_size=n),
            st.lists(whole, min_size=n, max_size=n),
        )
    )
)
def test_a_part_is_rejected_where_any_zone_rejects_it(
    drawn: tuple[list[list[float]], list[float], list[float]],
) -> None:
    parts, budgets, new = drawn
    rows = np.array(parts).T
    together = calibrate_zones(rows, budgets)
    alone = [Calibration(row, budget) for row, budget in zip(rows, budgets, strict=True)]
    score = max(value / scale for value, scale in zip(new, together.scales, strict=True))
    rejected = [zone.verdict(value) == "reject" for zone, value in zip(alone, new, strict=True)]
    assert (together.verdict(score) == "reject") == any(rejected)
    assert together.threshold == 1.0
    assert (score > 1.0) == any(rejected)
    assert together.false_alarms == pytest.approx(sum(z.false_alarms for z in alone))


def test_of_good_parts_at_most_the_sum_of_the_budgets_is_rejected() -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        zones = rng.gamma(2, size=(2, 300)) * [[1], [100]]
        zones[1] += 30 * zones[0]  # zones of one part hang together
        fitted = calibrate_zones(zones[:, :100], [0.02, 0.08])
        new = (zones[:, 100:] / np.array(fitted.scales)[:, np.newaxis]).max(0)
        rates.append(np.mean(new > fitted.threshold))
    assert 0.05 < np.mean(rates) <= 0.1 + 3 * np.std(rates) / 300**0.5


def test_tolerance_raises_the_threshold() -> None:
    rows = np.arange(1.0, 21.0)[np.newaxis].repeat(2, 0)
    fitted = calibrate_zones(rows, [0.05, 0.05], tolerance=0.01)
    assert fitted.threshold == 1.01
    assert fitted.verdict(1.01) != "reject"
    assert fitted.verdict(1.0101) == "reject"


def test_another_budget_keeps_the_shares() -> None:
    rows = np.random.default_rng(1).random((2, 500))
    other = calibrate_zones(rows, [0.01, 0.03]).with_budget(0.08)
    assert [zone.asked for zone in other.zones] == pytest.approx([0.02, 0.06])
    assert other.scales == calibrate_zones(rows, [0.02, 0.06]).scales


def test_budgets_that_few_parts_cannot_keep_are_named() -> None:
    fitted = calibrate_zones(np.random.default_rng(1).random((2, 50)), [0.01, 0.1])
    assert not fitted.keeps_budget
    assert fitted.n_needed == 99
    assert fitted.false_alarms == pytest.approx(1 / 51 + 0.1)


def test_a_zone_in_which_nothing_ever_differed_rejects_what_does() -> None:
    fitted = calibrate_zones(np.array([np.zeros(30), np.arange(30.0) + 1]), [0.05, 0.05])
    assert fitted.verdict(max(0.001 / fitted.scales[0], 1 / fitted.scales[1])) == "reject"
    assert fitted.verdict(max(0.0, 1 / fitted.scales[1])) == "ok"
