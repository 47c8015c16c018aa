"""The package from Python: the same verbs, the same results as on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

import makellos
from makellos.errors import ConfigurationError, InputError, ModelFileError


def test_every_public_name_is_there() -> None:
    assert len(set(makellos.__all__)) == len(makellos.__all__)
    assert {"fit", "Inspector", "PatchCore", "AnoGAN", "VAE"} < set(makellos.__all__)
    for name in makellos.__all__:
        assert getattr(makellos, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = makellos.fitt  # type: ignore[attr-defined]


def test_inspector_gives_the_rows_of_the_command_line(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    lines = cli("inspect", toy_model, toy_parts / "test", "--jsonl", "-").out.splitlines()
    inspector = makellos.Inspector(toy_model)
    for line in lines:
        expected = json.loads(line)
        row = inspector.inspect(expected["input"]).row()
        assert row | {"milliseconds": 0} == expected | {"milliseconds": 0}
        picture = cv2.imread(expected["input"], cv2.IMREAD_UNCHANGED)
        found = inspector.inspect(np.array(picture), name="camera 1")
        assert found.score == expected["score"]
        assert found.input == "camera 1"
        assert found.anomaly_map is not None


def test_evaluate_gives_the_figures_of_the_command_line(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    told = json.loads(cli("evaluate", toy_model, toy_parts, "--json", "-").out)
    figures = makellos.evaluate(str(toy_model), str(toy_parts))
    timed = {"inspect_ms_per_part": 0}
    assert json.loads(json.dumps(figures)) | timed == told | timed


def test_fit_inspect_evaluate_take_texts_for_paths(
    toy: ModuleType, toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.install(monkeypatch)
    model = str(tmp_path / "m.makellos")
    assert makellos.fit(str(toy_parts), model).model == model
    assert makellos.calibrate(model, false_alarms=0.2).false_alarms == 0.2
    summary = makellos.inspect(model, [str(toy_parts / "test")])
    assert summary.n_parts == sum(summary.verdicts.values()) == 20


def test_one_input_is_not_walked_letter_by_letter(toy_model: Path, toy_parts: Path) -> None:
    for one in (str(toy_parts / "test"), toy_parts / "test"):
        assert makellos.inspect(toy_model, one).n_parts == 20
    with pytest.raises(ConfigurationError, match="received only 'patchcore'"):
        makellos.compare(toy_parts, "patchcore")
    with pytest.raises(InputError, match=r"The model nothing\.makellos does not exist"):
        makellos.compare(toy_parts, models="nothing.makellos")


def test_files_are_named_by_texts_as_well(toy_model: Path, tmp_path: Path) -> None:
    makellos.write_picture(f"{tmp_path}/a.png", np.zeros((4, 4), np.uint8))
    assert makellos.read_picture(f"{tmp_path}/a.png").shape == (4, 4)
    assert makellos.read_model(str(toy_model)).path == toy_model
    np.save(tmp_path / "a.npy", np.sin(np.arange(5000.0)))
    recording = makellos.vibration.read_recording(f"{tmp_path}/a.npy", rate=1000)
    assert recording.rate == 1000


def test_inspector_says_what_is_wrong_with_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="Give a model file that 'makellos fit' wrote"):
        makellos.Inspector(tmp_path / "nowhere.makellos")
