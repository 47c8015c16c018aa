"""Weighted calibration against its definition, and what it keeps where parts have changed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.calibration import Calibration, calibrate_zones
from makellos.calibration.leaving_out import thresholds_without
from makellos.errors import ConfigurationError

eighths = st.integers(1, 8).map(lambda n: n / 8)
quarters = st.integers(-8, 8).map(lambda n: n / 4)
pairs = st.lists(st.tuples(quarters, eighths), min_size=1, max_size=30)


def calibration_of(found: list[tuple[float, float]], budget: float = 0.1) -> Calibration:
    scores, weights = zip(*found, strict=True)
    return Calibration(np.array(scores), budget, weights=np.array(weights))


@given(pairs, quarters)
def test_p_value_is_that_of_the_definition(found: list[tuple[float, float]], score: float) -> None:
    above = sum(Fraction(weight) for own, weight in found if own >= score)
    expected = (1 + above) / (1 + sum(Fraction(weight) for _, weight in found))
    assert calibration_of(found).p_value(score) == pytest.approx(float(expected), abs=1e-12)


@given(pairs, st.floats(0.01, 0.5))
def test_threshold_and_p_value_agree(found: list[tuple[float, float]], budget: float) -> None:
    calibration = calibration_of(found, budget)
    points = [score for score, _ in found]
    for score in [*points, *np.nextafter(points, math.inf), *np.nextafter(points, -math.inf)]:
        rejected = calibration.p_value(score) <= calibration.false_alarms * (1 + 1e-9)
        assert (score > calibration.threshold) == rejected
        assert (calibration.verdict(score) == "reject") == rejected


@given(st.lists(quarters, min_size=2, max_size=30), st.booleans())
def test_weights_of_one_change_nothing(scores: list[float], grouped: bool) -> None:
    groups = [i // 3 for i in range(len(scores))] if grouped else None
    plain = Calibration(np.array(scores), 0.1, groups)
    ones = Calibration(np.array(scores), 0.1, groups, weights=np.ones(len(scores)))
    assert ones.weights is None
    assert ones.threshold == plain.threshold


def test_equal_weights_of_groups_rank_as_no_weights_do() -> None:
    scores, groups = np.random.default_rng(0).normal(size=60), [i // 5 for i in range(60)]
    halves = Calibration(scores, 0.2, groups, weights=np.full(60, 0.5))
    plain = Calibration(scores, 0.2, groups)
    # Twelve groups of weight one half leave j above a level of j / 2.
    for j in range(12):
        assert halves.quantile((1 + j / 2) / 7) == pytest.approx(plain.quantile((1 + j) / 13))
    assert halves.n_effective == pytest.approx(6)
    assert halves.smallest_budget == pytest.approx(1 / 7)


def test_a_group_has_its_highest_weight_once() -> None:
    calibration = Calibration(
        np.arange(5.0), 0.3, ["a", "a", "b", "b", "c"], weights=np.array([0.2, 0.2, 0.2, 1, 0.5])
    )
    assert calibration.n_effective == pytest.approx(0.2 + 1 + 0.5)


def test_many_levels_of_weight_stay_on_the_safe_side() -> None:
    rng = np.random.default_rng(3)
    scores, groups = rng.normal(size=240), [i // 2 for i in range(240)]
    weights = np.repeat(rng.uniform(0.1, 1.0, 120), 2)
    calibration = Calibration(scores, 0.1, groups, weights=weights)
    limits = [calibration.quantile(budget) for budget in np.linspace(0.02, 0.9, 40)]
    assert limits == sorted(limits, reverse=True)
    single = Calibration(scores[::2], 0.1, weights=weights[::2])
    assert calibration.threshold == pytest.approx(single.threshold, abs=0.5)


def test_old_parts_of_little_weight_cost_little_where_parts_have_changed() -> None:
    rng, rates = np.random.default_rng(4), {1.0: [], 0.1: []}
    for _ in range(400):
        scores = np.concatenate([rng.normal(0, 1, 200), rng.normal(1, 1, 60)])
        coming = rng.normal(1, 1, 200)
        for weight, rejected in rates.items():
            weights = np.r_[np.full(200, weight), np.ones(60)]
            threshold = Calibration(scores, 0.05, weights=weights).threshold
            rejected.append((coming > threshold).mean())
    assert np.mean(rates[1.0]) > 0.1  # twice the budget
    assert np.mean(rates[0.1]) < 0.07


def test_zones_take_weights() -> None:
    scores = np.random.default_rng(5).normal(3, 1, (2, 40))
    weights = np.r_[np.full(20, 0.25), np.ones(20)]
    zoned = calibrate_zones(scores, [0.1, 0.1], weights=weights)
    alone = Calibration(scores[1], 0.1, weights=weights)
    assert zoned.scales[1] == pytest.approx(alone.threshold)
    assert zoned.n_effective == pytest.approx(25)
    assert zoned.with_budget(0.3).n_effective == pytest.approx(25)


def test_leaving_a_part_out_takes_its_weight_along() -> None:
    scores, weights = np.arange(30.0), np.r_[np.full(20, 0.1), np.ones(10)]
    calibration = Calibration(scores, 0.2, weights=weights)
    found = thresholds_without(calibration)
    for left_out, threshold in enumerate(found):
        kept = np.delete(np.arange(30), left_out)
        alone = Calibration(scores[kept], 0.2, weights=weights[kept])
        assert threshold == alone.threshold
    assert len(set(found)) > 1


@pytest.mark.parametrize("wrong", [[0.5], [0.0, 1.0], [1.5, 1.0], [math.nan, 1.0]])
def test_weights_out_of_range_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="above 0 and up to 1"):
        Calibration(np.zeros(2), 0.1, weights=np.array(wrong))


# The band of parts to look at again


@pytest.mark.parametrize(("share", "expected"), [(None, 0.3), (0.0, 0.1), (0.05, 0.15), (0.5, 0.6)])
def test_look_again_has_a_budget_of_its_own(share: float | None, expected: float) -> None:
    calibration = Calibration(np.arange(99.0), 0.1, look_again=share)
    again = [score for score in np.arange(-0.5, 99) if calibration.verdict(score) == "look_again"]
    rejected = [score for score in np.arange(-0.5, 99) if calibration.verdict(score) == "reject"]
    assert calibration.look_again_limit == pytest.approx(expected)
    assert len(rejected) == 10
    assert len(again) == round(100 * expected) - 10


@pytest.mark.parametrize("share", [-0.1, 0.6, math.nan])
def test_a_band_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="look at again"):
        Calibration(np.arange(9.0), 0.1, look_again=share)
