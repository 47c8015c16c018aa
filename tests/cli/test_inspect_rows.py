"""Rows of inspect: their columns, their regions, where they go, and what is never overwritten."""

from __future__ import annotations

import csv
import errno
import importlib.util
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

import makellos
from makellos.data.pictures import read_picture

COLUMNS = [
    "input",
    "verdict",
    "score",
    "p_value",
    "threshold",
    "regions",
    "milliseconds",
    "error",
    "notes",
]


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_csv_and_json_lines_hold_the_same_rows(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test", "-o", tmp_path / "out")
    assert told.code == 0
    lines = parsed((tmp_path / "out" / "inspections.jsonl").read_text(encoding="utf-8"))
    text = (tmp_path / "out" / "inspections.csv").read_text(encoding="utf-8")
    table = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0].split(",") == COLUMNS
    assert all(list(row) == COLUMNS for row in lines)
    paths = sorted((toy_parts / "test").rglob("*.png"))
    assert [row["input"] for row in lines] == [str(path) for path in paths]
    for row, cells in zip(lines, table, strict=True):
        assert cells["input"] == row["input"]
        assert cells["verdict"] == row["verdict"]
        assert float(cells["score"]) == row["score"]
        assert json.loads(cells["regions"]) == row["regions"]
        assert cells["error"] == ""
        assert row["error"] is None
        assert row["milliseconds"] > 0
        assert 0 < row["p_value"] <= 1
        assert row["verdict"] in ("ok", "look_again", "reject")
        assert (row["verdict"] == "reject") == (row["score"] > row["threshold"])
    assert not list((tmp_path / "out").glob(".*"))
    assert "20 parts: " in told.out
    assert str(tmp_path / "out" / "inspections.csv") in told.out


