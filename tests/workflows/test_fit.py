"""Fitting with a toy detector: what is learned from, what calibrates, and what is promised."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from makellos import Inspector, fit
from makellos.errors import ConfigurationError, InputError, StorageError
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import read_model

TIMES = {"created", "fit_seconds"}


@pytest.fixture
def detector(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the toy detector's class, which every fit of the test uses."""
    return toy.install(monkeypatch)


def manifest_of(path: Path) -> Manifest:
    return read_model(path).manifest


def write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def members(path: Path) -> dict[str, Any]:
    """Return the members of a model file, its manifest without time stamps."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    data = Manifest.model_validate_json(found["manifest.json"]).model_dump()
    data["training"] = {k: v for k, v in data["training"].items() if k not in TIMES}
    return found | {"manifest.json": {k: v for k, v in data.items() if k not in TIMES}}


def test_budget_that_few_parts_cannot_keep_is_replaced_by_the_smallest(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    summary = fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.001)
    assert summary.false_alarms_asked == 0.001
    assert summary.false_alarms == pytest.approx(1 / 31)
    (note,) = summary.notes
    assert "needs 999 good parts" in note
    assert "there are 30" in note
    inspector = Inspector(tmp_path / "m.makellos")
    assert inspector.calibration.false_alarms == pytest.approx(1 / 31)
    assert inspector.threshold == max(inspector.calibration.scores)


def test_the_band_to_look_at_again_has_the_budget_asked_for(
    detector: Any, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    model = tmp_path / "m.makellos"
    assert cli("fit", toy_parts, "-o", model, "--false-alarms", 0.1, "--look-again", 0.4).code == 0
    assert manifest_of(model).calibration.look_again == 0.4
    calibration = Inspector(model).calibration
    assert calibration.look_again_threshold == calibration.quantile(0.5)
    for golden in manifest_of(model).golden:
        assert golden.verdict == calibration.verdict(golden.score)


def test_budget_that_parts_can_keep_needs_no_note(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    summary = fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1)
    assert summary.notes == []
    assert summary.false_alarms == 0.1


def test_every_part_calibrates_with_a_fit_that_has_not_seen_it(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    summary = fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1)
    assert (summary.method, summary.n_learned, summary.n_calibration) == ("cross-fitted", 30, 30)
    *folds, whole = map(set, detector.seen)
    assert len(whole) == 30
    left_out = [whole - fold for fold in folds]
    assert sum(map(len, left_out)) == 30
    assert set().union(*left_out) == whole


def test_detector_says_in_how_many_folds_it_calibrates(
    detector: Any, toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "n_folds", 7, raising=False)
    fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1)
    assert len(detector.seen) == 7 + 1  # and one of all parts


def test_cross_fit_never_splits_a_group(detector: Any, toy_parts: Path, tmp_path: Path) -> None:
    paths = sorted((toy_parts / "train" / "good").glob("*.png"))
    group_of = {path.as_posix(): f"tile{i // 4}" for i, path in enumerate(paths)}
    rows = [{"path": path, "label": "good", "group": group} for path, group in group_of.items()]
    summary = fit(write_manifest(tmp_path / "m.csv", rows), tmp_path / "m.makellos")
    assert (summary.n_calibration, summary.n_groups) == (30, 8)
    assert summary.false_alarms == pytest.approx(1 / 9)
    assert "99 groups of good parts" in summary.notes[0]
    *folds, _ = detector.seen
    assert len(folds) == 5
    for learned in folds:
        inside = {group_of[name] for name in learned}
        outside = {group_of[name] for name in group_of if name not in learned}
        assert not inside & outside
    assert manifest_of(tmp_path / "m.makellos").calibration.groups == list(group_of.values())


def test_split_val_calibrates_and_is_not_learned(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    paths = sorted((toy_parts / "train" / "good").glob("*.png"))
    rows = [
        {"path": str(path), "label": "good", "split": "val" if i % 3 == 0 else "train"}
        for i, path in enumerate(paths)
    ]
    summary = fit(write_manifest(tmp_path / "m.csv", rows), tmp_path / "m.makellos")
    assert (summary.method, summary.n_learned, summary.n_calibration) == ("split val", 20, 10)
    assert [len(names) for names in detector.seen] == [20]
    inspector = Inspector(tmp_path / "m.makellos")
    scores = [inspector.inspect(row["path"]).score for row in rows if row["split"] == "val"]
    np.testing.assert_allclose(inspector.calibration.scores, scores, rtol=1e-5)


def test_plenty_of_parts_are_held_out_by_groups(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    paths = sorted((toy_parts / "train" / "good").glob("*.png"))
    rows = [{"path": str(path), "group": path.stem} for path in paths]
    summary = fit(
        write_manifest(tmp_path / "m.csv", rows), tmp_path / "m.makellos", false_alarms=0.5
    )
    assert (summary.method, summary.n_learned, summary.n_calibration) == ("held out", 24, 6)
    kept_apart = set(manifest_of(tmp_path / "m.makellos").calibration.groups or [])
    assert kept_apart.isdisjoint(Path(name).stem for name in detector.seen[0])


def test_same_seed_gives_the_same_bytes(detector: Any, toy_parts: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit(toy_parts, tmp_path / f"{name}.makellos", seed=3)
    fit(toy_parts, tmp_path / "other.makellos", seed=4)
    first, second, other = (members(tmp_path / f"{name}.makellos") for name in ("a", "b", "other"))
    assert first == second
    assert first["manifest.json"]["calibration"] != other["manifest.json"]["calibration"]


def test_data_are_not_changed_by_their_place(
    detector: Any, toy: ModuleType, toy_parts: Path, tmp_path: Path
) -> None:
    toy.write_parts(tmp_path / "elsewhere" / "parts")
    fit(toy_parts, tmp_path / "a.makellos")
    fit(tmp_path / "elsewhere" / "parts", tmp_path / "b.makellos")
    assert members(tmp_path / "a.makellos") == members(tmp_path / "b.makellos")


def test_progress_rises_to_the_whole_in_every_step(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    fit(
        toy_parts,
        tmp_path / "m.makellos",
        progress=lambda what, done, total: told.setdefault(what, []).append((done, total)),
    )
    scoring = told["scoring calibration parts"]
    assert scoring == [(i + 1, 30) for i in range(30)]
    assert told["reading"][-1] == (30, 30)
    assert told["writing the model"][-1] == (1, 1)


@pytest.mark.parametrize(("n_train", "told"), [(1, "1 good part;"), (2, "2 good parts;")])
def test_too_few_parts_are_refused(
    detector: Any, toy: ModuleType, tmp_path: Path, n_train: int, told: str
) -> None:
    toy.write_parts(tmp_path / "parts", n_train=n_train)
    with pytest.raises(InputError, match=told) as caught:
        fit(tmp_path / "parts", tmp_path / "m.makellos")
    assert "at least 3" in str(caught.value)
    assert not (tmp_path / "m.makellos").exists()


def test_one_group_alone_is_refused(detector: Any, toy_parts: Path, tmp_path: Path) -> None:
    paths = sorted((toy_parts / "train" / "good").glob("*.png"))
    rows = [{"path": str(path), "group": "lot"} for path in paths]
    with pytest.raises(InputError, match="30 good parts in 1 group;"):
        fit(write_manifest(tmp_path / "m.csv", rows), tmp_path / "m.makellos")


def test_three_parts_are_enough(detector: Any, toy: ModuleType, tmp_path: Path) -> None:
    toy.write_parts(tmp_path / "parts", n_train=3)
    summary = fit(tmp_path / "parts", tmp_path / "m.makellos")
    assert summary.false_alarms == pytest.approx(1 / 4)


@pytest.mark.parametrize("budget", [0.0, -0.1, 0.51, float("nan")])
def test_impossible_budget_is_refused_before_any_work(
    detector: Any, toy_parts: Path, tmp_path: Path, budget: float
) -> None:
    with pytest.raises(ConfigurationError, match=r"a share above 0 and up to 0\.5"):
        fit(toy_parts, tmp_path / "m.makellos", false_alarms=budget)
    assert detector.seen == []


def test_negative_seed_is_refused(detector: Any, toy_parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="seed is -1; expected a whole number, at least 0"):
        fit(toy_parts, tmp_path / "m.makellos", seed=-1)


def test_older_model_is_replaced_and_other_files_are_not(
    detector: Any, toy_parts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.makellos"
    fit(toy_parts, path, seed=1)
    fit(toy_parts, path, seed=2)
    assert manifest_of(path).training.seed == 2
    path.write_bytes(b"holiday picture")
    with pytest.raises(StorageError, match="left alone"):
        fit(toy_parts, path)
    assert path.read_bytes() == b"holiday picture"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.makellos"]


def test_manifest_says_what_was_done(detector: Any, toy_parts: Path, tmp_path: Path) -> None:
    fit(toy_parts, tmp_path / "m.makellos", seed=5, white_level=4095)
    manifest = manifest_of(tmp_path / "m.makellos")
    assert manifest.detector.name == "toy"
    assert manifest.preprocessing.white_level == 4095
    assert manifest.training.seed == 5
    assert manifest.training.data == toy_parts.name
    assert manifest.training.n_good == manifest.training.n_learned == 30
    assert {"python", "makellos", "numpy", "onnxruntime"} <= set(manifest.versions)
    assert 2 <= len(manifest.golden) <= 6
    inspector = Inspector(tmp_path / "m.makellos")
    for golden in manifest.golden:
        picture = inspector.model.golden_picture(golden.file)
        found = inspector.inspect(picture)
        assert found.score == pytest.approx(golden.score, abs=1e-5)
        assert found.verdict == golden.verdict


def test_white_level_holds_for_learning_too(
    detector: Any, toy: ModuleType, toy_parts: Path, tmp_path: Path
) -> None:
    for path in toy_parts.rglob("good/*.png"):
        gray = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert gray is not None
        toy.write(tmp_path / "deep" / path.relative_to(toy_parts), gray.astype(np.uint16) * 16)
    fit(toy_parts, tmp_path / "eight.makellos")
    fit(tmp_path / "deep", tmp_path / "deep.makellos", white_level=255 * 16)
    eight, deep = (
        manifest_of(tmp_path / f"{name}.makellos").calibration.scores for name in ("eight", "deep")
    )
    np.testing.assert_allclose(deep, eight, atol=1e-3)
