"""Fitting a real detector: the seed decides everything, and options reach the detector."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import makellos
from makellos.inspection.model_file import read_model

TIMES = {"created", "fit_seconds"}


def without_times(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(found["manifest.json"])
    data["training"] = {k: v for k, v in data["training"].items() if k not in TIMES}
    return found | {"manifest.json": {k: v for k, v in data.items() if k not in TIMES}}


def test_same_seed_gives_the_same_model_and_the_same_scores(
    screws: Path, screw_model: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.makellos"
    summary = makellos.fit(screws, again, parameters={"image_size": 128}, false_alarms=0.1)
    assert without_times(again) == without_times(screw_model)
    assert (summary.detector, summary.method) == ("patchcore", "cross-fitted")
    picture = screws / "test" / "good" / "000.png"
    first, second = (makellos.Inspector(path).inspect(picture) for path in (screw_model, again))
    assert first.score == second.score


def test_options_reach_the_detector(screws: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    # With parts to calibrate set aside, one fit is enough.
    with (tmp_path / "parts.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "split"])
        for i, path in enumerate(sorted((screws / "train" / "good").glob("*.png"))[:12]):
            table.writerow([path, "train" if i < 6 else "val"])
    config = tmp_path / "config.json"
    config.write_text('{"image_size": 96, "patch_size": 1, "coreset_ratio": 0.5}')
    model = tmp_path / "m.makellos"
    told = cli(
        "fit", tmp_path / "parts.csv", "-o", model, "--preset", "fast", "--config", config,
        "--set", "image_size=64", "--seed", 7, "--false-alarms", 0.25, "--json", "-",
    )  # fmt: skip
    assert told.code == 0
    summary = json.loads(told.out)
    assert summary["model"] == str(model)
    assert summary["false_alarms"] == 0.25
    assert summary["skipped"] == summary["notes"] == []
    assert "Calibrated on 6 good parts (split val)" in told.err
    parameters = read_model(model).manifest.detector.parameters
    assert parameters["image_size"] == 64  # --set goes before the file
    assert (parameters["patch_size"], parameters["coreset_ratio"]) == (1, 0.5)
    assert parameters["memory_bank_size"] == 4000  # of the preset
    assert parameters["seed"] == 7
    assert read_model(model).manifest.preprocessing.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--set", "image_sise=64"], "Did you mean 'image_size'?"),
        (["--set", "image_size=big"], "expected a whole number"),
        (["--set", "image_size=-1"], "at least 0"),
        (["--set", "image_size"], "--set takes KEY=VALUE"),
        (["--set", "=3"], "--set takes KEY=VALUE"),
        (["--preset", "fastt"], "Did you mean 'fast'?"),
        (["--detector", "patchcor"], "Did you mean 'patchcore'?"),
        pytest.param(
            ["--set", "backbone=resnet-18"], "efficientnet_lite0", marks=pytest.mark.needs_torch
        ),
        (["--device", "cuda"], "expected auto or cpu"),
        (["--seed", "-1"], "whole number, at least 0"),
        (["--false-alarms", "2"], "above 0 and up to 0.5"),
        (["--white-level", "0"], "1 to 65535"),
        (["--config", "nowhere.json"], "nowhere.json does not exist"),
    ],
)
def test_wrong_options_say_what_is_accepted(
    screws: Path, tmp_path: Path, cli: Callable[..., Any], options: list[str], advice: str
) -> None:
    told = cli("fit", screws, "-o", tmp_path / "m.makellos", *options)
    assert told.code == 2
    assert advice in told.err
    assert not (tmp_path / "m.makellos").exists()


@pytest.mark.parametrize(
    ("content", "advice"),
    [("{", "is not JSON"), ("[1]", "must hold an object"), ('{"x": 1}', "no parameter 'x'")],
)
def test_wrong_configuration_files_say_what_is_accepted(
    screws: Path, tmp_path: Path, cli: Callable[..., Any], content: str, advice: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(content)
    told = cli("fit", screws, "-o", tmp_path / "m.makellos", "--config", config)
    assert told.code == 2
    assert advice in told.err


@pytest.mark.parametrize("name", ["m.zip", "m", "."])
def test_model_must_have_a_name_of_its_own(
    screws: Path, tmp_path: Path, cli: Callable[..., Any], name: str
) -> None:
    told = cli("fit", screws, "-o", tmp_path / name)
    assert told.code == 2
    assert ".makellos" in told.err
