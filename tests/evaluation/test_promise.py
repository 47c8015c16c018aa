"""Rejected good parts are compared with the promise by an exact test that counts groups."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.errors import InputError
from makellos.evaluation import check_promise


def exact(k: int, n: int, share: float) -> float:
    return sum(comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k, n + 1))


@given(st.integers(2, 60), st.data(), st.floats(0.001, 0.5))
def test_single_parts_make_a_binomial_test(n: int, data: st.DataObject, budget: float) -> None:
    k = data.draw(st.integers(0, n))
    found = check_promise([True] * k + [False] * (n - k), [None] * n, budget)
    assert found is not None and found.p_value is not None
    assert found.p_value == pytest.approx(exact(k, n, budget), rel=1e-6)
    assert (found.unit, found.n_units, found.n_rejected) == ("parts", n, k)
    if k <= budget * n * (1 + 1e-9):
        assert found.finding == "kept"
    else:
        assert found.finding == ("broken" if found.p_value < 0.05 else "chance")


def test_one_window_of_29_of_one_recording_shows_nothing() -> None:
    found = check_promise([True] + [False] * 28, ["a"] * 29, 0.01)
    assert found is not None
    assert (found.finding, found.p_value, found.n_units) == ("unknown", None, 1)
    alone = check_promise([True], [None], 0.01)
    assert alone is not None and alone.finding == "unknown"


def test_four_of_thirty_at_five_percent_can_be_chance_and_five_are_not() -> None:
    four = check_promise([True] * 4 + [False] * 26, [None] * 30, 0.05)
    five = check_promise([True] * 5 + [False] * 25, [None] * 30, 0.05)
    assert four is not None and five is not None
    assert (four.finding, round(four.p_value or 0, 4)) == ("chance", 0.0608)
    assert (five.finding, round(five.p_value or 0, 4)) == ("broken", 0.0156)


def test_a_group_counts_once_by_its_share() -> None:
    rejected = [True] * 10 + [False] * 190
    groups = [str(i // 10) for i in range(200)]  # one whole group of 20
    found = check_promise(rejected, groups, 0.05)
    assert found is not None
    assert (found.unit, found.n_units, found.n_rejected, found.finding) == ("groups", 20, 1, "kept")
    spread = [i % 10 == 0 for i in range(200)]  # a tenth of each
    found = check_promise(spread, groups, 0.05)
    assert found is not None
    assert found.n_rejected == pytest.approx(2)
    assert found.p_value == pytest.approx(exact(2, 20, 0.05))


def test_nothing_good_and_lengths_that_differ() -> None:
    assert check_promise([], [], 0.05) is None
    with pytest.raises(InputError, match="2 verdicts and 1 groups"):
        check_promise([True, False], [None], 0.05)
