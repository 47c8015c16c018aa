"""The verb drift: folders and rows tell the same, and the page shows before and after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from makellos import Outputs, drift, inspect
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.model_file import read_model
from makellos.models.writing import rewrite_manifest

N_CALM, N_CHANGED = 24, 30


@pytest.fixture(scope="module")
def stream(screws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the good screws in the order of their numbers, then a brighter picture of each."""
    folder = tmp_path_factory.mktemp("stream") / "parts"
    folder.mkdir()
    good = sorted((screws / "train" / "good").iterdir())
    for number in range(1, N_CALM + N_CHANGED + 1):
        picture = cv2.imread(str(good[number % len(good)]), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        if number > N_CALM:
            picture = np.clip(picture * 1.2 + 0.5, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"part{number}.png"), picture)
    return folder


def test_fit_learns_the_good_state(screw_model: Path) -> None:
    good = read_model(screw_model).manifest.good_state
    assert good is not None and good.n_parts == 24
    assert {"level", "sharpness", "noise", "length"} <= set(good.figures)


def test_folder_and_rows_tell_the_same(screw_model: Path, stream: Path, tmp_path: Path) -> None:
    found = drift(screw_model, stream, output=tmp_path / "page")
    (alarm,) = found.alarms
    assert alarm["cause"] == "brighter or darker" and alarm["detail"].startswith("brighter")
    assert N_CALM < alarm["since"] <= alarm["at"] <= N_CALM + 20
    assert alarm["input"].endswith(f"part{alarm['at']}.png")
    assert (found.n_parts, found.watched) == (N_CALM + N_CHANGED, "pictures and scores")
    page = (tmp_path / "page" / "drift.html").read_text(encoding="utf-8")
    assert "brighter or darker" in page.lower() and page.count("data:image/webp") == 6

    names = sorted(stream.iterdir(), key=lambda path: int(path.stem[4:]))
    csv, jsonl, parquet = (tmp_path / f"rows.{kind}" for kind in ("csv", "jsonl", "parquet"))
    wanted = Outputs(csv=csv, jsonl=jsonl, parquet=parquet, statistics=True)
    inspect(screw_model, names, outputs=wanted)
    for rows in (csv, jsonl, parquet):
        again = drift(screw_model, rows).alarms
        assert [(each["at"], each["cause"]) for each in again] == [(alarm["at"], alarm["cause"])]


def test_rows_without_statistics_tell_of_scores(
    screw_model: Path, stream: Path, tmp_path: Path
) -> None:
    inspect(screw_model, stream, outputs=Outputs(csv=tmp_path / "rows.csv"))
    assert "statistics" not in (tmp_path / "rows.csv").read_text().splitlines()[0]
    found = drift(screw_model, tmp_path / "rows.csv", output=tmp_path)
    assert found.watched == "scores alone" and "--statistics" in found.notes[0]


def test_model_without_a_good_state_says_so(
    screw_model: Path, stream: Path, tmp_path: Path
) -> None:
    read = read_model(screw_model)
    old = tmp_path / "old.makellos"
    rewrite_manifest(read, read.manifest.model_copy(update={"good_state": None}), old)
    (note,) = drift(old, stream).notes
    assert "Fit it again" in note


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "input,verdict\na,ok\n"),
        ("rows.jsonl", '{"input": "a", "p_value": "x"}\n'),
        ("rows.jsonl", "[1]\n"),
        ("rows.jsonl", '{"input": "a", "p_value": 0.5, "statistics": {"field": 1}}\n'),
        ("rows.jsonl", '{"input": "a", "p_value": 7}\n'),
        ("rows.csv", 'input,p_value,statistics\na,0.5,"{"\n'),
        ("rows.parquet", "no table"),
        ("rows.csv", ""),
        ("rows.txt", "p_value\n1\n"),
    ],
)
def test_what_are_no_rows_is_refused(
    screw_model: Path, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        drift(screw_model, tmp_path / name)


def test_what_cannot_be_is_refused(screw_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        drift(screw_model, tmp_path / "nothing.csv")
    with pytest.raises(InputError):
        drift(screw_model, tmp_path)
    with pytest.raises(ConfigurationError, match=r"per 10,000"):
        drift(screw_model, tmp_path, false_alarms=0)


def test_unreadable_parts_are_counted(screw_model: Path, stream: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(1, 6):
        shutil.copy(stream / f"part{number}.png", folder)
    (folder / "part9.png").write_bytes(b"no picture")
    found = drift(screw_model, folder, output=tmp_path / "page")
    assert (found.n_parts, found.n_unreadable, found.alarms) == (6, 1, [])
    assert "could not be read" in found.notes[0]


def test_verb_writes_json_and_exits_with_what_was_found(
    cli: Callable[..., Any], screw_model: Path, stream: Path, tmp_path: Path
) -> None:
    target = tmp_path / "drift.json"
    told = cli("drift", screw_model, stream, "--json", target, "--fail-on-alarm")
    assert told.code == 3 and "brighter or darker" in told.everything
    found = json.loads(target.read_text())
    assert found["n_parts"] == N_CALM + N_CHANGED
    assert {"at", "cause", "since"} <= set(found["alarms"][0])
