"""Rates of verdicts, by kind and by size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from makellos.errors import InputError
from makellos.evaluation import (
    Rates,
    auroc,
    by_defect,
    damaged_area,
    defective_from_labels,
    misses_by_size,
    rates_at_threshold,
    verdict_rates,
)

LABELS = ["good", "good", "good", "good", "scratch", "scratch", "dent", "defective"]
VERDICTS = ["ok", "ok", "look_again", "reject", "reject", "look_again", "ok", "reject"]
SCORES = [0.1, 0.2, 0.5, 0.9, 0.8, 0.5, 0.15, 1.0]


def test_rates_count_reject_alone_and_look_again_beside():
    assert verdict_rates(VERDICTS, LABELS) == Rates(
        n_good=4,
        n_defective=4,
        false_alarm_rate=1 / 4,
        miss_rate=2 / 4,
        accuracy=5 / 8,
        look_again_rate=2 / 8,
        look_again_rate_good=1 / 4,
        look_again_rate_defective=1 / 4,
    )


def test_rates_without_a_class_are_none():
    only_good = verdict_rates(["ok", "reject"], ["good", "good"])
    assert (only_good.false_alarm_rate, only_good.accuracy) == (0.5, 0.5)
    assert only_good.miss_rate is None
    assert only_good.look_again_rate_defective is None
    only_defective = verdict_rates(["reject"], ["dent"])
    assert (only_defective.false_alarm_rate, only_defective.miss_rate) == (None, 0.0)
    nothing = verdict_rates([], [])
    assert (nothing.n_good, nothing.n_defective, nothing.accuracy) == (0, 0, None)
    assert nothing.look_again_rate is None


def test_threshold_itself_is_not_rejected():
    at = rates_at_threshold([1.0, 2.0, 2.0, 3.0], ["good", "good", "dent", "dent"], 2.0)
    assert (at.false_alarm_rate, at.miss_rate, at.accuracy) == (0.0, 0.5, 0.75)
    assert at.look_again_rate == 0.0
    below = rates_at_threshold([1.0, 2.0, 2.0, 3.0], ["good", "good", "dent", "dent"], 1.9)
    assert (below.false_alarm_rate, below.miss_rate) == (0.5, 0.0)


def test_by_defect_ranks_each_kind_against_all_good_parts():
    table = by_defect(SCORES, VERDICTS, LABELS)
    assert list(table) == ["defective", "dent", "scratch"]
    scratch = table["scratch"]
    assert (scratch.n, scratch.miss_rate, scratch.look_again_rate) == (2, 0.5, 0.5)
    expected = auroc([0.1, 0.2, 0.5, 0.9, 0.8, 0.5], [0, 0, 0, 0, 1, 1])
    assert scratch.image_auroc == expected
    assert table["dent"].image_auroc == 0.25
    assert (table["defective"].miss_rate, table["defective"].image_auroc) == (0.0, 1.0)


def test_by_defect_without_good_or_without_defective_parts():
    alone = by_defect([0.5], ["reject"], ["dent"])["dent"]
    assert (alone.n, alone.image_auroc, alone.miss_rate) == (1, None, 0.0)
    assert by_defect([0.5], ["ok"], ["good"]) == {}


def test_misses_by_size_split_at_tertiles_and_name_the_bounds():
    areas = [None, 0, 10, 20, 30, 40, 50, 60]
    verdicts = ["reject", "ok", "ok", "look_again", "ok", "reject", "reject", "reject"]
    table = misses_by_size(verdicts, areas, [1000] * 8)
    assert list(table) == ["small", "medium", "large"]
    small, medium, large = table.values()
    assert (small.n, small.n_missed, small.miss_rate, small.look_again_rate) == (2, 2, 1.0, 0.5)
    assert (small.pixels, small.percent) == ((10, 20), (1.0, 2.0))
    assert (medium.pixels, medium.miss_rate) == ((30, 40), 0.5)
    assert (large.pixels, large.percent, large.n_missed) == ((50, 60), (5.0, 6.0), 0)


def test_misses_by_size_follow_the_share_of_pictures_of_different_sizes():
    table = misses_by_size(["ok"] * 3, [10, 20, 30], [100, 1000, 3000])
    assert [figures.percent for figures in table.values()] == [(10, 10), (2, 2), (1, 1)]


def test_every_measured_part_is_in_exactly_one_size():
    rng = np.random.default_rng(0)
    areas = rng.integers(1, 12, size=101).tolist()
    table = misses_by_size(["ok"] * 101, areas, [100] * 101)
    assert sum(figures.n for figures in table.values()) == 101
    bounds = [figures.pixels for figures in table.values()]
    assert all(low[1] < high[0] for low, high in pairwise(bounds))


def test_equal_areas_share_one_size_and_no_areas_give_no_table():
    table = misses_by_size(["ok", "reject"], [5, 5], [100, 100])
    assert [figures.n for figures in table.values()] == [2]
    assert misses_by_size(["ok"], [None], [100]) == {}
    assert misses_by_size([], [], []) == {}


def test_damaged_area_counts_what_is_not_zero():
    assert damaged_area(np.array([[0, 255, 1], [0, 0, 7]], dtype=np.uint8)) == 3
    assert damaged_area(np.zeros((3, 3), dtype=bool)) == 0


def test_all_labels_but_good_are_defective():
    assert defective_from_labels(LABELS).tolist() == [False] * 4 + [True] * 4
    assert defective_from_labels([]).dtype == np.bool_


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verdict_rates(["rejected"], ["good"]), "Did you mean 'reject'"),
        (lambda: verdict_rates(["unreadable"], ["good"]), "Leave out parts"),
        (lambda: verdict_rates(["ok"], ["good", "good"]), "`verdicts` needs one entry per part"),
        (lambda: verdict_rates(["ok"], [""]), "Label '' at index 0"),
        (lambda: verdict_rates(["ok"] * 4, "good"), "one name per part"),
        (lambda: defective_from_labels([True]), "Label True"),
        (lambda: rates_at_threshold([np.nan], ["good"], 1.0), "not finite"),
        (lambda: rates_at_threshold([1.0], ["good"], np.nan), "threshold is NaN"),
        (lambda: rates_at_threshold([1.0], [], 1.0), "`labels` needs one entry"),
        (lambda: by_defect([1.0, 2.0], ["ok"], ["good", "dent"]), "`verdicts` needs"),
        (lambda: misses_by_size(["ok"], [5, 5], [9, 9]), "`damaged_areas` needs"),
        (lambda: misses_by_size(["ok"], [5], []), "`picture_areas` needs"),
        (lambda: misses_by_size(["ok"], [10], [9]), "10 pixels, but the picture has 9"),
        (lambda: misses_by_size(["ok"], [-1], [9]), "-1 pixels"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(InputError, match=message):
        call()
