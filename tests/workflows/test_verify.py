"""Verifying: the same verdicts on every runtime, flips named, the table kept in the model file."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.stats import binomtest

from makellos import Inspector, calibrate, verify
from makellos.cli.release_texts import verify_text
from makellos.errors import InputError, ModelFileError
from makellos.inspection import engines
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.model_file import ModelFile, read_model
from makellos.models.verification import Judged, compare
from makellos.models.writing import rewrite_manifest
from makellos.workflows import verify as verifying

OLD = Path(__file__).parents[1] / "inspection" / "version_0_1"
ONNX = "onnxruntime f32"


@pytest.fixture
def model(toy_model: Path, tmp_path: Path) -> Path:
    """Return a copy of the toy model, which the test may change."""
    return Path(shutil.copy(toy_model, tmp_path / "m.makellos"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Return a folder of three recordings."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for each in (OLD / "inputs").glob("*.npz"):
        shutil.copy(each, folder)
    return folder


def members(model: Path) -> dict[str, str]:
    return {name: each.sha256 for name, each in read_model(model).manifest.members.items()}


def with_golden(model: ModelFile, scores: dict[int, float]) -> None:
    """Let a model say that golden parts had these scores at release."""
    golden = list(model.manifest.golden)
    calibration = model.manifest.calibration.calibration()
    for i, score in scores.items():
        update = {"score": score, "verdict": calibration.verdict(score)}
        golden[i] = golden[i].model_copy(update=update)
    rewrite_manifest(model, model.manifest.model_copy(update={"golden": golden}), model.path)


def shifted_runtime(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Let ONNX Runtime give maps that are larger by a factor."""
    run = engines._OnnxRuntimeEngine.run

    def scaled(self: Any, batch: Any) -> Any:
        return {name: values * np.float32(factor) for name, values in run(self, batch).items()}

    monkeypatch.setattr(engines._OnnxRuntimeEngine, "run", scaled)


def test_every_runtime_is_compared_and_the_table_is_kept(
    model: Path, cli: Callable[..., Any]
) -> None:
    before, scores = members(model), read_model(model).manifest.golden
    told = cli("verify", model, "--json", "-")
    assert told.code == 0
    found = json.loads(told.out)
    assert found["released"] and found["kept"]
    assert set(found["runtimes"]) == set(map(str, available_engines()))
    assert all(each["flips"] == 0 for each in found["runtimes"].values())
    assert found["runtimes"][found["released_with"]]["max_score_difference"] == 0
    assert found["n_golden"] == len(scores) == found["runtimes"][ONNX]["n_parts"]
    manifest = read_model(model).manifest
    assert manifest.parity == found["runtimes"]
    assert manifest.verification is not None and manifest.verification.released
    assert (members(model), manifest.golden) == (before, scores)
    assert "No verdict flips" in told.err
    assert "6 golden parts: no verdict flips" in cli("info", model).out


def test_flip_is_named_and_exits_with_1(model: Path, cli: Callable[..., Any]) -> None:
    read = read_model(model)
    threshold = read.manifest.calibration.calibration().threshold
    with_golden(read, {0: threshold * 3})
    told = cli("verify", model, "--json", "-")
    found = json.loads(told.out)
    assert told.code == 1
    assert not found["released"]
    assert {each["flips"] for each in found["runtimes"].values()} == {1}
    file = read.manifest.golden[0].file
    assert found["flipped"][0]["input"] == file
    assert (found["flipped"][0]["expected"], found["flipped"][0]["verdict"])[0] == "reject"
    assert f"Flips: {file} is reject" in told.err
    record = read_model(model).manifest.verification
    assert record is not None and not record.released


