"""Release: the engine whose verdicts hold on the others, and which is not off them in the mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import makellos
from makellos.calibration import Calibration
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.model_file import read_model
from makellos.models import Parity
from makellos.workflows import releasing

FAST, EXACT = EngineChoice("openvino", "bf16"), EngineChoice("openvino", "f32")
CALIBRATION = Calibration(np.linspace(0, 1, 100), 0.01)  # the usual score 0.5, the threshold 1


@pytest.mark.parametrize(("shift", "shifted"), [(0.0, False), (0.08, False), (-0.12, True)])
def test_engine_is_shifted_by_a_fifth_of_the_way_to_the_threshold(
    shift: float, shifted: bool
) -> None:
    judged = Parity({FAST: [0.97, 0.99], EXACT: [0.97 + shift, 0.99 + shift]})
    assert releasing._is_shifted(judged, FAST, CALIBRATION) == shifted


@pytest.mark.parametrize(("tolerance", "shifted"), [(0.08, False), (0.12, True)])
def test_threshold_may_be_raised_by_a_fifth_of_the_way(tolerance: float, shifted: bool) -> None:
    judged = Parity({FAST: [0.97, 0.99], EXACT: [0.97, 0.99]})
    raised = replace(CALIBRATION, tolerance=tolerance)
    assert releasing._is_shifted(judged, FAST, raised) == shifted


def test_without_room_or_parts_nothing_is_shifted() -> None:
    judged = Parity({FAST: [0.9], EXACT: [0.5]})
    alike = Calibration(np.ones(30), 0.1)
    assert not releasing._is_shifted(judged, FAST, alike)
    assert not releasing._is_shifted(Parity({FAST: [], EXACT: []}), FAST, CALIBRATION)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_shifted_engine_is_taken_only_where_all_are(
    toy: ModuleType,
    toy_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    all_of_them: bool,
) -> None:
    first, exact = available_engines()[0], [e for e in available_engines() if e.precision == "f32"]
    tried: list[EngineChoice] = []

    def is_shifted(judged: Parity, choice: EngineChoice, calibration: Any) -> bool:
        del judged, calibration
        tried.append(choice)
        return all_of_them or choice == first

    monkeypatch.setattr(releasing, "_is_shifted", is_shifted)
    toy.install(monkeypatch)
    makellos.fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1)
    others = [engine for engine in exact if engine != first]
    assert tried[:2] == [first, others[0]]
    expected = first if all_of_them else others[0]
    assert read_model(tmp_path / "m.makellos").manifest.engine.choice() == expected


def test_exact_engines_are_held_to_each_other_alone(
    toy: ModuleType, toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast engine that is far off neither keeps f32 from being taken nor raises the threshold.

    Without bf16 there is no such engine, and the same holds.
    """
    exact = [engine for engine in available_engines() if engine.precision == "f32"]
    judge = releasing._judge

    def judged(*asked: Any) -> Parity:
        scores = judge(*asked).scores
        return Parity({**scores, FAST: [score + 10 for score in scores[exact[0]]]})

    monkeypatch.setattr(releasing, "_judge", judged)
    toy.install(monkeypatch)
    makellos.fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1)
    manifest = read_model(tmp_path / "m.makellos").manifest
    assert manifest.engine.choice() == exact[0]
    assert manifest.calibration.tolerance < 1e-3
