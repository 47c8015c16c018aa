"""NumPy files where data are taken: fit, evaluate, inspect, check, split, compare."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

import makellos
from makellos.models.provenance import contents, known


@pytest.fixture(scope="module")
def digits(toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the parts of the toy detector as digits: 7 is good, 1 has a spot."""
    found = makellos.find_parts(toy_parts)
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        parts = [part for part in found if part.split == split]
        arrays[f"x_{split}"] = np.stack([part.read() for part in parts])
        arrays[f"y_{split}"] = np.array([7 if part.is_good else 1 for part in parts])
    path = tmp_path_factory.mktemp("digits") / "mnist.npz"
    np.savez_compressed(path, **arrays)
    return path


@pytest.fixture
def model(
    digits: Path,
    toy: ModuleType,
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    toy.install(monkeypatch)
    path = tmp_path / "seven.makellos"
    told = cli("fit", digits, "-o", path, "--good", 7, "--false-alarms", 0.1)
    assert told.code == 0
    assert "Note: Read as good: 7." in told.out
    assert f"audit {digits} --good 7 -o audit" in told.out
    return path


def test_the_model_says_what_was_good(model: Path) -> None:
    training = makellos.read_model(model).manifest.training
    assert (training.n_good, training.layout, training.good) == (30, "NumPy arrays", ["7"])


def test_evaluating_knows_what_was_good(
    model: Path, digits: Path, toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    figures = json.loads(cli("evaluate", model, digits, "--json", "-").out)
    same = json.loads(cli("evaluate", toy_model, toy_parts, "--json", "-").out)
    assert (figures["n_good"], figures["n_defective"]) == (10, 10)
    assert figures["image_auroc"] == same["image_auroc"]
    assert list(figures["by_defect"]) == ["1"]
    assert "Read as good: 7." in figures["notes"]
    # A model that knows of no digit says that none is good, and evaluates them all the same.
    told = cli("evaluate", toy_model, digits)
    assert "None of the tested parts is labelled good (labels: 1, 7)" in told.out
    assert cli("evaluate", toy_model, digits, "--good", "7").code == 0


def test_inspecting_gives_a_row_for_each_picture(
    model: Path, digits: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04")
    flat = tmp_path / "flat.npy"
    np.save(flat, np.zeros((5, 784), np.uint8))
    result = tmp_path / "result"
    told = cli("inspect", model, digits, broken, flat, "-o", result, "--overlays")
    assert told.code == 1
    with (result / "inspections.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [row["input"] for row in rows]
    assert names[0] == f"{digits}#x_train/0"
    assert names[-3:] == [f"{digits}#x_test/19", str(broken), str(flat)]
    assert "cannot be read as a NumPy file" in rows[-2]["error"]
    assert "flat.npy: 5x784 uint8" in rows[-1]["error"]
    assert (result / "overlays" / "mnist.npz#x_test-19.overlay.png").is_file()
    tested = makellos.evaluate(model, digits)
    rejected = [row["verdict"] == "reject" for row in rows if "#x_test/" in row["input"]]
    found = tested.n_defective * (1 - tested.miss_rate) + tested.n_good * tested.false_alarm_rate
    assert sum(rejected) == round(found) > 0


def test_a_folder_of_arrays_is_inspected(
    model: Path, digits: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    with np.load(digits) as stored:
        np.save(tmp_path / "images.npy", stored["x_test"])
        np.save(tmp_path / "labels.npy", stored["y_test"])
    told = cli("inspect", model, tmp_path, "--jsonl", "-")
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert sum(row["verdict"] == "unreadable" for row in rows) == 0
    assert [row["input"] for row in rows[:2]] == [f"{tmp_path / 'images.npy'}#{i}" for i in (0, 1)]
    assert len(rows) == 20


def test_checking_and_splitting(
    digits: Path, toy_model: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    told = cli("data", "check", digits, "--good", "7", "--json", "-")
    found = json.loads(told.out)
    assert found["n_parts"] == 50
    assert found["layout"] == "NumPy arrays"
    assert found["counts"]["test"] == {"1": 10, "good": 10}
    assert found["unreadable"] == found["duplicates"] == []
    manifest = tmp_path / "parts.csv"
    told = cli("data", "split", digits, "-o", manifest, "--good", "7", "--val", "0")
    assert told.code == 0
    again = makellos.find_parts(manifest)
    assert len(again) == 50
    told = cli("inspect", toy_model, manifest)  # which would inspect the file for each row
    assert told.code == 2
    assert "lists pictures in NumPy files, such as" in told.err
    assert {part.label for part in again} == {"good", "1"}
    by_piece = {part.piece: part for part in makellos.find_parts(digits)}
    for part in again:
        assert (part.read() == by_piece[part.piece].read()).all()
    told = cli("data", "check", manifest)
    assert told.code == 0


def test_the_same_picture_twice_is_found(cli: Callable[..., Any], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    images[5] = images[2]
    np.savez(tmp_path / "a.npz", images=images, labels=["ok"] * 5 + ["dent"])
    found = json.loads(cli("data", "check", tmp_path / "a.npz", "--json", "-").out)
    assert found["contradictions"] == [["a.npz#2", "a.npz#5"]]


def test_a_picture_is_known_by_what_it_shows(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    np.savez(tmp_path / "b.npz", images=images[::-1])
    first, second = (makellos.find_parts(tmp_path / name).parts for name in ("a.npz", "b.npz"))
    assert [part.name for part in known(second, contents(first[:2]))] == ["b.npz#4", "b.npz#5"]


def test_a_comparison_reads_them_too(digits: Path) -> None:
    tasks: list[dict[str, Any]] = []

    def execute(arguments: list[str], log: Path) -> int:
        tasks.append(json.loads(Path(arguments[-1]).read_text(encoding="utf-8")))
        return 1

    keys = [
        ("images", "x_train"),
        ("images", "x_test"),
        ("labels", "y_train"),
        ("labels", "y_test"),
    ]
    makellos.compare(digits, ["patchcore", "padim"], good="7", keys=keys, execute=execute)
    assert [task["good"] for task in tasks] == [["7"], ["7"]]
    assert [task["keys"] for task in tasks] == [[*map(list, keys)]] * 2
    with pytest.raises(makellos.InputError, match="no good parts to learn from"):
        makellos.compare(digits, ["patchcore", "padim"])


def test_colours_in_arrays_are_rgb(toy: ModuleType, tmp_path: Path) -> None:
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    np.save(tmp_path / "red.npy", red)
    cv2.imwrite(str(tmp_path / "red.png"), red[0][..., ::-1])
    (part,) = makellos.find_parts(tmp_path / "red.npy")
    assert (part.read() == makellos.read_picture(tmp_path / "red.png")).all()
