"""The figures of an acceptance, from judged parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from makellos.evaluation import check_promise, damage_length
from makellos.evaluation.acceptance import Judged, acceptance_figures, promise_figures
from makellos.evaluation.exact import exact_bounds


def parts(n: int, label: str, verdict: str, length: float | None = None) -> list[Judged]:
    return [Judged(f"{label} {verdict} {i}", label, None, verdict, length) for i in range(n)]


def test_look_again_is_no_rejection() -> None:
    figures = acceptance_figures(
        [*parts(8, "good", "ok"), *parts(2, "good", "look_again"), *parts(1, "good", "reject"),
         *parts(3, "dent", "look_again"), *parts(5, "scratch", "reject")]
    )  # fmt: skip
    assert (figures.n_good, figures.n_defective) == (11, 8)
    assert (figures.false_alarm_rate.n_hit, figures.miss_rate.n_hit) == (1, 3)
    assert (figures.look_again_good.n_hit, figures.look_again_defective.n_hit) == (2, 3)
    assert figures.accuracy.n_hit == 15
    assert (figures.false_alarm_rate.low, figures.false_alarm_rate.high) == exact_bounds(1, 11)
    assert figures.by_defect["dent"].share == 1 and figures.by_defect["scratch"].share == 0
    assert figures.study is None and figures.by_group == {}


def test_sizes_are_classes_of_as_many_parts() -> None:
    judged = [
        Judged(str(i), "dent", None, "reject" if i > 4 else "ok", float(i)) for i in range(1, 21)
    ]
    figures = acceptance_figures([*judged, *parts(2, "dent", "ok")], mm_per_pixel=0.5)
    assert [(each.low, each.high) for each in figures.by_size] == [
        (0.5, 2.5),
        (3.0, 5.0),
        (5.5, 7.5),
        (8.0, 10.0),
    ]
    assert [each.missed.n_hit for each in figures.by_size] == [4, 0, 0, 0]
    assert (figures.detection.unit, figures.detection.n_unknown) == ("mm", 2)
    assert figures.detection.overall.finding == "separable"
    assert not figures.detection.enough


def test_groups_count_once_and_are_told_by_themselves() -> None:
    judged = [
        replace(each, group=f"lot {i % 2}")
        for i, each in enumerate([*parts(4, "good", "reject"), *parts(4, "good", "ok")])
    ]
    figures = acceptance_figures(judged)
    assert figures.false_alarm_rate.n_units == 2
    assert (figures.by_group["lot 0"].false_alarms.n_hit, figures.by_group["lot 0"].missed.n) == (
        2,
        0,
    )
    assert figures.by_group["lot 0"].false_alarms.n_units == 4


@pytest.mark.parametrize(
    ("n_rejected", "n", "n_calibrated", "finding"),
    [
        (1, 100, 99, "kept"),
        (2, 100, 99, "chance"),
        (3, 100, 99, "chance"),  # the exact lower bound is 0.6 %
        (30, 1000, 99, "draw"),  # far above 1 %, but 99 good parts set the threshold
        (30, 1000, 9999, "broken"),
        (30, 1000, None, "broken"),
        (1, 1, 99, "unknown"),
    ],
)
def test_promise(n_rejected: int, n: int, n_calibrated: int | None, finding: str) -> None:
    rejected = [i < n_rejected for i in range(n)]
    check = check_promise(rejected, [None] * n, 0.01)
    assert check is not None
    promise = promise_figures(check, 0.01, 0.01, n_calibrated)
    assert promise.finding == finding
    assert (promise.low, promise.high) == exact_bounds(n_rejected, n)
    if finding in ("draw", "broken"):
        assert promise.low > promise.budget


def test_length_of_damage_is_that_of_its_longest_piece() -> None:
    mask = np.zeros((60, 80), dtype=np.bool_)
    assert damage_length(mask) == 0
    mask[5, 10:40] = True
    mask[20:30, 50:60] = True
    assert damage_length(mask) == pytest.approx(np.hypot(30, 1), abs=0.01)
    mask[40, 0:70:2] = True  # dots are no line
    assert damage_length(mask) == pytest.approx(np.hypot(30, 1), abs=0.01)
