"""Bootstrap intervals: strata, groups, coverage and edges."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation import Resampling, auroc, average_precision, f1_max, image_intervals
from makellos.evaluation.intervals import percentile_interval

METRICS = ("image_auroc", "image_ap", "f1_max", "false_alarm_rate", "miss_rate", "accuracy")


def sample(rng, n_good=60, n_defective=40):
    """Scores of overlapping classes, who is defective, and who is rejected."""
    defective = np.arange(n_good + n_defective) >= n_good
    scores = np.round(rng.normal(size=defective.size) + 1.2 * defective, 1)
    return scores, defective, scores > 0.8


def weights_of(defective, groups=None, n_resamples=200, row_size=1):
    """All resamples in one array."""
    resampling = Resampling(np.random.default_rng(0), n_resamples, groups)
    blocks = resampling.blocks(np.array(defective), row_size)
    return np.concatenate(list(blocks))


def test_every_resample_draws_as_many_parts_of_each_class():
    defective = np.array([False] * 7 + [True] * 3)
    weights = weights_of(defective)
    assert weights.shape == (200, 10)
    assert np.all(weights[:, ~defective].sum(axis=1) == 7)
    assert np.all(weights[:, defective].sum(axis=1) == 3)
    assert weights.mean(axis=0) == pytest.approx(1.0, abs=0.3)
    assert weights.max() >= 3


def test_blocks_bound_the_memory_and_lose_no_resample():
    resampling = Resampling(np.random.default_rng(0))
    blocks = resampling.blocks(np.array([True, False]), row_size=1_000_000)
    assert [len(block) for block in blocks] == [2] * 500


def test_groups_are_drawn_whole_and_stratified_by_damage():
    defective = [False, False, True, False, True, False]
    groups = ["a", "a", "b", "b", None, None]
    weights = weights_of(defective, groups)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 2], weights[:, 3])
    assert np.all(weights[:, 2] + weights[:, 4] == 2)  # the units with damage: b and part 4
    assert np.all(weights[:, 0] + weights[:, 5] == 2)  # those without: a and part 5
    assert np.any(weights[:, 4] != weights[:, 5])  # None is no common group


def test_intervals_equal_a_plain_bootstrap_of_the_metrics():
    rng = np.random.default_rng(3)
    scores, defective, rejected = sample(rng)
    intervals = image_intervals(scores, defective, rejected, Resampling(rng))
    resampled = []
    for _ in range(1000):
        drawn = np.append(rng.integers(0, 60, size=60), rng.integers(60, 100, size=40))
        s, d, r = scores[drawn], defective[drawn], rejected[drawn]
        resampled.append(
            [
                auroc(s, d),
                average_precision(s, d),
                f1_max(s, d).value,
                r[~d].mean(),
                (~r[d]).mean(),
                (r == d).mean(),
            ]
        )
    expected = np.quantile(resampled, [0.025, 0.975], axis=0)
    for index, name in enumerate(METRICS):
        np.testing.assert_allclose(getattr(intervals, name), expected[:, index], atol=0.026)


def test_intervals_follow_the_seed_and_hold_the_figures():
    scores, defective, rejected = sample(np.random.default_rng(1))
    first, again, other = (
        image_intervals(scores, defective, rejected, Resampling(np.random.default_rng(seed)))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.image_auroc[0] < auroc(scores, defective) < first.image_auroc[1]
    assert first.accuracy[0] < (rejected == defective).mean() < first.accuracy[1]


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.5 * (1 + math.erf(1.2 / 2))  # P(good < defective) for unit normals 1.2 apart
    covered = 0
    for _ in range(120):
        defective = np.arange(100) >= 50
        scores = rng.normal(size=100) + 1.2 * defective
        interval = image_intervals(scores, defective, scores > 0, Resampling(rng, n_resamples=200))
        covered += interval.image_auroc[0] <= truth <= interval.image_auroc[1]
    assert 0.88 <= covered / 120 <= 1.0


def test_groups_widen_the_interval_when_parts_repeat():
    rng = np.random.default_rng(0)
    scores, defective, rejected = sample(rng, 15, 15)
    repeated = [np.repeat(values, 8) for values in (scores, defective, rejected)]
    groups = np.repeat(np.arange(30), 8).tolist()
    alone = image_intervals(*repeated, Resampling(rng)).image_auroc
    grouped = image_intervals(*repeated, Resampling(rng, groups=groups)).image_auroc
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_rates_of_zero_and_one_have_the_binomial_bound():
    defective = np.array([False] * 41 + [True] * 20)
    scores = defective.astype(float)
    intervals = image_intervals(scores, defective, defective, Resampling(np.random.default_rng(0)))
    assert intervals.false_alarm_rate == (0.0, pytest.approx(1 - 0.025 ** (1 / 41)))
    assert intervals.miss_rate == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert intervals.accuracy == (pytest.approx(0.025 ** (1 / 61)), 1.0)
    all_wrong = image_intervals(scores, defective, ~defective, Resampling(np.random.default_rng(0)))
    assert all_wrong.miss_rate == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert all_wrong.accuracy == (0.0, pytest.approx(1 - 0.025 ** (1 / 61)))


def test_the_binomial_bound_counts_groups():
    defective = np.array([False] * 40)
    groups = [part // 10 for part in range(40)]
    none_rejected = np.zeros(40, dtype=bool)
    intervals = image_intervals(
        np.zeros(40), defective, none_rejected, Resampling(np.random.default_rng(0), groups=groups)
    )
    assert intervals.false_alarm_rate == (0.0, pytest.approx(1 - 0.025 ** (1 / 4)))


def test_what_cannot_be_computed_is_none():
    rng = np.random.default_rng(0)
    only_good = image_intervals([0.1, 0.2], [0, 0], [0, 1], Resampling(rng))
    assert only_good.image_auroc is None
    assert only_good.miss_rate is None
    assert only_good.false_alarm_rate is not None
    nothing = dataclasses.asdict(image_intervals([], [], [], Resampling(rng)))
    assert nothing == dict.fromkeys(METRICS)
    assert percentile_interval(np.array([np.nan])) is None
    assert percentile_interval(np.array([np.nan, 0.5])) == (0.5, 0.5)


def test_resamples_that_lose_a_class_are_left_out():
    # Every good part shares its group with damage, so a resample may hold no good part.
    rng = np.random.default_rng(0)
    defective, groups = [True, True, False, True, False], ["a", "b", "b", "c", "c"]
    intervals = image_intervals(
        [3.0, 2.0, 1.0, 2.5, 0.5], defective, [1, 1, 0, 1, 0], Resampling(rng, groups=groups)
    )
    assert intervals.image_auroc == (1.0, 1.0)
    assert intervals.f1_max == (1.0, 1.0)


def test_a_thousand_parts_take_one_pass_over_arrays():
    scores, defective, rejected = sample(np.random.default_rng(0), 6000, 6000)
    intervals = image_intervals(
        scores, defective, rejected, Resampling(np.random.default_rng(0), n_resamples=100)
    )
    assert intervals.image_auroc[1] - intervals.image_auroc[0] < 0.03


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_resamples": 0}, ConfigurationError, "`n_resamples` is 0"),
        ({"groups": ["a"]}, InputError, "`groups` needs one entry per part"),
        ({"groups": [[1], [2]]}, InputError, "cannot be compared"),
        ({"rejected": ["ok", "reject"]}, InputError, "`rejected` holds True or False"),
        ({"rejected": [True]}, InputError, "`rejected` needs one entry"),
        ({"scores": [0.1, math.nan]}, InputError, "not finite"),
    ],
)
def test_wrong_arguments_are_explained(change, error, message):
    arguments = {"scores": [0.1, 0.2], "defective": [0, 1], "rejected": [0, 1]} | change
    drawing = {key: arguments.pop(key) for key in ("n_resamples", "groups") if key in arguments}
    with pytest.raises(error, match=message):
        image_intervals(**arguments, resampling=Resampling(np.random.default_rng(0), **drawing))


def test_one_group_alone_has_no_interval():
    # 29 windows of one good recording, of which one is rejected, and three defective recordings.
    rng = np.random.default_rng(0)
    scores = [*np.linspace(0, 1, 29), 2.0, 3.0, 4.0]
    defective, rejected = [False] * 29 + [True] * 3, [False] * 28 + [True] * 4
    groups = [*["good"] * 29, "a", "b", "c"]
    found = image_intervals(scores, defective, rejected, Resampling(rng, groups=groups))
    assert found.false_alarm_rate is None
    assert found.image_auroc is None
    assert found.miss_rate is not None
    assert found.accuracy is not None
