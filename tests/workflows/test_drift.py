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
from makellos.inspection.drift import DriftMonitor
from makellos.inspection.model_file import read_model
from makellos.models.writing import rewrite_manifest
from makellos.workflows.drift import _watch

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


def test_nothing_that_can_be_read_is_an_error(
    cli: Callable[..., Any], screw_model: Path, tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"part{number}.png").write_bytes(b"no picture")
    told = cli("drift", screw_model, tmp_path)
    assert told.code == 2 and "No part of" in told.everything
    assert "makellos inspect" in told.everything and "No drift" not in told.everything
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "a", "p_value": null}\n')
    with pytest.raises(InputError, match="could be read"):
        drift(screw_model, rows)


def test_sentences_count_what_was_read(
    cli: Callable[..., Any], screw_model: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    values = ["0.5", "null", "0.7"]
    rows.write_text("".join(f'{{"input": "a", "p_value": {each}}}\n' for each in values))
    told = cli("drift", screw_model, rows, "-o", tmp_path / "page")
    assert told.code == 0 and "No drift in 2 parts" in told.everything
    assert "Nothing in 2 parts" in (tmp_path / "page" / "drift.html").read_text(encoding="utf-8")


def test_pictures_in_arrays_are_parts(screw_model: Path, stream: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    files = sorted(stream.iterdir(), key=lambda path: int(path.stem[4:]))
    pictures = [cv2.cvtColor(cv2.imread(str(each)), cv2.COLOR_BGR2RGB) for each in files]
    np.save(folder / "batch2.npy", np.stack(pictures[:30]))
    np.save(folder / "batch10.npy", np.stack(pictures[30:]))
    found = drift(screw_model, folder, output=tmp_path / "page")
    (alarm,), (expected,) = found.alarms, drift(screw_model, stream).alarms
    assert found.n_parts == N_CALM + N_CHANGED
    assert (alarm["at"], alarm["cause"]) == (expected["at"], expected["cause"])
    assert alarm["input"].endswith(f"#{(alarm['at'] - 1) % 30}")
    page = (tmp_path / "page" / "drift.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 6


def test_wealths_are_kept_for_a_page_alone(screw_model: Path) -> None:
    rows = [{"input": "a", "p_value": 0.5}] * 5
    for keep in (False, True):
        found = _watch(DriftMonitor(screw_model), rows, keep=keep)
        assert (found.n_parts, len(found.wealths)) == (5, 5 * keep)


def test_verb_writes_json_and_exits_with_what_was_found(
    cli: Callable[..., Any], screw_model: Path, stream: Path, tmp_path: Path
) -> None:
    target = tmp_path / "drift.json"
    told = cli("drift", screw_model, stream, "--json", target, "--fail-on-alarm")
    assert told.code == 3 and "brighter or darker" in told.everything
    found = json.loads(target.read_text())
    assert found["n_parts"] == N_CALM + N_CHANGED
    assert {"at", "cause", "since"} <= set(found["alarms"][0])
