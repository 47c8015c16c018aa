"""The verbs that list: detectors, devices, info, data get list; and data synth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from makellos.detectors import detectors
from makellos.inspection.engines import available_engines

Cli = Callable[..., Any]


def test_detectors_are_those_of_the_registry(cli: Cli) -> None:
    told = cli("detectors", "--json", "-")
    found = json.loads(told.out)
    assert list(found) == list(detectors())
    for name, cls in detectors().items():
        assert found[name]["summary"] == cls.summary
        assert list(found[name]["parameters"]) == list(cls.parameters)
        assert name in told.err
    kinds = {
        name: (each["learns"], each["needs_labels"], each["uses_labels"])
        for name, each in found.items()
    }
    assert kinds["padim"] == ("good", False, False)
    assert kinds["discriminative"] == ("good and labelled", False, True)
    assert kinds["classifier"] == ("labels", True, True)
    extras = {name: each["extra"] for name, each in found.items()}
    assert {name for name, extra in extras.items() if extra is None} == {
        "golden",
        "patchcore",
        "padim",
    }
    assert (extras["pyod"], extras["vae"]) == ("signals", "train")
    assert "pip install '.[train]'" in told.err
    assert "To fit it: pip install '.[signals]'" in cli("detectors", "pyod").out


@pytest.mark.parametrize("name", sorted(detectors()))
def test_every_parameter_of_a_detector_is_shown(cli: Cli, name: str) -> None:
    told = cli("detectors", name)
    assert told.code == 0
    for parameter, declared in detectors()[name].parameters.items():
        (line,) = [line for line in told.out.splitlines() if line.startswith(f"{parameter} ")]
        assert declared.meaning in line
        assert repr(declared.default) in line


def test_unknown_detector_gets_a_suggestion(cli: Cli) -> None:
    told = cli("detectors", "padmi")
    assert told.code == 2
    assert "Did you mean 'padim'?" in told.err


def test_devices_names_the_engines(cli: Cli) -> None:
    found = json.loads(cli("devices", "--json", "-").out)
    assert found["engines"] == [str(choice) for choice in available_engines()]
    assert found["cores"] >= 1
    assert "engines for inspecting" in cli("devices").out


def test_info_shows_the_promise(toy_model: Path, cli: Cli) -> None:
    told = cli("info", toy_model)
    assert told.code == 0
    for text in ("toy", "30 good parts", "cross-fitted", "at most 10.00%", "SHA-256"):
        assert text in told.out
    manifest = json.loads(cli("info", toy_model, "--json", "-").out)
    assert manifest["format"] == "makellos"
    assert manifest["calibration"]["asked"] == 0.1


def test_public_sets_are_listed(cli: Cli, tmp_path: Path) -> None:
    assert "mvtec_ad/screw" in cli("data", "get", "list").out
    told = cli("data", "get", "list", "--json", tmp_path / "sets.json")
    assert told.code == 0
    assert "name" in json.loads((tmp_path / "sets.json").read_text())["mvtec_ad/screw"]


def test_public_set_asks_for_its_licence_first(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli("data", "get", "mvtec_ad/screw")
    assert told.code == 2
    assert "--accept-license" in told.err
    told = cli("data", "get", "mvtec_ad/scew")
    assert told.code == 2
    assert "Did you mean 'mvtec_ad/screw'?" in told.err
    assert list(tmp_path.iterdir()) == []


def test_synth_renders_a_set_that_has_no_fault(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "screws"
    told = cli(
        "data", "synth", "-o", folder, "--n-train", 3, "--n-test-good", 2, "--n-per-defect", 1,
        "--size", 64,
    )  # fmt: skip
    assert told.code == 0
    assert f"Next: makellos fit {folder}" in told.out
    found = json.loads(cli("data", "check", folder, "--json", "-").out)
    assert found["problems"] == []
    assert (found["n_good"], found["n_test_good"]) == (3, 2)
    told = cli("data", "synth", "-o", folder)
    assert told.code == 2
    assert "is not empty" in told.err


def test_synth_renders_boards(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    counts = ["--n-train", 3, "--n-test-good", 1, "--n-per-defect", 1]
    told = cli("data", "synth", "-o", folder, "--kind", "boards", *counts, "--size", 192)
    assert told.code == 0
    assert f"Next: makellos fit {folder} -o boards.makellos --detector golden" in told.out
    found = json.loads(cli("data", "check", folder, "--json", "-").out)
    assert found["problems"] == []
    assert (found["n_good"], found["n_test_good"]) == (3, 1)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--size", "3"], "64 to 2048"),
        (["--n-train", "-1"], "0 or a positive integer"),
        (["--seed", "-1"], "0 or a positive integer"),
        (["--kind", "board"], "Did you mean 'boards'?"),
        (["--kind", "boards", "--size", "64"], "192 to 2048"),
        (["--kind", "boards", "--aligned"], "--aligned is for screws"),
    ],
)
def test_synth_refuses_what_cannot_be_rendered(
    cli: Cli, tmp_path: Path, options: list[str], advice: str
) -> None:
    told = cli("data", "synth", "-o", tmp_path / "screws", *options)
    assert told.code == 2
    assert advice in told.err


def test_a_detectors_parameters_are_also_shown_as_tutorials_call_them(cli: Cli) -> None:
    told = cli("detectors", "anogan", "--json", "-")
    elsewhere = json.loads(told.out)["anogan"]["known_elsewhere"]
    assert "lambda" in elsewhere["feature_weight"]
    (line,) = [line for line in told.err.splitlines() if line.endswith(" feature_weight")]
    assert line.startswith("lambda, ")