def test_runtime_that_disagrees_is_found_by_further_parts(
    model: Path, toy_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted_runtime(monkeypatch, 3.0)
    summary = verify(model, toy_parts, keep=False)
    assert not summary.released
    assert summary.runtimes[ONNX]["flips"] > summary.n_golden
    assert summary.runtimes["openvino f32"]["flips"] == 0
    assert {each["runtime"] for each in summary.flipped} == {ONNX}
    assert summary.n_parts == 50
    assert summary.runtimes[ONNX]["n_parts"] == summary.n_golden + 50
    assert read_model(model).manifest.verification is None


def test_flips_of_further_parts_have_bounds_of_their_own(
    model: Path,
    toy_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., Any],
) -> None:
    # Every spotted part is twice as odd on one runtime, so that those between flip.
    shifted_runtime(monkeypatch, 2.0)
    shutil.copytree(toy_parts / "test", tmp_path / "parts" / "test")
    (tmp_path / "parts" / "test" / "good" / "broken.png").write_bytes(b"no picture")
    told = cli("verify", model, tmp_path / "parts", "--json", "-")
    found = json.loads(told.out)["runtimes"]
    calibration = Inspector(model).calibration
    inspector = Inspector(model, engine=EngineChoice("openvino", "f32"))
    scores = [inspector.inspect(path).score for path in sorted((toy_parts / "test").rglob("*.png"))]
    n_flipped = sum(s <= calibration.threshold < 2 * s for s in scores)
    assert 0 < n_flipped < 20
    assert (found[ONNX]["further_flips"], found[ONNX]["n_further"]) == (n_flipped, 20)
    low, high = found[ONNX]["further_low"], found[ONNX]["further_high"]
    bounds = binomtest(n_flipped, 20).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((bounds.low, bounds.high))
    assert found["openvino f32"]["further_flips"] == 0
    assert found["openvino f32"]["further_high"] == pytest.approx(0.1684, abs=1e-4)
    assert f"{n_flipped} of 20 ({low:.1%} to {high:.1%})" in told.err
    assert f"further parts {n_flipped} of 20" in cli("info", model).out


def test_what_flips_decides_what_is_advised(model: Path, toy_parts: Path) -> None:
    summary = verify(model, toy_parts / "test", keep=False)
    assert "No verdict flips" in verify_text(summary)
    for n_golden, said in (
        (0, "Golden parts keep their verdicts, but further"),
        (1, "Update open"),
    ):
        figures = summary.runtimes[ONNX] | {"flips": 2 + n_golden, "further_flips": 2}
        changed = replace(summary, released=False, runtimes={ONNX: figures})
        assert said in verify_text(changed)


def test_parts_of_a_group_count_together(model: Path, toy_parts: Path, tmp_path: Path) -> None:
    rows = [
        f"{path},good,{'ab'[i % 2]}" for i, path in enumerate((toy_parts / "test").rglob("*.png"))
    ]
    data = tmp_path / "parts.csv"
    data.write_text("\n".join(["path,label,group", *rows]), encoding="utf-8")
    figures = verify(model, data, keep=False).runtimes["openvino f32"]
    assert figures["n_further"] == 20
    assert figures["further_high"] == pytest.approx(1 - 0.025 ** (1 / 2))


