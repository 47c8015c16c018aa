"""Scales: values lie where they belong, and round values stand at the axis."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from makellos.drawing.scales import Scale, log_ticks, round_span, round_step, ticks

ends = st.floats(-1e6, 1e6)


def test_values_lie_between_the_ends_and_those_outside_at_them() -> None:
    scale = Scale((2.0, 4.0), (100.0, 300.0))
    assert [scale.at(v) for v in (2.0, 2.5, 4.0, -9.0, math.inf)] == [100, 150, 300, 100, 300]
    assert np.isnan(scale.places([math.nan, 3.0])).tolist() == [True, False]
    assert scale.places(np.full((2, 3), 3.0)).tolist() == [[200.0] * 3] * 2


def test_an_axis_may_run_the_other_way() -> None:
    assert [Scale((0.0, 10.0), (9.0, 1.0)).at(v) for v in (0.0, 5.0, 20.0)] == [9.0, 5.0, 1.0]
    assert [Scale((10.0, 0.0), (1.0, 9.0)).at(v) for v in (0.0, 5.0, 20.0)] == [9.0, 5.0, 1.0]


def test_logarithmic_places_are_even_by_decades() -> None:
    scale = Scale((0.1, 1000.0), (0.0, 4.0), log=True)
    assert scale.places([0.1, 1, 10, 100, 1000]) == pytest.approx([0, 1, 2, 3, 4])
    assert scale.at(-5.0) == scale.at(0.0) == 0.0


def test_a_single_value_lies_in_the_middle() -> None:
    assert Scale((7.0, 7.0), (10.0, 20.0)).at(7.0) == 15.0
    assert [t.at for t in Scale((1, 1), (10.0, 20.0)).whole_ticks(5)] == [15.0]


@given(ends, ends, st.integers(2, 12))
def test_ticks_are_round_few_and_inside(first: float, second: float, most: int) -> None:
    low, high = sorted((first, second))
    assume(high - low > 1e-9 * max(abs(low), abs(high), 1e-3))
    found = ticks(low, high, most)
    values = [tick.at for tick in found]
    assert len(found) <= most + 1
    assert len(found) >= most / 2.5 - 1
    step = round_step((high - low) / most)
    assert all(low - 1e-8 * step <= value <= high + 1e-8 * step for value in values)
    assert np.diff(values) == pytest.approx(step, rel=1e-4)
    assert f"{step:.3e}"[0] in "125"


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (0.0, 1.0, 4, ["0.0", "0.5", "1.0"]),
        (0.0, 100.0, 5, ["0", "20", "40", "60", "80", "100"]),
        (12345.1, 12345.9, 4, ["12345.2", "12345.4", "12345.6", "12345.8"]),
        (-1.0, 1.0, 4, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        (1e-13, 3e-13, 2, ["1e-13", "2e-13", "3e-13"]),
        (2e6, 4e6, 2, ["2e+06", "3e+06", "4e+06"]),
    ],
)
def test_texts_have_as_many_decimals_as_they_need(
    low: float, high: float, most: int, texts: list[str]
) -> None:
    assert [tick.text for tick in ticks(low, high, most)] == texts


def test_ticks_are_round_in_their_unit() -> None:
    assert ticks(0.0, 6000.0, 3, 1000.0) == [
        (0.0, "0"),
        (2000.0, "2"),
        (4000.0, "4"),
        (6000.0, "6"),
    ]


@given(st.floats(-12, 12), st.floats(0.3, 20), st.integers(3, 12))
def test_ticks_of_decades_are_few_and_inside(power: float, decades: float, most: int) -> None:
    low, high = 10.0**power, 10.0 ** (power + decades)
    found = log_ticks(low, high, most)
    values = [tick.at for tick in found]
    assert 1 <= len(found) <= most
    assert all(low <= value <= high for value in values)
    assert values == sorted(set(values))
    assert [float(tick.text) for tick in found] == pytest.approx(values)


def test_ticks_are_placed_as_values_are() -> None:
    scale = Scale((0.0, 10.0), (200.0, 100.0))
    assert scale.ticks(2) == ((200.0, "0"), (150.0, "5"), (100.0, "10"))
    assert Scale((1.0, 100.0), (0.0, 2.0), log=True).ticks(3) == ((0, "1"), (1, "10"), (2, "100"))


@pytest.mark.parametrize(
    ("span", "most", "texts"),
    [
        ((1, 4), 9, ["1", "2", "3", "4"]),
        ((1, 100), 9, ["1", "20", "40", "60", "80", "100"]),
        ((7, 43), 4, ["7", "10", "20", "30", "40"]),
        ((1, 30_000), 4, ["1", "10000", "20000", "30000"]),
    ],
)
def test_counts_begin_with_the_first(span: tuple[int, int], most: int, texts: list[str]) -> None:
    assert [tick.text for tick in Scale(span).whole_ticks(most)] == texts


@given(ends, ends, st.integers(2, 8))
def test_a_round_span_holds_what_it_was_made_from(first: float, second: float, most: int) -> None:
    low, high = sorted((first, second))
    assume(high - low > 1e-6)
    start, end = round_span(low, high, most)
    step = round_step((high - low) / most)
    assert start - 1e-8 * step <= low < start + step * (1 + 1e-8)
    assert end + 1e-8 * step >= high > end - step * (1 + 1e-8)
