"""A lot that has begun: its first good parts calibrate it, with what all lots have in common."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from makellos import Inspector, calibrate, fit
from makellos.calibration import scores_in_lot
from makellos.inspection.model_file import read_model

N_LOTS, N_OF_LOT, N_FIRST = 4, 14, 9


def write_lot(toy: ModuleType, folder: Path, n: int, level: int, seed: int) -> list[Path]:
    """Write good parts of a lot, as bright as `level` says, and return their files."""
    rng, paths = np.random.default_rng(seed), []
    for i in range(n):
        part = toy.gray_part(rng).astype(int) + level
        paths.append(folder / f"{i:02d}.png")
        toy.write(paths[-1], np.clip(part, 0, 255).astype(np.uint8))
    return paths


@pytest.fixture(scope="module")
def lots_model(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of four lots; tests that change it make a copy."""
    folder = tmp_path_factory.mktemp("lots")
    with (folder / "lots.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group"])
        for lot in range(N_LOTS):
            for path in write_lot(toy, folder / f"{lot}", N_OF_LOT, 6 * lot, lot):
                table.writerow([path, "good", f"lot{lot}"])
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        fit(folder / "lots.csv", folder / "lots.makellos", false_alarms=0.05)
    return folder / "lots.makellos"


@pytest.fixture
def model(lots_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(lots_model, tmp_path / "m.makellos"))


@pytest.fixture
def lot(toy: ModuleType, tmp_path: Path) -> Path:
    """Return the first parts of a lot that is brighter than all others."""
    write_lot(toy, tmp_path / "LOT7", N_FIRST, 40, 70)
    return tmp_path / "LOT7"


def test_first_parts_of_a_lot_promise_what_groups_could_not(
    model: Path, lot: Path, toy: ModuleType, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    before = read_model(model).manifest
    assert before.calibration.calibration().false_alarms == pytest.approx(1 / 5)
    told = cli("calibrate", model, lot, "--json", "-")
    summary = json.loads(told.out)
    assert summary["false_alarms"] == 0.05
    assert summary["promise"] == (
        "of the good parts of this lot to come, at most 5.00% will be rejected"
    )
    assert (summary["n_first"], summary["n_lots"]) == (N_FIRST, N_LOTS)
    (note,) = summary["notes"]
    assert "'makellos drift' still compares" in note
    assert "from the first 9 good parts of a lot and what it has in common with 4 others" in (
        told.everything
    )
    later = write_lot(toy, tmp_path / "later", 10, 40, 71)
    old = [Inspector(model_of).inspect(path) for model_of in (model,) for path in later]
    assert sum(row.verdict == "reject" for row in old) <= 2
    by_groups = before.calibration.calibration()
    assert all(by_groups.verdict(row.score) == "reject" for row in old)


def test_scores_are_those_of_the_lot_and_of_others_at_its_level(model: Path, lot: Path) -> None:
    before = read_model(model).manifest.calibration
    own = [Inspector(model).inspect(path).score for path in sorted(lot.iterdir())]
    calibrate(model, lot)
    record = read_model(model).manifest.calibration
    assert record.scores == scores_in_lot(before.scores, before.groups or [], own).tolist()
    assert len(record.scores) == (N_LOTS + 1) * (N_FIRST + 1) - 1 == len(record.map_maxima or [])
    assert (record.lot, record.method) == ("LOT7", "first parts of a lot")
    assert (record.groups, record.n_lots, record.earlier) == (None, N_LOTS, before)


def test_the_next_lot_owes_nothing_to_this_one(
    model: Path, lot: Path, toy: ModuleType, tmp_path: Path
) -> None:
    write_lot(toy, tmp_path / "LOT8", N_FIRST, 20, 80)
    calibrate(model, tmp_path / "LOT8", output=tmp_path / "direct.makellos")
    calibrate(model, lot)
    calibrate(model, tmp_path / "LOT8")
    direct = read_model(tmp_path / "direct.makellos").manifest.calibration
    assert read_model(model).manifest.calibration == direct


def test_parts_of_the_fit_give_back_its_calibration(
    model: Path, lots_model: Path, lot: Path
) -> None:
    before = read_model(model).manifest.calibration
    calibrate(model, lot)
    summary = calibrate(model, lots_model.parent / "lots.csv")
    assert "holds the parts that the model was fitted on" in summary.notes[0]
    assert read_model(model).manifest.calibration == before


def test_a_budget_is_shared_by_lot_and_model(model: Path, lot: Path) -> None:
    summary = calibrate(model, lot, false_alarms=0.01)
    assert summary.false_alarms == pytest.approx(1 / 50)
    assert (
        "needs the first 19 good parts of a lot and as many of 4 earlier lots" in (summary.notes[0])
    )
    again = calibrate(model, false_alarms=0.1)
    assert (again.false_alarms, again.n_first) == (0.1, N_FIRST)


def test_one_named_group_is_a_lot_and_several_are_not(
    model: Path, lot: Path, tmp_path: Path
) -> None:
    for n_groups, expected in ((1, N_FIRST), (2, 0)):
        rows = [f"{path},good,g{i % n_groups}" for i, path in enumerate(sorted(lot.iterdir()))]
        (tmp_path / "lot.csv").write_text("\n".join(["path,label,group", *rows]))
        assert calibrate(model, tmp_path / "lot.csv").n_first == expected


def test_copies_in_a_lot_count_once(model: Path, lot: Path) -> None:
    shutil.copy(lot / "00.png", lot / "copy.png")
    assert calibrate(model, lot).n_first == N_FIRST


def test_more_parts_than_any_lot_calibrate_by_themselves(
    model: Path, toy: ModuleType, tmp_path: Path
) -> None:
    write_lot(toy, tmp_path / "many", N_OF_LOT + 2, 40, 72)
    summary = calibrate(model, tmp_path / "many")
    assert (summary.n_first, summary.n_groups) == (0, N_OF_LOT + 2)
    assert "With 13 of them, those lots count as well" in summary.notes[0]


def test_info_says_of_what_the_promise_is(model: Path, lot: Path, cli: Callable[..., Any]) -> None:
    assert "of the good parts of groups to come, on average over groups" in cli("info", model).out
    calibrate(model, lot)
    told = " ".join(cli("info", model).out.split())
    assert "of the good parts of this lot to come, at most 5.00% will be rejected" in told
    assert "lot 'LOT7'" in told
