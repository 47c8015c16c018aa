"""Which files of a folder are inspected, and where overlays of several folders lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from makellos.data.own_outputs import ROW_BEGINNINGS, is_own_output
from makellos.data.pictures import read_picture
from makellos.drawing import write_drawing, write_picture
from makellos.subjects import WINDOW
from makellos.workflows.inputs import list_inputs
from makellos.workflows.inspect import COLUMNS


def test_own_outputs_are_not_inspected_the_next_time(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    for name in ("000.png", "001.png"):
        shutil.copy(toy_parts / "test" / "good" / name, tmp_path)
    for _ in range(3):
        told = cli("inspect", toy_model, tmp_path, "-o", tmp_path, "--overlays")
        assert "2 parts: " in told.out
    # under another name as well
    (tmp_path / "overlays" / "000.png.overlay.png").rename(tmp_path / "mine.png")
    assert "2 parts: " in cli("inspect", toy_model, tmp_path).out
    # but a file of such a name that somebody else made is a part, and so is one that is named
    shutil.copy(tmp_path / "000.png", tmp_path / "002.png.overlay.png")
    assert "3 parts: " in cli("inspect", toy_model, tmp_path).out
    assert "1 part: " in cli("inspect", toy_model, tmp_path / "mine.png").out


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_drawings_are_marked_and_remain_pictures(suffix: str, tmp_path: Path) -> None:
    drawn = np.full((20, 30, 3), 90, np.uint8)
    write_drawing(tmp_path / f"drawn{suffix}", drawn)
    write_picture(tmp_path / f"plain{suffix}", drawn)
    assert is_own_output(tmp_path / f"drawn{suffix}")
    assert not is_own_output(tmp_path / f"plain{suffix}")
    np.testing.assert_allclose(read_picture(tmp_path / f"drawn{suffix}"), drawn, atol=2)
    assert cv2.imread(str(tmp_path / f"drawn{suffix}")) is not None


def test_tables_are_known_by_their_columns(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert ",".join(COLUMNS).encode().startswith(ROW_BEGINNINGS[0])
    assert ",".join(WINDOW).encode().startswith(ROW_BEGINNINGS[1])
    part = toy_parts / "test" / "good" / "000.png"
    rows = [tmp_path / name for name in ("rows.csv", "rows.parquet")]
    assert cli("inspect", toy_model, part, "--csv", rows[0], "--parquet", rows[1]).code == 0
    assert all(map(is_own_output, rows))
    (tmp_path / "signal.csv").write_text("time,acc\n0,1\n1,2\n")
    assert not is_own_output(tmp_path / "signal.csv")
    assert not is_own_output(tmp_path / "gone.csv")


def test_masks_of_a_set_are_not_inspected(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, toy_parts)
    assert "50 parts: " in told.out
    assert "Note: 10 pictures were left out; they are masks of others." in told.out
    assert "10 parts: " in cli("inspect", toy_model, toy_parts / "ground_truth").out


def test_linked_folders_are_inspected(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "lot").symlink_to(toy_parts / "test" / "good", target_is_directory=True)
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    assert "10 parts: " in cli("inspect", toy_model, tmp_path).out


def places(*inputs: Path) -> list[str]:
    return [place.as_posix() for _, place in list_inputs(inputs).files]


def test_all_overlays_of_a_run_follow_one_rule(tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/2.png", "x/a/0.png", "b/sub/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    a, b = tmp_path / "a", tmp_path / "b"
    assert places(a) == ["0.png", "1.png"]
    assert places(a / "1.png", b / "2.png") == ["1.png", "2.png"]
    assert places(a, b) == ["a/0.png", "a/1.png", "b/0.png", "b/2.png", "b/sub/5.png"]
    assert places(a / "0.png", b) == ["a/0.png", "b/0.png", "b/2.png", "b/sub/5.png"]
    assert places(a, tmp_path / "x" / "a") == ["a/0.png", "a/1.png", "2/a/0.png"]
    assert places(a, a / "0.png") == ["0.png", "1.png", "0.png"]  # one file, one place
    assert places(tmp_path / "x", b) == ["a/0.png", "0.png", "2.png", "sub/5.png"]


def test_two_spellings_of_one_output_are_one(
    cli: Callable[..., Any], toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    other = tmp_path / "below" / ".." / "rows.csv"
    told = cli("inspect", toy_model, toy_parts, "--csv", tmp_path / "rows.csv", "--jsonl", other)
    assert told.code == 2
    assert "Two kinds of rows cannot go to" in told.err
    assert not (tmp_path / "rows.csv").exists()
