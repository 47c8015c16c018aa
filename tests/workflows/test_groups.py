"""Groups of good parts: named by a pattern or a column, and said wherever the model speaks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from makellos import fit


@pytest.fixture(autouse=True)
def toys(toy: ModuleType) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        yield


def test_groups_by_a_pattern_calibrate_and_are_said(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    model = tmp_path / "m.makellos"
    told = cli("fit", toy_parts, "-o", model, "--false-alarms", "0.5", "--groups", "0{}?.png")
    assert "Calibrated on 3 groups of good parts (cross-fitted)" in told.out
    assert "Note: 3 groups of 10 good parts by the pattern '0{}?.png', such as '0' of" in told.out
    told = cli("info", model)
    assert "3 groups of good parts by the pattern '0{}?.png', cross-fitted" in told.out


def test_groups_by_a_column_calibrate(toy_parts: Path, tmp_path: Path) -> None:
    paths = sorted((toy_parts / "train" / "good").iterdir())
    with (tmp_path / "m.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["path", "lot"], *([path, i // 6] for i, path in enumerate(paths))]
        )
    summary = fit(tmp_path / "m.csv", tmp_path / "m.makellos", false_alarms=0.5, groups="lot")
    assert (summary.n_calibration, summary.n_groups, summary.counted) == (30, 5, "groups")


def test_mistaken_groups_are_wrong_usage(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("fit", toy_parts, "-o", tmp_path / "m.makellos", "--groups", "lot*")
    assert told.code == 2
    assert "Mark the one part of the file name" in told.err


def write_exposures(folder: Path, n_parts: int, n_takes: int) -> Path:
    """Write parts with a texture of their own, each under several lights."""
    folder.mkdir()
    for part in range(n_parts):
        texture = np.random.default_rng(part).normal(0, 1, (96, 96))
        shown = cv2.GaussianBlur(texture, (0, 0), 2) * 60 + 100
        for take in range(n_takes):
            noise = np.random.default_rng([part, take]).normal(0, 2, shown.shape)
            taken = np.clip((0.6 + 0.3 * take) * shown + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{part * 7919 % 1009}{take}.png"), taken)
    return folder


def test_auto_counts_pictures_of_one_part_once(tmp_path: Path, cli: Callable[..., Any]) -> None:
    data = write_exposures(tmp_path / "tiles", 16, 3)
    model = tmp_path / "m.makellos"
    told = cli("fit", data, "-o", model, "--false-alarms", "0.2", "--groups", "auto")
    assert "Calibrated on 16 groups of good parts" in told.out
    assert "Your 48 good pictures show 16 parts" in told.out
    assert "16 groups of good parts by pictures of one part" in cli("info", model).out


def test_auto_says_that_it_found_nothing(toy_parts: Path, tmp_path: Path) -> None:
    summary = fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1, groups="auto")
    assert summary.counted == "parts"
    assert summary.notes[0].startswith("No series and no pictures of one part were found")
