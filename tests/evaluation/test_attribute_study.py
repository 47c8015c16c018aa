"""Judges beside the truth: effectiveness, misses, false alarms and Cohen's kappa."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from makellos.evaluation.attribute_study import attribute_study, cohen_kappa


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    if len({*first, *second}) == 1:
        assert cohen_kappa(first, second) is None
    else:
        assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_study_of_two_judges_who_judge_twice() -> None:
    truth = [True, True, True, False, False]
    given_ = [
        {"Ann": [True, True], "Ben": [True]},
        {"Ann": [True, False], "Ben": [True]},
        {"Ann": [False, False], "Ben": [False]},
        {"Ann": [False, True], "Ben": [False]},
        {"Ben": [False]},
    ]
    study = attribute_study(truth, given_, [True, True, True, False, True], [None] * 5)
    ann, ben, system = study.judges
    assert (ann.n_parts, ann.n_judgements) == (4, 8)
    assert (ann.effectiveness.n_hit, ann.effectiveness.n) == (1, 4)
    assert (ann.miss_rate.n_hit, ann.miss_rate.n, ann.miss_rate.n_units) == (3, 6, 3)
    assert (ann.false_alarm_rate.n_hit, ann.false_alarm_rate.n) == (1, 2)
    assert ann.repeatability is not None
    assert (ann.repeatability.n_hit, ann.repeatability.n) == (2, 4)
    assert ben.repeatability is None and ben.effectiveness.share == 0.8
    assert (system.name, system.is_system) == ("makellos", True)
    assert (system.miss_rate.n_hit, system.false_alarm_rate.n_hit) == (0, 1)
    pairs = {(each.first, each.second): each for each in study.agreements}
    assert pairs["Ann", "Ben"].n_judgements == 8  # each trial of Ann beside the one of Ben
    expected = cohen_kappa_score(
        [1, 1, 1, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 0, 0, 0, 0],
    )
    assert pairs["Ann", "Ben"].kappa == pytest.approx(expected)
    assert set(pairs) == {("Ann", "Ben"), ("Ann", "makellos"), ("Ben", "makellos")}


@pytest.mark.parametrize(
    ("n_missed", "n_alarms", "rating"),
    [(0, 0, "acceptable"), (2, 5, "acceptable"), (3, 5, "marginal"), (5, 10, "marginal"),
     (6, 0, "unacceptable"), (0, 11, "unacceptable")],
)  # fmt: skip
def test_rating_is_by_the_manual(n_missed: int, n_alarms: int, rating: str) -> None:
    truth = np.repeat([True, False], 100)
    said = truth.copy()
    said[:n_missed] = False
    said[100 : 100 + n_alarms] = True
    study = attribute_study(truth.tolist(), [{}] * 200, said.tolist(), [None] * 200)
    assert [judge.rating for judge in study.judges] == [rating]


def test_judge_with_the_name_of_the_system() -> None:
    study = attribute_study([True], [{"makellos": [False]}], [True], [None])
    assert [judge.is_system for judge in study.judges] == [False, True]
    assert len({judge.name for judge in study.judges}) == 2
    assert study.judges[0].rating is None  # no good part
