"""Golden parts and parity, on scores made up for the purpose."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import HEIGHT, WIDTH, cell_graph, gray_picture, spotted_picture

from makellos.calibration import Calibration
from makellos.detectors import Graph
from makellos.inspection import Aggregation, Preprocessing, available_engines
from makellos.inspection.engines import EngineChoice
from makellos.models import Parity, choose_golden, compare_engines

FAST, EXACT, OTHER = (
    EngineChoice("openvino", "bf16"),
    EngineChoice("openvino", "f32"),
    EngineChoice("onnxruntime", "f32"),
)
# 99 scores 0.01 … 0.99 and a budget of 1 %: what is above 0.99 is rejected.
CALIBRATION = Calibration(np.arange(1, 100) / 100, 0.01)


def test_golden_parts_are_the_nearest_and_the_farthest() -> None:
    scores = [0.1, 0.9, 1.01, 0.5, 0.97, 3.0, 0.99, 0.2, 0.98]
    chosen = choose_golden(scores, 0.99)
    assert chosen[:4] == [6, 8, 2, 4]
    assert set(chosen[4:]) == {0, 5}


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.floats(0, 10))
def test_golden_parts_are_different_parts(scores: list[float], threshold: float) -> None:
    chosen = choose_golden(scores, threshold)
    assert len(set(chosen)) == len(chosen) == min(6, len(scores))
    distances = [abs(score - threshold) for score in scores]
    assert max(distances) in [distances[i] for i in chosen]
    assert min(distances) in [distances[i] for i in chosen]


def test_golden_parts_of_equal_scores_are_the_first() -> None:
    assert choose_golden([1.0] * 9, 1.0) == [0, 1, 2, 3, 7, 8]


def test_difference_is_the_largest_to_the_reference() -> None:
    parity = Parity({FAST: [0.5, 0.9, 2.0], EXACT: [0.5, 1.0, 2.0], OTHER: [0.5, 0.98, 2.25]})
    assert parity.difference(FAST) == 0.25
    assert Parity({FAST: [0.5, 0.9]}).difference(FAST) == 0
    assert parity.difference(EXACT) == 0.25


def test_flips_are_counted_per_engine() -> None:
    parity = Parity(
        {FAST: [0.5, 0.98, 1.2], EXACT: [0.5, 0.985, 1.1], OTHER: [0.5, 1.0, 0.9]},
    )
    assert parity.flips(FAST, CALIBRATION) == {FAST: 0, EXACT: 0, OTHER: 2}
    assert parity.flips(OTHER, CALIBRATION) == {FAST: 2, EXACT: 2, OTHER: 0}


def test_a_golden_part_on_the_threshold_is_not_rejected_anywhere() -> None:
    assert CALIBRATION.threshold == 0.99
    assert Parity({EXACT: [0.99], OTHER: [0.99]}).flips(EXACT, CALIBRATION)[OTHER] == 0
    assert Parity({EXACT: [0.99], OTHER: [0.9900001]}).flips(EXACT, CALIBRATION)[OTHER] == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_a_flip(odd: float) -> None:
    parity = Parity({EXACT: [1.5, 0.5], OTHER: [odd, 0.5]})
    assert parity.flips(EXACT, CALIBRATION)[OTHER] == 1
    assert parity.settle(EXACT, CALIBRATION) is None


def test_engines_that_agree_need_no_tolerance() -> None:
    parity = Parity({FAST: [0.5, 0.97, 1.5], EXACT: [0.52, 0.96, 1.6]})
    settled = parity.settle(FAST, CALIBRATION)
    assert settled is not None
    assert settled.tolerance == 0
    assert settled.threshold == CALIBRATION.threshold


def test_the_threshold_is_raised_past_a_part_that_lies_on_it() -> None:
    parity = Parity({EXACT: [0.99, 0.5], OTHER: [0.99004, 0.5]})
    assert parity.flips(EXACT, CALIBRATION)[OTHER] == 1
    settled = parity.settle(EXACT, CALIBRATION)
    assert settled is not None
    assert not any(parity.flips(EXACT, settled).values())
    assert 0.99004 < settled.threshold < 0.99005
    assert settled.false_alarms == CALIBRATION.false_alarms
    assert settled.groups == CALIBRATION.groups


def test_a_part_far_above_is_rejected_still() -> None:
    parity = Parity({EXACT: [0.99, 1.3], OTHER: [0.992, 1.3]})
    settled = parity.settle(EXACT, CALIBRATION)
    assert settled is not None
    assert [settled.verdict(score) for score in (0.99, 0.992, 1.3)][-1] == "reject"
    assert settled.verdict(0.992) != "reject"


def test_an_earlier_tolerance_is_forgotten() -> None:
    loose = Calibration(CALIBRATION.scores, 0.01, None, 0.5)
    settled = Parity({EXACT: [0.5], OTHER: [0.5]}).settle(EXACT, loose)
    assert settled is not None
    assert settled.tolerance == 0


def test_engines_that_differ_about_clear_parts_are_not_reconciled() -> None:
    # Raising the threshold past one golden part lets another differ: 0.05 apart, in a chain.
    ours = [0.97 + 0.03 * i for i in range(8)]
    parity = Parity({FAST: ours, EXACT: [score + 0.025 for score in ours]})
    settled = parity.settle(FAST, CALIBRATION)
    assert settled is None or not any(parity.flips(FAST, settled).values())
    crossed = Parity({FAST: [1.2, 0.9], EXACT: [0.9, 1.2], OTHER: [1.0, 1.0]})
    assert crossed.settle(FAST, CALIBRATION) is None or not any(
        crossed.flips(FAST, crossed.settle(FAST, CALIBRATION) or CALIBRATION).values()
    )


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(-0.1, 0.1)), min_size=1, max_size=6),
    st.lists(st.floats(0, 2), min_size=1, max_size=40),
)
def test_settled_means_no_flips_within_the_difference_of_engines(
    pairs: list[tuple[float, float]], scores: list[float]
) -> None:
    calibration = Calibration(np.array(scores), 0.05)
    ours = [score for score, _ in pairs]
    parity = Parity({FAST: ours, OTHER: [score + shift for score, shift in pairs]})
    settled = parity.settle(FAST, calibration)
    if settled is None:
        assert any(parity.flips(FAST, calibration).values())
        return
    assert not any(parity.flips(FAST, settled).values())
    margin = 1e-6 * max(1.0, calibration.threshold)
    assert 0 <= settled.tolerance <= parity.difference(FAST) + margin
    if not any(parity.flips(FAST, calibration).values()):
        assert settled.tolerance == 0


def test_engines_of_this_machine_are_compared_on_pictures() -> None:
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    graph = Graph(cell_graph(), preprocessing, Aggregation())
    pictures = [gray_picture(0.75), spotted_picture(3, 4), gray_picture(0.5, (50, 60))]
    parity = compare_engines(graph, pictures)
    assert set(parity.scores) == set(available_engines())
    for choice, scores in parity.scores.items():
        tolerance = 1e-6 if choice.precision == "f32" else 4e-3
        expected = [191 / 255 - 0.5, 0.5, 128 / 255 - 0.5]
        assert scores == pytest.approx(expected, abs=tolerance)
    exact = next(choice for choice in available_engines() if choice.precision == "f32")
    assert parity.difference(exact) <= 4e-3
