"""Audit: hidden defects stand at the top, nothing is removed, and the cost of each is told."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from makellos.calibration import Calibration
from makellos.calibration.leaving_out import calibration_without, setters, thresholds_without
from makellos.data.pictures import Picture
from makellos.data.traits import outline_of, stand_outs, traits_of
from makellos.errors import ConfigurationError
from makellos.evaluation.suspicion import LIMIT, spreads_off
from makellos.inspection.oddities import oddity
from makellos.workflows.audit import audit


@pytest.fixture
def spoiled(toy: ModuleType, toy_parts: Path, tmp_path: Path, monkeypatch: Any) -> Path:
    """Return the toy parts with one spotted part among the good ones, and one copied to test."""
    kind = toy.install(monkeypatch)
    monkeypatch.setattr(
        "makellos.workflows.audit.make_detector", lambda name, *, parameters, seed: kind(seed=seed)
    )
    folder = tmp_path / "parts"
    shutil.copytree(toy_parts, folder)
    good = folder / "train" / "good"
    bad = next(d for d in sorted((folder / "test").iterdir()) if d.name != "good")
    shutil.move(sorted(bad.iterdir())[0], good / "hidden.png")
    shutil.copy(sorted(good.iterdir())[0], folder / "test" / "good" / "copied.png")
    return folder


def test_a_hidden_defect_stands_at_the_top(spoiled: Path, tmp_path: Path, cli: Any) -> None:
    before = sorted(spoiled.rglob("*"))
    told = cli(
        *("audit", spoiled, "-o", tmp_path / "out", "--json", tmp_path / "a.json"),
        *("--false-alarms", "0.1"),
    )
    assert told.code == 0, told.err
    found = json.loads((tmp_path / "a.json").read_text())
    first = found["ranking"][0]
    assert first["input"] == "train/good/hidden.png"
    assert first["is_suspect"]
    assert first["suspicion"] >= LIMIT
    assert first["threshold_without"] < found["threshold"]
    assert first["missed_without"] <= found["missed"]
    assert len(found["ranking"]) == found["n_good"] == 31
    order = [each["suspicion"] for each in found["ranking"]]
    assert order == sorted(order, reverse=True)
    assert sorted(spoiled.rglob("*")) == before
    page = (tmp_path / "out" / "audit.html").read_text("utf-8")
    assert "train/good/hidden.png" in page
    cleaned = (tmp_path / "out" / "cleaned.csv").read_text("utf-8")
    rows = list(csv.DictReader(cleaned.splitlines()))
    names = {Path(row["path"]).name for row in rows}
    assert "hidden.png" not in names
    assert {"copied.png", "001.png"} <= names


def test_a_picture_that_is_tested_as_well_is_named(spoiled: Path) -> None:
    found = audit(spoiled, false_alarms=0.1)
    told = {each["input"]: each["reason"] for each in found.ranking}
    assert (
        sum(
            "the same picture is in the test split: test/good/copied.png" in r
            for r in told.values()
        )
        == 1
    )
    assert found.page is None
    assert found.manifest is None


def test_a_detector_that_trains_is_refused(screws: Path) -> None:
    with pytest.raises(ConfigurationError, match="Leave --detector out"):
        audit(screws, detector="vae")


# Thresholds without a part


@pytest.mark.parametrize("groups", [None, ["a", "a", *map(str, range(28))]])
def test_thresholds_without_are_those_of_a_calibration_without(groups: list[str] | None) -> None:
    scores = np.random.default_rng(0).normal(size=30).round(1)
    calibration = Calibration(scores, 0.1, groups, tolerance=0.05)
    expected = [calibration_without(calibration, {i}).threshold for i in range(30)]
    assert thresholds_without(calibration) == expected


def test_setters_are_the_part_of_the_threshold_and_all_above() -> None:
    calibration = Calibration(np.arange(40.0), 0.05)
    assert setters(calibration) == [39, 38]


def test_spreads_do_not_move_with_a_tenth_of_outliers() -> None:
    scores = np.concatenate([np.random.default_rng(0).normal(5, 1, 90), np.full(10, 50.0)])
    assert spreads_off(scores)[90:].min() > 5 * LIMIT
    assert spreads_off(scores)[:90].max() < LIMIT
    assert spreads_off(np.ones(5)).tolist() == [0] * 5


# What is odd


def _scene() -> Picture:
    picture = np.full((160, 160), 200, np.uint8)
    picture += np.random.default_rng(0).integers(0, 4, picture.shape, np.uint8)
    picture[50:110, 60:100] = 40
    return picture


def _map(x: int, y: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.zeros((20, 20), np.float32)
    found[y // 8, x // 8] = 1
    return found


def test_a_fibre_a_speck_and_damage_are_told_apart() -> None:
    fibre, speck = _scene(), _scene()
    for i in range(36):
        fibre[16 + i // 4 : 18 + i // 4, 100 + i] = 90
    speck[18:24, 117:123] = 90
    found = [
        oddity(_map(118, 20), fibre, outline_of(fibre)),
        oddity(_map(118, 20), speck, outline_of(speck)),
        oddity(_map(80, 80), fibre, outline_of(fibre)),
        oddity(_map(158, 20), _scene(), outline_of(_scene())),
    ]
    assert [each.words for each in found] == [
        "fibre beside the part",
        "speck beside the part",
        "unusual place on the part",
        "unusual place at the border",
    ]
    assert found[0].box == (112, 16, 8, 8)


def test_without_a_background_no_place_is_named() -> None:
    texture = np.random.default_rng(0).integers(0, 255, (160, 160), np.uint8)
    assert outline_of(texture) is None
    assert oddity(_map(80, 80), texture, None).words == "unusual place"


def test_pictures_taken_otherwise_stand_out() -> None:
    import cv2

    rng = np.random.default_rng(1)
    usual = [np.roll(_scene(), int(rng.integers(-9, 9)), 0) for _ in range(20)]
    dark = (usual[0] // 2).astype(np.uint8)
    blurred = cv2.GaussianBlur(usual[1], (0, 0), 6)
    *rest, of_dark, of_blurred = stand_outs([traits_of(each) for each in [*usual, dark, blurred]])
    assert of_dark is not None and of_dark.reason in (
        "darker than usual",
        "less contrast than usual",
    )
    assert of_blurred is not None and of_blurred.reason in ("blurred", "less contrast than usual")
    limit = min(of_dark.spreads, of_blurred.spreads)
    assert all(each is not None and each.spreads < limit / 2 for each in rest)
    assert stand_outs([traits_of(dark)]) == [None]


def test_fit_names_the_parts_that_set_its_threshold(
    spoiled: Path, tmp_path: Path, cli: Any
) -> None:
    told = cli("fit", spoiled, "-o", tmp_path / "m.makellos", "--false-alarms", "0.1")
    assert told.code == 0, told.err
    assert "train/good/hidden.png" in told.out
    assert f"makellos audit {spoiled}" in told.out
