"""Lots: what is drawn from them by enumeration, and what is promised of new ones by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.calibration import Calibration
from makellos.calibration.lots import expected_ranks, lots_larger_than, scores_in_lot

N_SPLITS = 200


def lots_of(rng: np.random.Generator, n_lots: int) -> list[NDArray[np.float64]]:
    """Return scores of lots of unequal size, level and spread, with heavy tails in each."""
    return [
        rng.normal(0, 1.5)
        + 0.3 * np.exp(0.3 * rng.normal()) * rng.standard_t(3, rng.integers(21, 70))
        for _ in range(n_lots)
    ]


def names_of(lots: list[NDArray[np.float64]]) -> list[int]:
    return [name for name, lot in enumerate(lots) for _ in lot]


def fresh(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Return `n` scores of one new lot."""
    return rng.normal(0, 1.5) + 0.3 * np.exp(0.3 * rng.normal()) * rng.standard_t(3, n)


def worst_lot(lots: list[NDArray[np.float64]]) -> float:
    return max(float(lot.max()) for lot in lots)


def test_expected_scores_are_the_mean_over_every_draw() -> None:
    lots = [np.array(lot) for lot in ([0.0, 1.0, 5.0], [2.0, 2.5], [1.5], [-1.0, 0.0, 3.0, 4.0])]
    every = np.mean([sorted(drawn) for drawn in itertools.product(*lots)], axis=0)
    found = expected_ranks(np.concatenate(lots), names_of(lots))
    assert found == pytest.approx(every, abs=0.1)
    assert found.sum() == pytest.approx(every.sum(), abs=0.02)  # each lot is drawn from evenly


def test_parts_that_are_alone_stay_as_they_are() -> None:
    scores = np.array([3.0, 0.1, 2.0])
    assert expected_ranks(scores, None).tolist() == [0.1, 2.0, 3.0]
    assert expected_ranks(scores, ["c", "a", "b"]).tolist() == [0.1, 2.0, 3.0]


@pytest.mark.parametrize("n_lots", [5, 9, 24])
def test_promise_of_a_part_of_a_new_lot_holds_on_average(n_lots: int) -> None:
    rng = np.random.default_rng([n_lots, 1])
    rates, by_worst, ignoring = [], [], []
    budget = 1 / (n_lots + 1)
    for _ in range(N_SPLITS):
        lots = lots_of(rng, n_lots)
        new = np.concatenate([fresh(rng, 50) for _ in range(20)])
        scores, names = np.concatenate(lots), names_of(lots)
        rates.append((new > Calibration(scores, budget, names).threshold).mean())
        ignoring.append((new > Calibration(scores, budget).threshold).mean())
        by_worst.append((new > worst_lot(lots)).mean())
    error = np.std(rates) / np.sqrt(N_SPLITS)
    assert np.mean(rates) <= budget + 2 * error
    # What is promised is used, where the oddest lot would let nearly all damage through.
    assert np.mean(rates) >= 0.6 * budget
    assert np.mean(by_worst) < 0.6 * np.mean(rates)


@pytest.mark.parametrize(("n_known", "budget"), [(20, 0.01), (20, 0.05), (8, 0.05), (3, 0.1)])
def test_promise_of_a_part_of_this_lot_holds_on_average(
    monkeypatch: pytest.MonkeyPatch, n_known: int, budget: float
) -> None:
    monkeypatch.setattr("makellos.calibration.lots._DRAWS", 64)  # the promise holds for any number
    rng = np.random.default_rng([n_known, 2])
    rates = []
    for _ in range(N_SPLITS):
        lots, new = lots_of(rng, 9), fresh(rng, n_known + 300)
        values = scores_in_lot(np.concatenate(lots), names_of(lots), new[:n_known])
        assert values.size == 10 * (n_known + 1) - 1
        calibration = Calibration(values, budget)
        assert calibration.keeps_budget
        rates.append((new[n_known:] > calibration.threshold).mean())
    error = np.std(rates) / np.sqrt(N_SPLITS)
    assert np.mean(rates) <= budget + 2 * error
    assert np.mean(rates) >= 0.6 * budget


def test_a_lot_is_measured_by_its_own_level_and_spread() -> None:
    rng = np.random.default_rng(4)
    lots, new = lots_of(rng, 9), fresh(rng, 20)
    scores, names = np.concatenate(lots), names_of(lots)
    found = scores_in_lot(scores, names, new)
    shifted = np.concatenate([lot + 10 * name for name, lot in enumerate(lots)])
    assert scores_in_lot(shifted, names, new) == pytest.approx(found, abs=1e-9)
    assert scores_in_lot(7 * scores, names, 7 * new) == pytest.approx(7 * found)
    assert scores_in_lot(scores, names, new - 3) == pytest.approx(found - 3, abs=1e-9)
    # One lot alone decides nothing beyond its own parts.
    odd = [lot * (1 + 4 * (name == 0)) for name, lot in enumerate(lots)]
    assert np.median(scores_in_lot(np.concatenate(odd), names, new)) == pytest.approx(
        np.median(found), abs=0.1
    )


def test_lots_without_enough_parts_do_not_count() -> None:
    lots = [np.arange(4.0), np.arange(9.0), np.arange(5.0)]
    assert lots_larger_than(4, names_of(lots)) == 2
    assert lots_larger_than(4, None) == 0
    assert scores_in_lot(np.concatenate(lots), names_of(lots), [1.0, 2, 3, 4]).size == 2 * 5 + 4
    assert scores_in_lot(np.arange(2.0), ["a", "b"], [3.0, 1.0, 2.0]).tolist() == [1.0, 2.0, 3.0]


def test_equal_scores_are_no_trouble() -> None:
    found = scores_in_lot(np.ones(30), [i % 3 for i in range(30)], np.full(5, 2.0))
    assert found == pytest.approx(np.full(23, 2.0))
