"""Golden parts and parity, on scores made up for the purpose."""

from __future__ import annotations

import math
from dataclasses import replace

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
THRESHOLD = CALIBRATION.threshold


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
    assert parity.flips(FAST, THRESHOLD) == {FAST: 0, EXACT: 0, OTHER: 2}
    assert parity.flips(OTHER, THRESHOLD) == {FAST: 2, EXACT: 2, OTHER: 0}


def test_a_golden_part_on_the_threshold_is_not_rejected() -> None:
    assert Parity({EXACT: [0.99], OTHER: [0.99]}).flips(EXACT, THRESHOLD)[OTHER] == 0
    assert Parity({EXACT: [0.99], OTHER: [0.9900001]}).flips(EXACT, THRESHOLD)[OTHER] == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("score", [0.5, 1.5])
def test_a_score_that_is_no_number_is_a_flip(odd: float, score: float) -> None:
    parity = Parity({EXACT: [score, 0.5], OTHER: [odd, 0.5]})
    assert parity.flips(EXACT, THRESHOLD)[OTHER] == 1
    assert parity.settle(EXACT, THRESHOLD) is None


def test_engines_that_agree_need_no_tolerance() -> None:
    parity = Parity({FAST: [0.5, 0.97, 1.5], EXACT: [0.52, 0.96, 1.6]})
    assert parity.settle(FAST, THRESHOLD) == 0


def test_the_threshold_is_raised_past_a_part_that_lies_on_it() -> None:
    parity = Parity({EXACT: [0.99, 0.5], OTHER: [0.99004, 0.5]})
    tolerance = parity.settle(EXACT, THRESHOLD)
    assert tolerance is not None
    assert 0.00004 < tolerance < 0.00005
    # As a calibration's tolerance it does what was settled, and the budget stays.
    settled = replace(CALIBRATION, tolerance=tolerance)
    assert not any(parity.flips(EXACT, settled.threshold).values())
    assert settled.false_alarms == CALIBRATION.false_alarms


def test_a_part_far_above_stays_rejected() -> None:
    tolerance = Parity({EXACT: [0.99, 1.3], OTHER: [0.992, 1.3]}).settle(EXACT, THRESHOLD)
    assert tolerance is not None
    assert 0.992 < THRESHOLD + tolerance < 0.993


def test_the_least_raise_is_taken() -> None:
    # 1.005 in one engine, 0.985 in the other: past 1.005, although 1.5 would settle it as well.
    parity = Parity({EXACT: [0.985, 1.5, 1.2], OTHER: [1.005, 1.5, 1.2]})
    tolerance = parity.settle(EXACT, THRESHOLD)
    assert tolerance == pytest.approx(0.015, abs=2e-6)


def test_engines_that_differ_too_much_are_not_reconciled() -> None:
    # Past one golden part lies the next on which they differ, further than twice any difference.
    ours = [0.98 + 0.02 * i for i in range(8)]
    chain = Parity({FAST: ours, EXACT: [score + 0.025 for score in ours]})
    assert any(chain.flips(FAST, THRESHOLD).values())
    assert chain.settle(FAST, THRESHOLD) is None


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(-0.1, 0.1)), min_size=1, max_size=6),
    st.floats(0, 2),
)
def test_settled_means_no_flips_within_the_difference_of_engines(
    pairs: list[tuple[float, float]], threshold: float
) -> None:
    parity = Parity(
        {FAST: [score for score, _ in pairs], OTHER: [score + shift for score, shift in pairs]}
    )
    agreed = not any(parity.flips(FAST, threshold).values())
    tolerance = parity.settle(FAST, threshold)
    assert agreed == (tolerance == 0)
    if tolerance is not None:
        assert not any(parity.flips(FAST, threshold + tolerance).values())
        margin = 1e-6 * max(1.0, threshold)
        assert 0 <= tolerance <= 2 * parity.difference(FAST) + margin


def test_engines_of_this_machine_are_compared_on_pictures() -> None:
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    recipe = Graph(cell_graph(), preprocessing, Aggregation()).recipe()
    pictures = [gray_picture(0.75), spotted_picture(3, 4), gray_picture(0.5, (50, 60))]
    parity = compare_engines(recipe, pictures)
    assert set(parity.scores) == set(available_engines())
    for choice, scores in parity.scores.items():
        tolerance = 1e-6 if choice.precision == "f32" else 4e-3
        expected = [191 / 255 - 0.5, 0.5, 128 / 255 - 0.5]
        assert scores == pytest.approx(expected, abs=tolerance)
    exact = next(choice for choice in available_engines() if choice.precision == "f32")
    assert parity.difference(exact) <= 4e-3