def test_how_many_good_parts_lie_where_runtimes_differ_is_said(
    model: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    quiet = verify(model, keep=False)
    assert quiet.runtimes[quiet.released_with]["near_threshold"] == 0
    assert quiet.n_calibration == 30
    shifted_runtime(monkeypatch, 1.2)
    told = cli("verify", model, "--no-keep", "--json", "-")
    found = json.loads(told.out)["runtimes"][ONNX]
    calibration = Inspector(model).calibration
    limits = calibration.scores + calibration.tolerance
    near = np.abs(limits - calibration.threshold) <= found["max_score_difference"]
    assert found["near_threshold"] == near.sum() > 1
    assert f"{near.sum()} of 30 good calibration parts lie that near the threshold" in told.err
    assert "With DATA, verify counts" in told.err


def test_runtime_that_fails_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(engines._OnnxRuntimeEngine, "__init__", broken)
    told = cli("verify", model, "--json", "-")
    found = json.loads(told.out)
    assert (told.code, found["released"]) == (1, False)
    assert "no such operation" in found["failed"][ONNX]
    assert ONNX not in found["runtimes"]
    assert "openvino f32" in found["runtimes"]
    record = read_model(model).manifest.verification
    assert record is not None
    assert (list(record.failed), ONNX in record.not_run) == ([ONNX], False)
    told = cli("info", model)
    assert f"{ONNX}: failed, " in told.out
    assert f"{ONNX}: not run" not in told.out


def test_calibration_that_ran_meanwhile_is_kept(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrating(*given: Any) -> Any:
        calibrate(model, false_alarms=0.2)
        return compare(*given)

    monkeypatch.setattr(verifying, "compare", calibrating)
    summary = verify(model)
    assert not summary.kept
    assert "it was changed while this ran" in summary.notes[-1]
    manifest = read_model(model).manifest
    assert manifest.calibration.calibration().false_alarms == 0.2
    assert manifest.verification is None


def test_pickled_inspector_takes_its_model_after_verify(model: Path) -> None:
    raw = pickle.dumps(Inspector(model))
    assert verify(model).kept
    assert pickle.loads(raw).threshold == Inspector(model).threshold  # noqa: S301
    assert verify(model).kept  # what the first one kept does not count as a change


def test_missing_runtimes_are_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = (EngineChoice("onnxruntime", "f32"),)
    for module in ("engines", "recipe"):
        monkeypatch.setattr(f"makellos.inspection.{module}.available_engines", lambda: only)
    summary = verify(model)
    assert summary.released
    assert list(summary.runtimes) == [ONNX]
    assert summary.reference == ONNX
    assert summary.not_run["openvino f32"] == "openvino is not installed"
    assert set(summary.not_run) == {"openvino f32", "openvino bf16"}


def test_read_only_model_is_verified(model: Path, cli: Callable[..., Any]) -> None:
    before = model.read_bytes()
    model.chmod(0o444)
    told = cli("verify", model)
    assert told.code == 0
    assert "The table was not kept in the model file: it is read-only." in told.out
    assert model.read_bytes() == before
    model.chmod(0o644)
    assert cli("verify", model, "--no-keep").code == 0
    assert model.read_bytes() == before


def test_unreadable_part_costs_itself_alone(
    model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    folder = tmp_path / "new"
    shutil.copytree(toy_parts / "test" / "good", folder)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    told = cli("verify", model, folder, "--json", "-")
    found = json.loads(told.out)
    assert told.code == 1
    assert found["released"]
    assert found["n_parts"] == 11
    assert [("broken.png" in each) for each in found["unreadable"]] == [True]
    assert "Not read: " in told.err


def test_damaged_model_is_refused(model: Path) -> None:
    raw = bytearray(model.read_bytes())
    at = raw.find(b"\x89PNG") + 60
    raw[at] ^= 0xFF
    model.write_bytes(raw)
    with pytest.raises(ModelFileError):
        verify(model)


def test_data_of_another_kind_is_refused(model: Path, recordings: Path) -> None:
    with pytest.raises(InputError, match="fitted on pictures"):
        verify(model, recordings)


@pytest.mark.parametrize("name", ["pictures", "zones", "vibration"])
def test_older_models_are_verified(name: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(OLD / f"{name}.makellos", tmp_path / f"{name}.makellos"))
    threshold = Inspector(path).threshold
    summary = verify(path)
    assert summary.released
    assert all(each["max_score_difference"] < 0.02 for each in summary.runtimes.values())
    assert Inspector(path).threshold == threshold


def test_recordings_are_compared_by_their_windows(tmp_path: Path, recordings: Path) -> None:
    path = Path(shutil.copy(OLD / "vibration.makellos", tmp_path / "v.makellos"))
    summary = verify(path, recordings)
    assert summary.released
    assert summary.n_parts == 3
    assert 0 < summary.runtimes[ONNX]["max_score_difference"] < 0.05


def test_model_that_was_released_in_f32_alone_is_not_run_in_bf16(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_model(model)
    engine = {"runtime": "openvino", "precision": "f32"}
    for exact in (None, True):
        record = read.manifest.engine.model_copy(update=engine | {"exact": exact})
        parity = {"openvino f32": {"max_score_difference": 0.0}}
        update = {"engine": record, "parity": parity}
        rewrite_manifest(read, read.manifest.model_copy(update=update), model)
        assert "openvino bf16" not in verify(model, keep=False).runtimes


def test_comparison_counts_what_only_one_rejects() -> None:
    def part(verdict: str, score: float = 1.0) -> Judged:
        return Judged("p", verdict, (score,))

    found = compare(
        [
            (part("ok"), part("ok", 1.5)),
            (part("ok"), part("look_again")),
            (part("look_again"), part("reject")),
            (part("ok"), Judged("p", "unreadable", ())),
        ]
    )
    assert (found.flips, found.band_changes, found.n_parts) == (2, 1, 4)
    assert found.max_score_difference == 0.5


def test_picture_of_another_size_is_a_part_like_others(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((90, 200), 128, np.uint8))
    summary = verify(model, folder)
    assert (summary.released, summary.n_parts) == (True, 1)


def test_parts_that_this_version_judges_otherwise_are_named(model: Path) -> None:
    read = read_model(model)
    golden = list(read.manifest.golden)
    other = "ok" if golden[0].verdict == "reject" else "reject"
    golden[0] = golden[0].model_copy(update={"verdict": other})
    rewrite_manifest(read, read.manifest.model_copy(update={"golden": golden}), model)
    summary = verify(model, keep=False)
    assert summary.released  # runtimes agree by the verdicts of this version
    assert f"gives {golden[0].file} another verdict" in summary.notes[0]
