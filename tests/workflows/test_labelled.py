"""From labelled pictures to verdicts, as a user types it: split, fit, inspect, evaluate."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

import makellos
from makellos.inspection.model_file import read_model

TINY = [
    *("--detector", "classifier", "--false-alarms", "0.2"),
    *("--set", "backbone=mobilenetv3_small_100", "--set", "weights=none"),
    *("--set", "image_size=32", "--set", "epochs=8", "--set", "head_epochs=4"),
    *("--set", "unfreeze=-1", "--set", "backbone_learning_rate=0.003"),
]
N = {"ok": 40, "scratch": 16, "spot": 16}


def draw(label: str, rng: np.random.Generator) -> Any:
    picture = rng.normal(120, 8, (40, 40)).clip(0, 255).astype(np.uint8)
    x, y = (int(v) for v in rng.integers(8, 32, 2))
    if label == "scratch":
        cv2.line(picture, (x - 6, y), (x + 6, y), 250, 2)
    if label == "spot":
        cv2.circle(picture, (x, y), 6, 10, -1)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    for label, n in N.items():
        (root / "all" / label).mkdir(parents=True)
        for i in range(n):
            rng = np.random.default_rng([i, len(label)])
            cv2.imwrite(str(root / "all" / label / f"{i:02d}.png"), draw(label, rng))
    return root


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    from makellos.cli import main

    assert main(["data", "split", str(folder / "all"), "-o", str(folder / "parts.csv")]) == 0
    path = folder / "types.makellos"
    code = main(["fit", str(folder / "parts.csv"), "-o", str(path), *TINY, "--set", "target=type"])
    assert code == 0
    return path


@pytest.mark.needs_torch
def test_rows_name_the_probability_of_each_class(
    model: Path, folder: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    told = cli("inspect", model, folder / "all" / "spot", "--csv", tmp_path / "rows.csv")
    assert told.code == 0
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == N["spot"]
    for row in rows:
        shares = json.loads(row["probabilities"])
        assert list(shares) == ["good", "scratch", "spot"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        bad = 1 - shares["good"]
        if 0.001 < bad < 0.999:
            assert float(row["score"]) == pytest.approx(np.log(bad / shares["good"]), abs=0.01)
    told = cli("inspect", model, folder / "all" / "spot")
    assert "%" in told.out.splitlines()[0]


def test_rows_of_other_detectors_have_no_probabilities(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test", "--jsonl", "-")
    assert "probabilities" not in json.loads(told.out.splitlines()[0])


@pytest.mark.needs_torch
def test_figures_are_those_of_the_rows(
    model: Path, folder: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    report = tmp_path / "report"
    told = cli("evaluate", model, folder / "parts.csv", "-o", report, "--json", "-")
    figures = json.loads(told.out)
    with (folder / "parts.csv").open(encoding="utf-8", newline="") as stream:
        tested = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    inspector = makellos.Inspector(model)
    rows = [inspector.inspect(folder / row["path"]) for row in tested]
    truth = [row["label"] for row in tested]
    found = [max(row.probabilities, key=lambda name: row.probabilities[name]) for row in rows]
    names = ["good", "scratch", "spot"]
    assert figures["classes"] == names
    assert figures["confusion_matrix"] == confusion_matrix(truth, found, labels=names).tolist()
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, found, average="macro"))
    bad = [label != "good" for label in truth]
    rejected = [row.verdict == "reject" for row in rows]
    expected = balanced_accuracy_score(bad, rejected)
    assert figures["balanced_accuracy"] == pytest.approx(expected)
    assert "macro_f1" in figures["intervals"]
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "Classes" in page
    confused = [f for t, f in zip(truth, found, strict=True) if f != t]
    assert page.count("<span>named <b>") == len(confused)
    assert "Macro F1 of the classes" in cli("evaluate", model, folder / "parts.csv").out
    assert "scratch" in page


@pytest.mark.needs_torch
def test_the_model_is_released_in_full_precision_and_says_what_it_learned(model: Path) -> None:
    manifest = read_model(model).manifest
    assert manifest.engine.precision == "f32"
    assert manifest.classes == ["good", "scratch", "spot"]
    assert manifest.training.n_defective > 0
    assert manifest.calibration.method == "split val"


@pytest.mark.needs_torch
def test_test_parts_are_never_learned_from(model: Path, folder: Path) -> None:
    """The fit is the same, bit for bit, whatever the test parts are."""
    text = (folder / "parts.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in text if ",test," not in line]
    (folder / "without.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    from makellos.cli import main

    again = folder / "again.makellos"
    assert (
        main(["fit", str(folder / "without.csv"), "-o", str(again), *TINY, "--set", "target=type"])
        == 0
    )
    first, second = (read_model(path) for path in (model, again))
    assert first.read("weights.safetensors") == second.read("weights.safetensors")
    assert first.manifest.calibration == second.manifest.calibration


@pytest.mark.needs_torch
def test_without_a_split_it_says_that_nothing_is_kept_for_a_test(
    folder: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    told = cli("fit", folder / "all", "-o", tmp_path / "m.makellos", *TINY)
    assert told.code == 0
    assert "No parts are kept for testing" in told.out
    told = cli("evaluate", tmp_path / "m.makellos", folder / "all")
    assert "The model was fitted on these very parts" in told.out
    told = cli("calibrate", tmp_path / "m.makellos", folder / "all", "--false-alarms", "0.3")
    assert "fitted on" in told.everything


@pytest.mark.needs_torch
def test_the_mvtec_layout_has_no_defect_to_learn_from(
    toy_parts: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    told = cli("fit", toy_parts, "-o", tmp_path / "m.makellos", *TINY)
    assert told.code == 2
    assert "makellos data split" in told.err


@pytest.mark.needs_torch
def test_duplicates_on_both_sides_are_said(
    folder: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [f"all/ok/{i:02d}.png,good,{'test' if i > 30 else 'train'}" for i in range(40)]
    rows += [f"all/spot/{i:02d}.png,spot,{'test' if i > 12 else 'train'}" for i in range(16)]
    (folder / "all" / "spot" / "copy.png").write_bytes(
        (folder / "all" / "spot" / "00.png").read_bytes()
    )
    rows.append("all/spot/copy.png,spot,test")
    (folder / "copied.csv").write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    told = cli("fit", folder / "copied.csv", "-o", tmp_path / "m.makellos", *TINY)
    (folder / "all" / "spot" / "copy.png").unlink()
    assert told.code == 0
    assert "copy.png" in told.out
