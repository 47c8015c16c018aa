"""Groups of good parts: named by a pattern or a column, and said wherever the model speaks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

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
