"""Localisation: figures against those counted by hand, and maps that say nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation.localisation import (
    Deleted,
    Located,
    deletion,
    grown,
    heat_inside,
    hottest,
    localisation,
    localisation_by_defect,
    locate,
    peak_inside,
    wilson_interval,
)

SHAPE = (40, 60)


def square(top: int, left: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def peak_at(row: int, column: int) -> NDArray[np.float32]:
    rows, columns = np.indices(SHAPE)
    heat: NDArray[np.float32] = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 50.0)
    return heat.astype(np.float32)


@pytest.mark.parametrize(
    ("column", "inside"), [(30, True), (39, True), (47, True), (48, False), (21, False)]
)
def test_a_peak_is_inside_up_to_eight_pixels_beside_the_mask(column: int, inside: bool) -> None:
    mask = square(10, 30, 10)  # columns 30 to 39
    assert peak_inside(peak_at(15, column), mask) is inside
    assert peak_inside(peak_at(15, column), mask, margin=0) is (30 <= column < 40)


def test_the_margin_is_a_disc() -> None:
    mask = square(10, 30, 1)
    wide = grown(mask, 8)
    rows, columns = np.indices(SHAPE)
    np.testing.assert_array_equal(wide, (rows - 10) ** 2 + (columns - 30) ** 2 <= 64)
    np.testing.assert_array_equal(grown(mask, 0), mask)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_map_that_is_the_same_everywhere_has_no_peak(level: float) -> None:
    assert peak_inside(np.full(SHAPE, level), np.ones(SHAPE)) is False


def test_of_a_plateau_its_middle_counts() -> None:
    heat = square(10, 30, 9).astype(np.float32)  # its middle is 14, 34
    assert peak_inside(heat, square(14, 34, 1), margin=0)
    assert not peak_inside(heat, square(10, 30, 1), margin=0)


def test_heat_inside_is_a_share_of_the_sum() -> None:
    heat = np.zeros(SHAPE)
    heat[0, :4] = 1, 2, 5, -3
    mask = np.zeros(SHAPE)
    mask[0, 1:2] = 255
    assert heat_inside(heat, mask) == 0.25
    assert heat_inside(np.zeros(SHAPE), mask) == 0.0
    assert heat_inside(np.ones(SHAPE), square(0, 0, 12)) == pytest.approx(144 / 2400)


def test_an_empty_mask_locates_nothing() -> None:
    assert locate("scratch", peak_at(1, 1), np.zeros(SHAPE)) is None
    assert peak_inside(peak_at(1, 1), np.zeros(SHAPE)) is False
    assert heat_inside(peak_at(1, 1), np.zeros(SHAPE)) == 0.0


def test_a_part_is_located_beside_what_chance_gives() -> None:
    mask = square(10, 30, 10)
    found = locate("dent", peak_at(15, 45), mask, margin=8)
    assert found is not None
    assert (found.label, found.peak_inside) == ("dent", True)
    assert found.heat_inside == heat_inside(peak_at(15, 45), mask)
    assert found.area_share == 100 / 2400
    assert found.grown_share == grown(mask, 8).sum() / 2400


LOCATED = [
    Located("scratch", True, 0.5, 0.1, 0.2),
    Located("dent", False, 0.1, 0.3, 0.6),
    Located("scratch", True, 0.3, 0.2, 0.4),
    Located("scratch", False, 0.1, 0.0, 0.0),
]


def test_figures_are_means_over_parts_and_over_those_of_a_kind() -> None:
    found = localisation(LOCATED)
    assert found is not None
    assert (found.n, found.peak_inside) == (4, 0.5)
    assert found.peak_by_chance == pytest.approx(0.3)
    assert found.heat_inside == pytest.approx(0.25)
    assert found.heat_by_chance == pytest.approx(0.15)
    assert found.peak_interval == pytest.approx((0.1500, 0.8500), abs=1e-4)
    by = localisation_by_defect(LOCATED)
    assert list(by) == ["dent", "scratch"]
    assert (by["dent"].n, by["dent"].peak_inside) == (1, 0.0)
    assert by["scratch"].peak_inside == pytest.approx(2 / 3)
    assert localisation([]) is None
    assert localisation_by_defect([]) == {}


# Brown, Cai and DasGupta 2001 give the closed form; these by hand from it.
@pytest.mark.parametrize(
    ("n_hits", "n", "interval"),
    [
        (0, 10, (0.0, 0.27754)),
        (10, 10, (0.72246, 1.0)),
        (5, 10, (0.23659, 0.76341)),
        (0, 0, (0, 1)),
    ],
)
def test_wilson_interval(n_hits: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson_interval(n_hits, n) == pytest.approx(interval, abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share(pair: tuple[int, int]) -> None:
    low, high = wilson_interval(*pair)
    assert 0.0 <= low <= pair[0] / pair[1] <= high <= 1.0


def test_the_hottest_are_a_share_of_the_pixels_and_hot() -> None:
    heat = np.arange(2400.0).reshape(SHAPE)
    np.testing.assert_array_equal(hottest(heat, 0.1), heat >= 2160)
    few = np.zeros(SHAPE)
    few[3, 4] = 1.0
    np.testing.assert_array_equal(hottest(few, 0.1), few > 0)
    assert not hottest(np.zeros(SHAPE), 0.1).any()


def test_deletion_compares_with_as_much_elsewhere() -> None:
    found = deletion([Deleted(3.0, 1.0, 0.5, 0.1), Deleted(1.0, 1.0, 0.1, 0.3)])
    assert found is not None
    assert (found.n, found.score_drop, found.score_drop_by_chance) == (2, 2.0, 1.0)
    assert found.probability_drop == pytest.approx(0.3)
    assert found.probability_drop_by_chance == pytest.approx(0.2)
    assert found.better_than_chance == 0.5
    assert found.better_interval == wilson_interval(1, 2)
    assert deletion([]) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heat_inside(np.ones((3, 4)), np.ones((4, 3))), r"\(3, 4\).*\(4, 3\)"),
        (lambda: peak_inside(np.full(SHAPE, np.nan), np.ones(SHAPE)), "not finite"),
        (lambda: heat_inside(np.ones((1, 3, 4)), np.ones((3, 4))), "H×W"),
        (lambda: grown(np.ones((1, 3, 4)), 1), "mask is H×W"),
        (lambda: wilson_interval(3, 2), "3 of 2"),
    ],
)
def test_what_cannot_be_compared_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="margin is -1"):
        grown(np.ones(SHAPE), -1)
    with pytest.raises(ConfigurationError, match="share"):
        hottest(np.ones(SHAPE), 0.0)
