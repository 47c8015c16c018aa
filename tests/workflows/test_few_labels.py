"""Labelled defective parts reach a detector that uses labels; good parts alone calibrate."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

import makellos
from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.inspection.model_file import read_model
from makellos.training import Training

N_GOOD, N_BURNT = 20, 4


class Fitted:
    """What each fit of a detector was given: labels by name of part."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []


@pytest.fixture
def fitted(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Fitted:
    """Make every fit use a detector that trains, cross-fits and uses labels."""
    found = Fitted()

    class Learner(toy.ToyDetector):  # type: ignore[misc, name-defined]
        trains = True
        cross_fits = True
        learns = "good and labelled"

        def packages(self) -> tuple[str, ...]:
            return ()

        seen: ClassVar[list[list[str]]] = []

        def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
            found.seen.append({part.name: part.label for part in parts})
            self._learn([part for part in parts if part.is_good], progress)

    def make(name: str, *, preset: str, parameters: Any, seed: int) -> Any:
        return Learner(seed=seed)

    monkeypatch.setattr("makellos.workflows.fit.make_detector", make)
    return found


@pytest.fixture
def write(toy: ModuleType, tmp_path: Path) -> Any:
    """Return a function that writes a manifest of good and burnt parts."""
    folder = toy.write_parts(tmp_path / "parts")
    good = sorted((folder / "train" / "good").iterdir())[:N_GOOD]
    burnt = sorted(path for path in (folder / "test").rglob("*.png") if path.parent.name != "good")

    def manifest(splits: Sequence[str], groups: Sequence[str] = ()) -> Path:
        path = tmp_path / "parts.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["path", "label", "split", "group"])
            for i, picture in enumerate(good):
                table.writerow([picture, "good", "train", f"tile {i}"])
            for i, (picture, split) in enumerate(zip(burnt, splits, strict=False)):
                table.writerow([picture, "burnt", split, groups[i] if groups else ""])
        return path

    return manifest


def n_burnt(seen: dict[str, str]) -> int:
    return list(seen.values()).count("burnt")


def test_defective_parts_to_train_with_are_learned_from_in_every_fold(
    fitted: Fitted, write: Any, tmp_path: Path
) -> None:
    data = write(["train", "train", "", "val", "test"])
    summary = makellos.fit(data, tmp_path / "m.makellos", false_alarms=0.1)
    assert [n_burnt(seen) for seen in fitted.seen] == [3] * 6
    assert [len(seen) for seen in fitted.seen] == [3 + N_GOOD * 4 // 5] * 5 + [3 + N_GOOD]
    assert (summary.n_defective, summary.method) == (3, "cross-fitted")
    assert summary.notes == []
    assert summary.n_calibration == N_GOOD


def test_defective_part_of_a_left_out_group_is_left_out_with_it(
    fitted: Fitted, write: Any, tmp_path: Path
) -> None:
    makellos.fit(write(["train"], ["tile 3"]), tmp_path / "m.makellos", false_alarms=0.1)
    assert [n_burnt(seen) for seen in fitted.seen].count(0) == 1


def test_calibration_scores_are_those_of_good_parts_by_graphs_that_have_not_seen_them(
    fitted: Fitted, write: Any, tmp_path: Path
) -> None:
    """What the detector scores does not depend on labels here, so neither may the calibration."""
    makellos.fit(write([]), tmp_path / "good.makellos", false_alarms=0.1)
    makellos.fit(write(["train"] * N_BURNT), tmp_path / "both.makellos", false_alarms=0.1)
    alone, both = (
        read_model(tmp_path / f"{name}.makellos").manifest.calibration for name in ("good", "both")
    )
    np.testing.assert_array_equal(alone.scores, both.scores)
    assert alone.method == both.method == "cross-fitted"


def test_with_good_parts_alone_there_is_nothing_to_say_about_labels(
    fitted: Fitted, write: Any, tmp_path: Path
) -> None:
    summary = makellos.fit(write(["test"] * N_BURNT), tmp_path / "m.makellos", false_alarms=0.1)
    assert summary.notes == []
    assert summary.n_defective == 0
    assert {n_burnt(seen) for seen in fitted.seen} == {0}


def test_learning_from_all_labelled_parts_says_that_no_test_is_left(
    fitted: Fitted, write: Any, tmp_path: Path
) -> None:
    summary = makellos.fit(write(["train"] * N_BURNT), tmp_path / "m.makellos", false_alarms=0.1)
    assert any("No parts are kept for testing" in note for note in summary.notes)
