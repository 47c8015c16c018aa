"""Drift: limits with their confidence, wealths by brute force, and what is promised of alarms."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from makellos.calibration.drift import (
    ALLOWED,
    STAKES,
    Limits,
    Watch,
    alarm_level,
    largest_share,
    learn_limits,
)
from makellos.errors import ConfigurationError, InputError


def binomial(k: int, n: int, share: float) -> float:
    return sum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("n", "k", "doubt"), [(20, 1, 0.05), (99, 10, 1e-3), (160, 48, 1e-5)])
def test_largest_share_is_the_quantile_of_order_statistics(n: int, k: int, doubt: float) -> None:
    found = largest_share(n, k, doubt)
    assert binomial(k - 1, n, found) == pytest.approx(doubt, rel=1e-6)
    if k == 1:
        assert found == pytest.approx(1 - doubt ** (1 / n))


def test_confidence_holds_over_samples() -> None:
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(400):
        limits = learn_limits(rng.uniform(size=(30, 1)), (0.1,), 0.2)
        beyond = 1 - limits.high[0, 0], limits.low[0, 0]
        broken += any(share > limits.share[0, 0] - ALLOWED for share in beyond)
    # 80 of 400 are allowed; four standard deviations above that are no chance.
    assert 30 < broken < 80 + 4 * math.sqrt(400 * 0.2 * 0.8)


def test_limits_are_order_statistics_and_know_what_is_missing() -> None:
    values = np.stack([np.arange(20.0), np.full(20, np.nan)], axis=1)
    values[3, 0] = np.nan
    limits = learn_limits(values, (0.0, 0.1), 0.01)
    assert limits.low[0].tolist() == [0.0, 1.0] and limits.high[0].tolist() == [19.0, 18.0]
    assert limits.share[1].tolist() == [1.0, 1.0]
    assert limits.share[0, 0] == largest_share(19, 1, 0.01 / 8) + ALLOWED


def test_one_part_of_each_group_counts() -> None:
    values = np.repeat([[1.0], [2.0], [3.0]], 4, axis=0)
    limits = learn_limits(values, (0.0,), 0.01, [name for name in "abc" for _ in range(4)])
    assert (limits.low[0, 0], limits.high[0, 0]) == (1.0, 3.0)
    assert limits.share[0, 0] == min(1.0, largest_share(3, 1, 0.005) + ALLOWED)


def one_channel(share: float = 0.25) -> Limits:
    return Limits(np.array([[0.0]]), np.array([[1.0]]), np.array([[share]]))


def wealth(hits: list[bool], share: float, stake: float) -> float:
    found = 0.0
    for hit in hits:
        found = (found + 1) * (1 - stake + stake * hit / share)
    return found


def test_wealth_is_that_of_shiryaev_and_roberts_by_hand() -> None:
    rng = np.random.default_rng(1)
    values = rng.uniform(-1, 2, 25)
    watch = Watch(one_channel(), np.array([1.0]))
    for number, value in enumerate(values, start=1):
        watch.update(np.array([value]), number)
        seen = values[:number]
        sides = [(seen < 0).tolist(), (seen > 1).tolist()]
        expected = sum(wealth(side, 0.25, stake) for side in sides for stake in STAKES)
        assert watch.total() == pytest.approx(expected / (2 * len(STAKES)))


def test_wealth_grows_by_one_part_at_most_in_expectation() -> None:
    """All sequences of six parts, of which a share lies beyond, as in the good state at most."""
    share, n = 0.25, 6
    for real in (share, share / 2):
        mean = 0.0
        for hits in itertools.product([False, True], repeat=n):
            watch = Watch(one_channel(share), np.array([1.0]))
            for number, hit in enumerate(hits, start=1):
                watch.update(np.array([2.0 if hit else 0.5]), number)
            _, sums, _ = watch.evidence()
            above = 2 * float(sums[1, 0])
            mean += real ** sum(hits) * (1 - real) ** (n - sum(hits)) * above
        assert mean == pytest.approx(n) if real == share else mean < n


def test_alarms_are_as_rare_as_is_said() -> None:
    """At the very limit of the good state, so that nothing but the level holds alarms back."""
    rng, level, share = np.random.default_rng(2), 100.0, 0.2
    n_parts, alarms = 20_000, 0
    watch = Watch(one_channel(share), np.array([1.0]))
    for number in range(n_parts):
        watch.update(np.array([2.0 if rng.random() < share else 0.5]), number)
        if watch.total() >= level:
            alarms += 1
            watch = Watch(one_channel(share), np.array([1.0]))
    assert 0 < alarms <= n_parts / level


def test_evidence_says_where_and_since_when() -> None:
    limits = one_channel().joined(one_channel())
    watch = Watch(limits, np.array([0.5, 0.5]))
    for number in range(1, 61):
        watch.update(np.array([0.5, 2.0 if number > 40 else 0.5]), number)
    runs, sums, begun = watch.evidence()
    assert np.unravel_index(runs.argmax(), runs.shape) == (1, 1)
    assert begun[1, 1] == 41
    assert sums.sum() == pytest.approx(watch.total())


def test_what_has_no_figure_is_no_bet() -> None:
    watch = Watch(one_channel(), np.array([1.0]))
    watch.update(np.array([2.0]), 1)
    before = watch.total()
    watch.update(np.array([np.nan]), 2)
    assert watch.total() == before


def test_state_goes_on_from_where_it_was() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(-1, 2, (40, 1))
    whole, first = (Watch(one_channel(), np.array([1.0])) for _ in range(2))
    for number, each in enumerate(values):
        whole.update(each, number)
    for number, each in enumerate(values[:17]):
        first.update(each, number)
    second = Watch(one_channel(), np.array([1.0])).restored(json.loads(json.dumps(first.state())))
    for number, each in enumerate(values[17:], start=17):
        second.update(each, number)
    assert second.total() == pytest.approx(whole.total(), rel=1e-6)
    with pytest.raises(InputError, match="other channels"):
        Watch(one_channel().joined(one_channel()), np.ones(2)).restored(first.state())


@pytest.mark.parametrize("rate", [0.0, -1.0, 2000.0, math.nan])
def test_rates_that_cannot_be(rate: float) -> None:
    with pytest.raises(ConfigurationError, match=r"per 10,000 parts"):
        alarm_level(rate)