def test_regions_are_in_pixels_of_the_original_picture(
    toy: ModuleType, toy_model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    part = toy.gray_part(np.random.default_rng(3), spot=0.4)
    factor = 5
    large = np.kron(part, np.ones((factor, factor), np.uint8))
    toy.write(tmp_path / "large.png", large)
    (row,) = parsed(cli("inspect", toy_model, tmp_path / "large.png", "--jsonl", "-").out)
    assert row["verdict"] == "reject"
    found = max(row["regions"], key=lambda region: region["peak"])
    assert sorted(found) == ["area", "height", "peak", "width", "x", "y"]
    x, y, width, height = (factor * value for value in toy.SPOT)
    cell = factor * max(toy.WIDTH, toy.HEIGHT) / 32  # of the map, in pixels
    assert abs(found["x"] - x) <= cell
    assert abs(found["y"] - y) <= cell
    assert abs(found["x"] + found["width"] - x - width) <= cell
    assert abs(found["y"] + found["height"] - y - height) <= cell
    assert 0 < found["area"] <= found["width"] * found["height"]
    assert found["peak"] == pytest.approx(row["score"], rel=1e-5)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_dash_writes_data_alone_to_standard_output(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any], kind: str
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test", f"--{kind}", "-")
    rows = parsed(told.out) if kind == "jsonl" else list(csv.DictReader(io.StringIO(told.out)))
    assert len(rows) == 20
    assert all(list(row) == COLUMNS for row in rows)
    assert "20 parts: " in told.err


def test_json_sums_up(toy_model: Path, toy_parts: Path, cli: Callable[..., Any]) -> None:
    told = cli("inspect", toy_model, toy_parts / "test", "--json", "-")
    summary = json.loads(told.out)
    assert summary["n_parts"] == sum(summary["verdicts"].values()) == 20
    assert set(summary["verdicts"]) == {"ok", "look_again", "reject", "unreadable"}


def test_without_outputs_every_part_is_listed(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test" / "spotted")
    *lines, last = told.out.splitlines()
    assert len(lines) == 10
    assert all("spotted" in line and "score" in line for line in lines)
    assert last.startswith("10 parts: ")


def test_fail_on_reject(
    toy: ModuleType, toy_model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(4)
    bad = toy.write(tmp_path / "bad.png", toy.gray_part(rng, spot=0.4))
    plain = toy.write(tmp_path / "plain.png", np.full((64, 96), 128, np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    assert cli("inspect", toy_model, bad).code == 0
    assert cli("inspect", toy_model, bad, "--fail-on-reject").code == 3
    assert cli("inspect", toy_model, plain, "--fail-on-reject").code == 0
    assert cli("inspect", toy_model, plain, tmp_path / "text.png", "--fail-on-reject").code == 1
    assert cli("inspect", toy_model, tmp_path, "--fail-on-reject").code == 3


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
def test_parquet_holds_the_rows(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    for _ in range(2):
        assert cli("inspect", toy_model, toy_parts / "test", "--parquet", path).code == 0
    rows = parquet.read_table(path).to_pylist()
    assert [list(row) for row in rows] == [COLUMNS] * 20


def test_parquet_without_pyarrow_says_what_to_install(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    rows = tmp_path / "rows.csv"
    assert cli("inspect", toy_model, toy_parts / "test", "--csv", rows).code == 0
    before = rows.read_bytes()
    told = cli("inspect", toy_model, toy_parts / "test", "--csv", rows, "--parquet", tmp_path / "p")
    assert told.code == 2
    assert "pip install '.[parquet]'" in told.err
    assert rows.read_bytes() == before  # a run that wrote no row takes none away


def test_own_rows_are_replaced(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    for folder, n in (("test", 20), ("test/good", 10)):
        cli("inspect", toy_model, toy_parts / folder, "-o", tmp_path)
        assert len((tmp_path / "inspections.csv").read_text().splitlines()) == n + 1
        assert len((tmp_path / "inspections.jsonl").read_text().splitlines()) == n


@pytest.mark.parametrize("option", ["--csv", "--jsonl", "--parquet", "--json"])
def test_foreign_files_are_left_alone(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any], option: str
) -> None:
    picture = Path(shutil.copy(next((toy_parts / "test").rglob("*.png")), tmp_path / "a.png"))
    model = Path(shutil.copy(toy_model, tmp_path / "m.makellos"))
    for target in (picture, model):
        before = target.read_bytes()
        told = cli("inspect", model, toy_parts / "test", option, target)
        assert told.code == 2
        assert "left alone" in told.err
        assert target.read_bytes() == before
    told = cli("inspect", model, toy_parts / "test", option, tmp_path)
    assert told.code == 2
    assert "is a folder" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "m.makellos"]


@pytest.mark.parametrize(
    ("options", "told_to"),
    [
        (["--csv", "-", "--jsonl", "-"], "cannot share standard output"),
        (["--csv", "-", "--json", "-"], "cannot share standard output"),
        (["--parquet", "-"], "Parquet cannot go to standard output"),
        (["--csv", "rows", "--jsonl", "rows"], "a file of its own"),
        (["--engine", "torch"], "such as 'onnxruntime f32'"),
        (["--engine", "onnxruntime f31"], "Did you mean 'onnxruntime f32'"),
        (["--csv", "m.makellos/rows.csv"], "cannot be created"),
        (["-o", "m.makellos"], "cannot be created"),
        (["--json", "m.makellos/sum.json"], "cannot be written"),
    ],
)
def test_outputs_that_cannot_be_are_refused(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    told_to: str,
) -> None:
    shutil.copy(toy_model, tmp_path / "m.makellos")
    monkeypatch.chdir(tmp_path)
    told = cli("inspect", "m.makellos", toy_parts / "test", *options)
    assert told.code == 2
    assert told_to in told.err
    assert told.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["m.makellos"]


@pytest.mark.parametrize("wrong", ["model", "input", "engine"])
def test_wrong_usage_makes_no_folder(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any], wrong: str
) -> None:
    model = tmp_path / "none.makellos" if wrong == "model" else toy_model
    engine = ["--engine", "odd"] if wrong == "engine" else []
    (tmp_path / "empty").mkdir()
    parts = tmp_path / "empty" if wrong == "input" else toy_parts / "test"
    assert cli("inspect", model, parts, "-o", tmp_path / "out", *engine).code == 2
    assert not (tmp_path / "out").exists()


def test_other_engine_gives_the_same_verdicts(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    usual = parsed(cli("inspect", toy_model, toy_parts / "test", "--jsonl", "-").out)
    other = parsed(
        cli("inspect", toy_model, toy_parts / "test", "--jsonl", "-", "--engine",
            "onnxruntime f32").out
    )  # fmt: skip
    assert [row["verdict"] for row in other] == [row["verdict"] for row in usual]
    np.testing.assert_allclose(
        [row["score"] for row in other], [row["score"] for row in usual], rtol=2e-2
    )


def test_overlays_lie_as_the_parts_do(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test", "-o", tmp_path, "--overlays")
    assert told.code == 0
    overlays = sorted((tmp_path / "overlays").rglob("*.png"))
    parts = sorted((toy_parts / "test").rglob("*.png"))
    assert [path.relative_to(tmp_path / "overlays").as_posix() for path in overlays] == [
        path.relative_to(toy_parts / "test").as_posix() + ".overlay.png" for path in parts
    ]
    drawn = cv2.imread(str(overlays[0]))
    assert drawn is not None
    assert drawn.shape[1] / drawn.shape[0] == pytest.approx(96 / 64)


def test_overlay_shows_its_own_part(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    parts = toy_parts / "test" / "spotted"
    cli("inspect", toy_model, parts, "-o", tmp_path, "--overlays")
    inspector = makellos.Inspector(toy_model)
    for path in sorted(parts.iterdir()):
        drawn = cv2.imread(str(tmp_path / "overlays" / f"{path.name}.overlay.png"))
        expected = makellos.draw_overlay(
            read_picture(path), inspector.inspect(path), map_threshold=inspector.map_threshold
        )
        assert drawn is not None
        np.testing.assert_array_equal(drawn[..., ::-1], expected)


def test_overlays_without_a_folder_go_to_inspections(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    cli("inspect", toy_model, toy_parts / "test" / "good" / "000.png", "--overlays")
    assert [path.name for path in tmp_path.rglob("*.png")] == ["000.png.overlay.png"]
    assert (tmp_path / "inspections" / "overlays" / "000.png.overlay.png").is_file()


def test_parts_of_the_same_name_get_overlays_of_their_own(
    toy: ModuleType, toy_model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(5)
    for place in ("a/x.png", "b/x.png", "c/b/X.png", "d/y.png", "y.jpg"):
        toy.write(tmp_path / "in" / place, toy.gray_part(rng))
    inputs = [tmp_path / "in" / name for name in ("a", "b", "c/b", "d/y.png", "y.jpg", "a/x.png")]
    told = cli("inspect", toy_model, *inputs, "-o", tmp_path / "out", "--overlays")
    assert told.code == 0
    found = [
        path.relative_to(tmp_path / "out" / "overlays").as_posix()
        for path in sorted((tmp_path / "out" / "overlays").rglob("*.png"))
    ]
    assert found == [
        "2/b/X.png.overlay.png",
        "a/x.png.overlay.png",
        "b/x.png.overlay.png",
        "d/y.png.overlay.png",
        "in/y.jpg.overlay.png",
    ]
    rows = (tmp_path / "out" / "inspections.jsonl").read_text().splitlines()
    assert [json.loads(row)["input"] for row in rows] == [
        str(tmp_path / "in" / place)
        for place in ("a/x.png", "b/x.png", "c/b/X.png", "d/y.png", "y.jpg", "a/x.png")
    ]


@pytest.mark.parametrize("option", ["--csv", "--jsonl", "--parquet", "--json"])
def test_a_disk_that_becomes_full_keeps_the_old_file(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "out"
    assert cli("inspect", toy_model, toy_parts / "test", option, path).code == 0
    before = path.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    told = cli("inspect", toy_model, toy_parts / "test", option, path)
    assert told.code == 2
    assert re.search(r"out cannot be (written|replaced): No space left on device", told.err)
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("option", ["--csv", "--jsonl", "--json"])
def test_full_disk_is_told(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any], option: str
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test", option, "/dev/full")
    assert told.code == 2
    assert "/dev/full cannot be written: No space left on device" in told.err
