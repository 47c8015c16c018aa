"""Calibrating: another budget moves verdicts alone, and only parts that are new count."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from makellos import Inspector, calibrate, drift, fit, verify
from makellos.errors import ConfigurationError, InputError, ModelFileError, StorageError
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.model_file import ModelFile, read_model
from makellos.models.writing import rewrite_manifest
from makellos.workflows.calibrate import Counted


@pytest.fixture
def model(toy_model: Path, tmp_path: Path) -> Path:
    """Return a copy of the toy model, which the test may change."""
    return Path(shutil.copy(toy_model, tmp_path / "m.makellos"))


@pytest.fixture
def new_parts(toy: ModuleType, tmp_path: Path) -> Path:
    """Return a folder of 19 good parts that the model has not seen."""
    rng = np.random.default_rng(9)
    for i in range(19):
        toy.write(tmp_path / "new" / f"{i:02d}.png", toy.gray_part(rng))
    return tmp_path / "new"


def inspected(model: Path, folder: Path) -> list[Any]:
    inspector = Inspector(model)
    return [inspector.inspect(path) for path in sorted(folder.rglob("*.png"))]


def test_new_budget_moves_verdicts_and_leaves_scores(model: Path, toy_parts: Path) -> None:
    before = inspected(model, toy_parts / "test")
    summary = calibrate(model, false_alarms=0.3)
    after = inspected(model, toy_parts / "test")
    assert (summary.false_alarms, summary.notes) == (0.3, [])
    assert [part.score for part in before] == [part.score for part in after]
    assert [part.p_value for part in before] == [part.p_value for part in after]
    assert all(part.threshold == summary.threshold for part in after)
    for part in after:
        bands = ("reject", "look_again", "ok")
        expected = bands[int(part.p_value > 0.3) + int(part.p_value > 0.9)]
        assert part.verdict == expected
    assert [part.verdict for part in after] != [part.verdict for part in before]


def test_golden_verdicts_follow_the_budget(model: Path) -> None:
    calibrate(model, false_alarms=0.5)
    manifest = read_model(model).manifest
    calibration = manifest.calibration.calibration()
    assert [g.verdict for g in manifest.golden] == [
        calibration.verdict(g.score) for g in manifest.golden
    ]


def test_budget_too_small_gives_the_smallest(model: Path, cli: Callable[..., Any]) -> None:
    told = cli("calibrate", model, "--false-alarms", 0.0001, "--json", "-")
    assert told.code == 0
    summary = json.loads(told.out)
    assert summary["false_alarms"] == pytest.approx(1 / 31)
    assert summary["false_alarms_asked"] == 0.0001
    assert "needs 9999 good parts" in summary["notes"][0]
    assert f"Note: {summary['notes'][0]}" in told.err
    assert Inspector(model).calibration.false_alarms == pytest.approx(1 / 31)


def test_new_good_parts_take_the_place_of_the_old_scores(
    model: Path, new_parts: Path, tmp_path: Path
) -> None:
    old = model.read_bytes()
    summary = calibrate(model, new_parts, false_alarms=0.05, output=tmp_path / "new.makellos")
    assert model.read_bytes() == old
    assert (summary.n_calibration, summary.n_groups) == (19, 19)
    (note,) = summary.notes
    assert "'makellos drift' still compares" in note
    record = read_model(tmp_path / "new.makellos").manifest.calibration
    assert record.method == "new good parts"
    assert record.scores == [part.score for part in inspected(model, new_parts)]
    maxima = [float(part.anomaly_map.max()) for part in inspected(model, new_parts)]
    assert record.map_maxima == maxima


def test_groups_count_as_one(model: Path, new_parts: Path, tmp_path: Path) -> None:
    with (tmp_path / "lots.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group"])
        for i, path in enumerate(sorted(new_parts.iterdir())):
            table.writerow([path, "good", f"lot{i % 4}"])
    summary = calibrate(model, tmp_path / "lots.csv", false_alarms=0.05)
    assert (summary.n_calibration, summary.n_groups) == (19, 4)
    assert summary.false_alarms == pytest.approx(1 / 5)
    assert "19 groups of good parts" in summary.notes[0]


def test_split_val_of_a_manifest_calibrates(model: Path, new_parts: Path, tmp_path: Path) -> None:
    paths = sorted(new_parts.iterdir())
    rows = [f"{path},good,{'val' if i < 9 else 'train'}" for i, path in enumerate(paths)]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,split", *rows]))
    assert calibrate(model, tmp_path / "m.csv", false_alarms=0.1).n_calibration == 9


@pytest.mark.parametrize("below", ["", "train", "train/good"])
def test_parts_of_the_fit_keep_its_calibration(model: Path, toy_parts: Path, below: str) -> None:
    before = read_model(model).manifest.calibration
    summary = calibrate(model, toy_parts / below, false_alarms=0.2)
    assert "holds the parts that the model was fitted on" in summary.notes[0]
    assert read_model(model).manifest.calibration == before.model_copy(update={"asked": 0.2})


def test_unreadable_parts_are_all_named_and_nothing_changes(model: Path, new_parts: Path) -> None:
    (new_parts / "text.png").write_text("no picture")
    (new_parts / "void.png").write_bytes(b"")
    old = model.read_bytes()
    with pytest.raises(InputError, match="2 of 21 calibration parts") as caught:
        calibrate(model, new_parts)
    assert "text.png" in str(caught.value)
    assert "void.png" in str(caught.value)
    assert model.read_bytes() == old


def test_new_parts_choose_engine_and_golden_parts_anew(
    model: Path, new_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = tuple(choice for choice in available_engines() if choice.precision == "f32")
    monkeypatch.setattr("makellos.inspection.recipe.available_engines", lambda: exact[::-1])
    calibrate(model, new_parts, false_alarms=0.1)
    read = read_model(model)
    assert read.manifest.engine.choice() == exact[-1]
    assert set(read.manifest.parity) == {str(choice) for choice in exact}
    assert len(read.manifest.golden) == 6
    scores = read.manifest.calibration.scores
    for part in read.manifest.golden:
        own = Inspector(model).inspect(read.golden_picture(part.file))
        assert own.score == pytest.approx(part.score, abs=1e-6)
        assert min(abs(score - part.score) for score in scores) < 1e-6  # one of the new parts


@pytest.mark.parametrize("rank", [1, 2, 3, 5, 9])
def test_engines_agree_about_golden_parts_at_any_budget(
    model: Path, new_parts: Path, rank: int
) -> None:
    calibrate(model, new_parts, false_alarms=0.1)
    summary = calibrate(model, false_alarms=rank / 20)
    assert summary.false_alarms == pytest.approx(rank / 20)
    assert verify(model).released


def test_a_budget_at_which_engines_disagree_is_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(read: ModelFile, _recipe: object, choice: EngineChoice) -> list[float]:
        scores = [part.score for part in read.manifest.golden]
        return [math.nan, *scores[1:]] if choice.runtime == "onnxruntime" else scores

    monkeypatch.setattr("makellos.models.recalibration.score_golden", score)
    old = model.read_bytes()
    with pytest.raises(InputError, match="disagree about golden parts at this budget"):
        calibrate(model, false_alarms=0.3)
    assert model.read_bytes() == old


def test_a_table_of_runtimes_is_that_of_the_threshold(model: Path) -> None:
    verify(model)
    assert all("flips" in figures for figures in read_model(model).manifest.parity.values())
    calibrate(model, false_alarms=0.3)
    manifest = read_model(model).manifest
    assert manifest.verification is None
    assert not any("flips" in figures for figures in manifest.parity.values())


def test_unreadable_parts_are_left_out_where_asked(
    model: Path, new_parts: Path, cli: Callable[..., Any]
) -> None:
    (new_parts / "text.png").write_text("no picture")
    told = cli("calibrate", model, new_parts, "--skip-unreadable", "--json", "-")
    assert told.code == 0
    summary = json.loads(told.out)
    assert summary["n_calibration"] == 19
    assert "text.png" in summary["skipped"][0]
    assert "Left out: " in told.err
    assert "text.png" in told.err


def test_the_band_to_look_at_again_gets_a_budget(model: Path, toy_parts: Path) -> None:
    summary = calibrate(model, false_alarms=0.1, look_again=0.4)
    assert summary.look_again == pytest.approx(0.4)
    for part in inspected(model, toy_parts / "test"):
        expected = ("reject", "look_again", "ok")[int(part.p_value > 0.1) + int(part.p_value > 0.5)]
        assert part.verdict == expected
    assert calibrate(model, false_alarms=0.2).look_again == pytest.approx(0.4)  # kept


def test_earlier_parts_count_by_their_weight(
    model: Path, new_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    old = read_model(model).manifest.calibration
    target = tmp_path / "w.makellos"
    told = cli("calibrate", model, new_parts, "--earlier-weight", 0.2, "-o", target, "--json", "-")
    summary = json.loads(told.out)
    assert (summary["n_calibration"], summary["counts_as"]) == (49, pytest.approx(25))
    assert "from 49 good parts, which count as 25" in told.err
    record = read_model(target).manifest.calibration
    assert record.method == "new and earlier good parts"
    assert record.scores[:30] == old.scores
    assert record.weights == [0.2] * 30 + [1.0] * 19
    limits = sorted(old.scores, reverse=True)
    new = [part.score for part in inspected(target, new_parts)]
    for part in inspected(target, new_parts):
        above = 0.2 * sum(s >= part.score for s in limits) + sum(s >= part.score for s in new)
        assert part.p_value == pytest.approx((1 + above) / 26)
    told = cli("info", target)
    assert "49 good parts, new and earlier good parts, which count as 25" in told.out
    assert "earlier ones have 24% of the weight" in told.out
    # Once more: what was earlier then counts for less.
    calibrate(target, new_parts, counted=Counted(earlier_weight=0.5))
    weights = read_model(target).manifest.calibration.weights
    assert weights == [0.1] * 30 + [0.5] * 19 + [1.0] * 19


def test_earlier_and_new_parts_are_scored_by_one_engine(
    model: Path, new_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = tuple(choice for choice in available_engines() if choice.precision == "f32")
    monkeypatch.setattr("makellos.inspection.recipe.available_engines", lambda: exact)
    calibrate(model, new_parts)
    assert read_model(model).manifest.engine.choice() == exact[0]
    monkeypatch.setattr("makellos.inspection.recipe.available_engines", lambda: exact[::-1])
    weighed = calibrate(model, new_parts, counted=Counted(earlier_weight=0.5))
    assert read_model(model).manifest.engine.choice() == exact[0]
    monkeypatch.setattr("makellos.inspection.recipe.available_engines", lambda: exact[1:])
    elsewhere = calibrate(model, new_parts, counted=Counted(earlier_weight=0.5))
    assert not any("scored with" in note for note in weighed.notes)
    assert any(f"were scored with {exact[0]}" in note for note in elsewhere.notes)


def test_groups_of_earlier_and_new_parts_stay_apart(
    model: Path, new_parts: Path, tmp_path: Path
) -> None:
    rows = [f"{path},good,{i % 4}" for i, path in enumerate(sorted(new_parts.iterdir()))]
    (tmp_path / "lots.csv").write_text("\n".join(["path,label,group", *rows]))
    calibrate(model, tmp_path / "lots.csv")
    summary = calibrate(model, tmp_path / "lots.csv", counted=Counted(earlier_weight=0.5))
    assert (summary.n_groups, summary.counts_as) == (8, pytest.approx(6))


@pytest.mark.parametrize("weight", [0.0, 1.5, -1.0])
def test_weights_out_of_range_are_refused(model: Path, new_parts: Path, weight: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0 and up to 1"):
        calibrate(model, new_parts, counted=Counted(earlier_weight=weight))


def test_a_weight_needs_new_parts(model: Path, cli: Callable[..., Any]) -> None:
    told = cli("calibrate", model, "--earlier-weight", 0.5)
    assert told.code == 2
    assert "Give new good parts" in told.err


def test_wrong_use_is_refused_and_nothing_changes(
    model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    old = model.read_bytes()
    (tmp_path / "photo.png").write_bytes(b"photo")
    (tmp_path / "photo.makellos").write_bytes(b"photo")
    (tmp_path / "void").mkdir()
    with pytest.raises(ConfigurationError, match="budget is 0; expected"):
        calibrate(model, false_alarms=0.0)
    with pytest.raises(InputError, match="contains no picture"):
        calibrate(model, tmp_path / "void")
    with pytest.raises(ConfigurationError, match=r"must end in \.makellos"):
        calibrate(model, false_alarms=0.1, output=tmp_path / "photo.png")
    with pytest.raises(StorageError, match="left alone"):
        calibrate(model, false_alarms=0.1, output=tmp_path / "photo.makellos")
    with pytest.raises(ModelFileError, match="does not exist"):
        calibrate(tmp_path / "nowhere.makellos", false_alarms=0.1)
    told = cli("calibrate", model)
    assert told.code == 2
    assert "Give a budget with --false-alarms" in told.err
    assert model.read_bytes() == old
    assert (tmp_path / "photo.makellos").read_bytes() == b"photo"


def brighter(toy: ModuleType, folder: Path, n: int, *, first: int = 0) -> Path:
    """Write good parts as a brighter lamp shows them."""
    for i in range(n):
        part = toy.gray_part(np.random.default_rng([7, first + i]))
        toy.write(folder / f"{i:02d}.png", np.clip(part.astype(int) + 40, 0, 255).astype(np.uint8))
    return folder


def test_enough_new_parts_are_the_good_state_from_then_on(
    toy: ModuleType, model: Path, tmp_path: Path
) -> None:
    stream = brighter(toy, tmp_path / "stream", 60, first=100)
    (alarm,) = drift(model, stream).alarms
    assert alarm["detail"].startswith("brighter")
    before = read_model(model).manifest.good_state
    few = calibrate(model, brighter(toy, tmp_path / "few", 19))
    assert read_model(model).manifest.good_state == before is not None
    assert "still compares with the 30 parts before: these are too few" in few.notes[-1]
    enough = calibrate(model, brighter(toy, tmp_path / "enough", 20))
    assert "'makellos drift' compares with these 20 parts from now on." in enough.notes
    now = read_model(model).manifest.good_state
    assert now is not None and now.n_parts == 20
    assert now.figures["level"].middle > before.figures["level"].middle + 0.1
    assert drift(model, stream).alarms == []


def test_the_good_state_of_a_fit_comes_back_with_its_parts(
    toy: ModuleType, toy_parts: Path, tmp_path: Path
) -> None:
    # Three lots of ten parts; the first parts of a fourth calibrate, then those of the fit again.
    data, path = tmp_path / "lots.csv", tmp_path / "lots.makellos"
    good = sorted((toy_parts / "train" / "good").iterdir())
    lots = [(str(file), "good", f"lot {i // 10}") for i, file in enumerate(good)]
    with data.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "group"), *lots])
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        fit(data, path, false_alarms=0.25)
    level = read_model(path).manifest.good_state.figures["level"].middle
    lot = brighter(toy, tmp_path / "lot", 8)
    calibrate(path, lot)
    assert read_model(path).manifest.calibration.n_first == 8
    assert read_model(path).manifest.good_state.figures["level"].middle == level
    calibrate(path, data)
    assert read_model(path).manifest.calibration.n_first == 0
    assert read_model(path).manifest.good_state.figures["level"].middle == level


def test_a_model_without_a_good_state_learns_one(
    toy: ModuleType, model: Path, tmp_path: Path
) -> None:
    read = read_model(model)
    rewrite_manifest(read, read.manifest.model_copy(update={"good_state": None}), model)
    few = calibrate(model, brighter(toy, tmp_path / "few", 10))
    assert read_model(model).manifest.good_state is None
    assert not any("drift" in note for note in few.notes)
    calibrate(model, brighter(toy, tmp_path / "enough", 24))
    good = read_model(model).manifest.good_state
    assert good is not None and good.n_parts == 24
