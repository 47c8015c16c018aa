"""Conformal calibration against its definition, in exact fractions, and its promise, simulated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.calibration import Calibration, parts_needed, realised_rate
from makellos.calibration.lots import expected_ranks
from makellos.errors import ConfigurationError, InputError

# Quarters are exact in binary, and few enough of them that scores are often equal.
quarters = st.integers(-8, 8).map(lambda n: n / 4)
floats = st.floats(-1e6, 1e6, allow_nan=False, width=64)


@st.composite
def calibrations(draw: st.DrawFn, values: st.SearchStrategy[float] = quarters) -> Calibration:
    scores = draw(st.lists(values, min_size=1, max_size=40))
    names = st.lists(st.integers(0, 7), min_size=len(scores), max_size=len(scores))
    groups = draw(st.none() | names)
    budget = draw(st.floats(1e-3, 0.5) | st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5]))
    tolerance = draw(st.sampled_from([0.0, 0.25, 0.1]) | st.floats(0, 2))
    return Calibration(np.array(scores), budget, groups, tolerance)


def brute_p_value(scores: Sequence[float], tolerance: float, score: float) -> Fraction:
    """Return the p-value by its definition, of parts that do not belong together."""
    return Fraction(1 + sum(one + tolerance >= score for one in scores), len(scores) + 1)


def critical_scores(calibration: Calibration) -> list[float]:
    """Return the finite scores at which a verdict can change, their neighbours, and both ends."""
    limits = calibration.scores + calibration.tolerance
    thresholds = [calibration.threshold, calibration.look_again_threshold]
    points = [*limits, *calibration.scores, *thresholds, -math.inf, math.inf]
    near = [np.nextafter(point, side) for point in points for side in (-math.inf, math.inf)]
    return [float(point) for point in (*points, *near) if math.isfinite(point)]


@given(calibrations(), quarters)
def test_p_value_is_that_of_the_definition(calibration: Calibration, score: float) -> None:
    plain = Calibration(calibration.scores, 0.1, None, calibration.tolerance)
    expected = brute_p_value(plain.scores.tolist(), plain.tolerance, score)
    assert plain.p_value(score) == pytest.approx(float(expected), abs=1e-12)
    # Of groups it is that of the scores to expect of a part of each.
    ranks = expected_ranks(calibration.scores, calibration.groups).tolist()
    expected = brute_p_value(ranks, calibration.tolerance, score)
    assert calibration.p_value(score) == pytest.approx(float(expected), abs=1e-12)


@given(st.data(), st.integers(1, 30))
def test_verdict_is_that_of_exact_fractions(data: st.DataObject, n: int) -> None:
    # Budgets k / (n + 1) are where rounding would decide between reject and not.
    scores = data.draw(st.lists(quarters, min_size=n, max_size=n))
    k = data.draw(st.integers(1, max(1, (n + 1) // 2)))
    calibration = Calibration(np.array(scores), k / (n + 1))
    for score in critical_scores(calibration):
        p_value = brute_p_value(scores, 0.0, score)
        expected = "reject" if p_value <= Fraction(k, n + 1) else "ok"
        if expected == "ok" and p_value <= Fraction(3 * k, n + 1):
            expected = "look_again"
        assert calibration.verdict(score) == expected


@given(calibrations() | calibrations(floats))
def test_verdict_threshold_and_p_value_agree_everywhere(calibration: Calibration) -> None:
    budget = calibration.false_alarms
    for score in critical_scores(calibration):
        verdict, p_value = calibration.verdict(score), calibration.p_value(score)
        rejected = p_value <= budget * (1 + 1e-9)
        looked_at = p_value <= 3 * budget * (1 + 1e-9)
        assert (verdict == "reject") == rejected == (score > calibration.threshold)
        assert (verdict != "ok") == looked_at == (score > calibration.look_again_threshold)


@given(calibrations() | calibrations(floats), floats, floats)
def test_p_value_falls_as_the_score_rises(
    calibration: Calibration, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert calibration.p_value(low) >= calibration.p_value(high)
    assert 1 / (calibration.n_groups + 1) <= calibration.p_value(high) <= 1.0
    assert 1 / (calibration.n_groups + 1) <= calibration.p_value(low) <= 1.0


@given(st.lists(floats, min_size=1, max_size=200), st.floats(1e-3, 0.5))
def test_threshold_is_the_order_statistic_of_split_conformal(
    scores: list[float], budget: float
) -> None:
    calibration = Calibration(np.array(scores), budget)
    promised = Fraction(calibration.false_alarms) * (1 + Fraction(1, 10**9))
    rank = math.ceil((len(scores) + 1) * (1 - promised))
    assert calibration.threshold == sorted(scores)[rank - 1]


@given(calibrations(), st.floats(0, 3))
def test_tolerance_moves_the_threshold_and_nothing_else(
    calibration: Calibration, tolerance: float
) -> None:
    plain = Calibration(calibration.scores, calibration.asked, calibration.groups)
    moved = Calibration(calibration.scores, calibration.asked, calibration.groups, tolerance)
    assert moved.threshold == plain.threshold + tolerance
    assert moved.n_groups == plain.n_groups
    assert moved.false_alarms == plain.false_alarms


@given(st.lists(quarters, min_size=2, max_size=30), st.floats(0.01, 0.5), st.randoms())
def test_order_of_parts_and_names_of_groups_do_not_matter(
    scores: list[float], budget: float, random: object
) -> None:
    groups = [index // 3 for index in range(len(scores))]
    pairs = list(zip(scores, groups, strict=True))
    random.shuffle(pairs)  # type: ignore[attr-defined]
    shuffled = Calibration(
        np.array([score for score, _ in pairs]), budget, [f"lot {group}" for _, group in pairs]
    )
    plain = Calibration(np.array(scores), budget, groups)
    for score in critical_scores(plain):
        assert shuffled.p_value(score) == pytest.approx(plain.p_value(score), abs=1e-12)
        assert shuffled.verdict(score) == plain.verdict(score)


def test_copies_of_a_part_in_its_group_change_nothing() -> None:
    once = Calibration(np.array([1.0, 2.0, 3.0, 4.0]), 0.25, ["a", "b", "c", "d"])
    copies = Calibration(
        np.array([1.0, 2.0, 3.0, 4.0, 4.0, 4.0]), 0.25, ["a", "b", "c", "d", "d", "d"]
    )
    for score in (0.5, 1.0, 2.5, 3.0, 3.5, 4.0, 4.5):
        assert copies.p_value(score) == pytest.approx(once.p_value(score))
    assert copies.threshold == once.threshold == 4.0


# The promise


def test_too_few_parts_get_the_smallest_budget_that_can_be_promised() -> None:
    calibration = Calibration(np.array([3.0, 1.0, 2.0]), 0.01)
    assert not calibration.keeps_budget
    assert calibration.smallest_budget == calibration.false_alarms == 0.25
    assert calibration.threshold == 3.0
    assert calibration.verdict(3.0) != "reject"
    assert calibration.verdict(3.1) == "reject"


@pytest.mark.parametrize("n_groups", [1, 2])
def test_with_one_or_two_groups_no_part_is_plainly_ok(n_groups: int) -> None:
    calibration = Calibration(np.arange(n_groups, dtype=float), 0.01)
    assert calibration.look_again_threshold == -math.inf
    assert calibration.verdict(-5.0) == "look_again"
    assert calibration.verdict(n_groups) == "reject"


def test_groups_are_what_counts() -> None:
    grouped = Calibration(np.arange(99.0), 0.01, [index // 3 for index in range(99)])
    assert grouped.n_groups == 33
    assert not grouped.keeps_budget
    assert grouped.false_alarms == pytest.approx(1 / 34)
    assert Calibration(np.arange(99.0), 0.01).keeps_budget


@given(st.floats(1e-4, 0.5) | st.integers(2, 5000).map(lambda n: 1 / n))
def test_parts_needed_is_the_smallest_number_that_keeps_the_budget(budget: float) -> None:
    n = parts_needed(budget)
    assert Calibration(np.zeros(n), budget).keeps_budget
    assert n == 1 or not Calibration(np.zeros(n - 1), budget).keeps_budget


@pytest.mark.parametrize(("budget", "n"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1), (0.3, 3)])
def test_parts_needed_for_usual_budgets(budget: float, n: int) -> None:
    assert parts_needed(budget) == n


@pytest.mark.parametrize(
    ("n", "budget"), [(99, 0.01), (99, 0.05), (50, 0.03), (400, 0.01), (10, 0.01)]
)
def test_realised_rate_is_what_theory_says(n: int, budget: float) -> None:
    rng = np.random.default_rng([n, 7])
    rates = []
    for _ in range(600):
        # Heavy tails: the promise does not hang on a distribution.
        scores = rng.standard_cauchy(n + 200)
        rates.append(realised_rate(Calibration(scores[:n], budget), scores[n:]))
    promised = max(budget, 1 / (n + 1))
    mean, error = float(np.mean(rates)), float(np.std(rates) / math.sqrt(len(rates)))
    assert mean <= promised + 2 * error
    # Without ties the expected rate is floor(b (n + 1)) / (n + 1), exactly.
    assert abs(mean - math.floor(promised * (n + 1) + 1e-9) / (n + 1)) <= 3 * error


def test_realised_rate_over_splits_of_one_set_with_ties() -> None:
    rng = np.random.default_rng(3)
    pool = np.round(rng.gamma(2.0, size=300), 1)
    rates = []
    for _ in range(600):
        rng.shuffle(pool)
        rates.append(realised_rate(Calibration(pool[:150], 0.05), pool[150:]))
    error = float(np.std(rates) / math.sqrt(len(rates)))
    assert np.mean(rates) <= 0.05 + 2 * error
    assert np.mean(rates) >= 0.02


def draw_groups(
    rng: np.random.Generator, n_groups: int
) -> tuple[np.ndarray, list[int], list[np.ndarray]]:
    """Return scores whose groups differ far more than the parts in them, and are of unequal size.

    Groups of few parts have the higher scores, so that counting parts would mislead.
    """
    effects = rng.normal(size=n_groups)
    groups = [
        effect + 0.1 * rng.normal(size=2 if effect > 0.8 else 25 if effect < 0 else 6)
        for effect in effects
    ]
    names = [name for name, members in enumerate(groups) for _ in members]
    return np.concatenate(groups), names, groups


def test_realised_rate_on_parts_of_unseen_groups() -> None:
    rng = np.random.default_rng(11)
    by_group, by_part = [], []
    for _ in range(400):
        scores, names, _ = draw_groups(rng, 59)
        _, _, unseen = draw_groups(rng, 30)
        for groups, rates in ((names, by_group), (None, by_part)):
            calibration = Calibration(scores, 0.05, groups)
            rates.append(np.mean([realised_rate(calibration, members) for members in unseen]))
    error = float(np.std(by_group) / math.sqrt(len(by_group)))
    assert np.mean(by_group) <= 0.05 + 2 * error
    assert np.mean(by_group) >= 0.035
    # The same scores, calibrated as if parts were independent, break the promise.
    assert np.mean(by_part) > 0.05 + 10 * error


def test_realised_rate_counts_rejected_parts() -> None:
    calibration = Calibration(np.arange(99.0), 0.05, None, 0.25)
    scores = np.linspace(90, 100, 201)
    rejected = [calibration.verdict(score) == "reject" for score in scores]
    assert realised_rate(calibration, scores) == np.mean(rejected)
    assert 0 < np.mean(rejected) < 1


def test_another_budget_keeps_scores_groups_and_tolerance() -> None:
    plain = Calibration(np.arange(6.0), 0.2, ["a", "a", "b", "b", "c", "d"], 0.5)
    other = plain.with_budget(0.4)
    assert (other.asked, other.tolerance, other.groups) == (0.4, 0.5, plain.groups)
    assert other.scores is plain.scores
    assert plain.asked == 0.2
    assert other.threshold < plain.threshold


# What is not accepted


def test_groups_with_the_same_text_stay_apart() -> None:
    names = [1, "1", "a", "a\0", ("a",)]
    assert Calibration(np.arange(5.0), 0.1, names).n_groups == 5


def test_scores_may_be_a_list() -> None:
    assert Calibration([1.0, 2.0, 3.0], 0.25).threshold == 3.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([], r"shape \(0,\)"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        ([1.0, math.nan, math.inf], "with 2 that are not finite"),
    ],
)
def test_scores_that_are_not_accepted(scores: list[float], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Calibration(np.array(scores), 0.01)
    assert "finite scores (n,)" in str(caught.value)
    assert "Score at least one good part" in str(caught.value)


def test_groups_must_be_one_per_score() -> None:
    with pytest.raises(InputError, match="3 scores have 2 groups"):
        Calibration(np.arange(3.0), 0.01, ["a", "b"])


@pytest.mark.parametrize("budget", [0.0, -0.01, 0.51, 1.0, math.nan, math.inf])
def test_budget_out_of_range(budget: float) -> None:
    with pytest.raises(ConfigurationError, match=r"above 0 and up to 0\.5") as caught:
        Calibration(np.arange(3.0), budget)
    assert f"{budget:g}" in str(caught.value)
    with pytest.raises(ConfigurationError, match=f"{budget:g}"):
        parts_needed(budget)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_tolerance_out_of_range(tolerance: float) -> None:
    with pytest.raises(ConfigurationError, match=f"tolerance is {tolerance:g}"):
        Calibration(np.arange(3.0), 0.1, None, tolerance)


def test_a_score_that_is_no_number_has_no_p_value() -> None:
    calibration = Calibration(np.arange(3.0), 0.25)
    with pytest.raises(InputError, match="NaN"):
        calibration.p_value(math.nan)
    assert calibration.verdict(math.inf) == "reject"
    assert calibration.p_value(-math.inf) == 1.0


def test_unreachable_share_has_no_threshold() -> None:
    calibration = Calibration(np.arange(9.0), 0.1)
    assert calibration.quantile(0.05) == math.inf
    assert calibration.quantile(1.0) == -math.inf
    assert calibration.quantile(0.1) == 8.0
