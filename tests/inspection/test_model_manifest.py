"""The manifest: data that comes back as it was, and data that is not accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError
from small_models import manifest

from makellos.inspection.manifest import CalibrationRecord, Manifest

SCORES: dict[str, Any] = {"scores": [1.0, 2.0, 3.0], "asked": 0.25, "method": "held out"}


def test_manifest_survives_json() -> None:
    whole = manifest()
    assert Manifest.model_validate(json.loads(whole.model_dump_json())) == whole


def test_calibration_is_that_of_the_record() -> None:
    record = CalibrationRecord(
        scores=[0.1, 0.2, 0.7, 0.30000000000000004],
        map_maxima=[1.0, 2.0, 3.0, 4.0],
        groups=["a", "b", "c", "c"],
        asked=0.25,
        tolerance=0.5,
        method="cross-fitted",
    )
    again = CalibrationRecord.model_validate_json(record.model_dump_json())
    calibration, maps = again.calibration(), again.map_calibration()
    assert calibration.scores.tolist() == [0.1, 0.2, 0.7, 0.30000000000000004]
    assert (calibration.asked, calibration.tolerance, calibration.n_groups) == (0.25, 0.5, 3)
    assert maps is not None
    assert (maps.threshold, maps.n_groups) == (4.0, 3)  # of c, half a draw is 3 and half 4


def test_without_maps_there_is_no_calibration_of_maps() -> None:
    record = CalibrationRecord.model_validate(SCORES)
    assert record.map_calibration() is None
    assert record.calibration().threshold == 3.0


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"scores": []}, "scores"),
        ({"scores": [1.0, float("nan"), 2.0]}, "scores"),
        ({"scores": [1.0, float("inf"), 2.0]}, "scores"),
        ({"scores": "1, 2, 3"}, "scores"),
        ({"map_maxima": [1.0]}, "3 scores have 1 map_maxima"),
        ({"map_maxima": [1.0, 2.0, float("-inf")]}, "map_maxima"),
        ({"groups": ["a", "b"]}, "3 scores have 2 groups"),
        ({"asked": 0.0}, "asked"),
        ({"asked": 0.6}, "asked"),
        ({"asked": float("nan")}, "asked"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": float("inf")}, "tolerance"),
        ({"method": "guessed"}, "method"),
        ({"code": "print()"}, "code"),
    ],
)
def test_calibration_that_is_not_accepted(change: dict[str, Any], where: str) -> None:
    CalibrationRecord.model_validate(SCORES)
    with pytest.raises(ValidationError, match=where):
        CalibrationRecord.model_validate(SCORES | change)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"format_version": 2},
        {"format_version": 0},
        {"aggregation": {"name": "sum"}},
        {"preprocessing": {"height": 10**9, "width": 64}},
        {"detector": {"name": "cells", "parameters": {}, "runtime": "shell"}},
        {"golden": [{"file": "golden/00.png", "score": 1.0, "verdict": "fine"}]},
        {"golden": [{"file": "golden/00.png", "score": float("nan"), "verdict": "ok"}]},
        {"members": {"graph.onnx": {"sha256": "0" * 63, "size": 1}}},
        {"members": {"graph.onnx": {"sha256": "0" * 64, "size": -1}}},
        {"entry_point": "os:system"},
    ],
)
def test_manifest_that_is_not_accepted(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**change)


def test_manifest_cannot_be_changed_in_place() -> None:
    whole = manifest()
    with pytest.raises(ValidationError):
        whole.calibration.asked = 0.5  # type: ignore[misc]
