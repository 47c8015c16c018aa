"""Files of any name: each has its row, in every kind of output, and the others go on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from makellos.data.layouts import list_parts, walk_parts
from makellos.drawing import picture_place

Cli = Callable[..., Any]
NAMES = [
    "plain.png",
    "new\nline.png",
    "-dash.png",
    "--help.png",
    "caf\u00e9.png",
    "cafe\u0301.png",
    "x" * 251 + ".png",
    "\u00fc" * 125 + ".png",
    "=1+1.png",
    "\x1b[31mred.png",
    "\u202egnp.exe.png",
    " blank .png",
    "a,b;\"c'.png",
    "%s{0}$(id).png",
    "<script>.png",
    "CON.png",
    "bad\udcff\udcfe.png",
    "back\\slash.png",
    "suffix of another format.gif",
    "photo.jfif",
    "no_suffix",
]


@pytest.fixture
def odd(toy_parts: Path, tmp_path: Path) -> Path:
    """Return a folder of good parts under odd names, as far as the file system holds them."""
    if sys.platform != "linux":
        pytest.skip("the file system does not hold such names")
    folder = tmp_path / "parts"
    (folder / "sub\udcff").mkdir(parents=True)
    source = next((toy_parts / "train" / "good").glob("*.png"))
    for name in (*NAMES, "sub\udcff/x.png"):
        shutil.copy(source, folder / name)
    return folder


def test_every_name_has_its_row_everywhere(
    odd: Path, toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    table = tmp_path / "rows.parquet"
    told = cli("inspect", toy_model, odd, "-o", out, "--overlays", "--parquet", table)
    n_parts = len(NAMES) + 1
    assert told.code == 0, told.err
    assert f"{n_parts} parts" in told.out
    rows = [json.loads(line) for line in (out / "inspections.jsonl").read_text().splitlines()]
    assert {Path(row["input"]) for row in rows} == {odd / name for name in NAMES} | {
        odd / "sub\udcff" / "x.png"
    }
    with (out / "inspections.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == n_parts
    assert parquet.read_table(table).num_rows == n_parts
    drawn = [path for path in (out / "overlays").rglob("*") if path.is_file()]
    assert len(drawn) == n_parts
    assert all(path.name.isprintable() and len(os.fsencode(path.name)) < 220 for path in drawn)


def test_names_are_told_on_standard_output(odd: Path, toy_model: Path, cli: Cli) -> None:
    for options in (["--csv", "-"], ["--jsonl", "-"], []):
        told = cli("inspect", toy_model, odd, *options)
        assert told.code == 0, told.err
    told = cli("inspect", toy_model, "--", odd / "-dash.png", "--help.png")
    assert told.code == 1
    assert "--help.png does not exist" in told.everything


def test_odd_names_are_learned_from_checked_and_evaluated(
    odd: Path, toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    data = tmp_path / "data"
    shutil.copytree(odd, data / "test" / "good")
    shutil.copytree(odd, data / "test" / "scr\udcffatch")
    assert cli("data", "check", data, "--json", tmp_path / "check.json").code == 1  # none to learn
    told = cli("evaluate", toy_model, data, "-o", tmp_path / "report")
    assert told.code == 0, told.err
    assert (tmp_path / "report" / "report.html").stat().st_size


def test_the_place_of_a_picture_fits_every_system_and_stays_apart(tmp_path: Path) -> None:
    assert picture_place(tmp_path, Path("a/b.png"), ".x.png") == tmp_path / "a" / "b.png.x.png"
    names = ["a" * 255, "a" * 254 + "b", "a?", "a*", "a\n", "a.", "a ", "\udcff", "\udcfe"]
    places = {picture_place(tmp_path, Path(name), ".x.png").name for name in names}
    assert len(places) == len(names)
    assert all(len(name.encode()) < 220 and not set(name) & set('?*\n"') for name in places)
    deep = Path(*(["d" * 200] * 30), "x.png")
    assert len(picture_place(tmp_path, deep, ".x.png").parts) == len(tmp_path.parts) + 1


def test_a_picture_is_found_by_what_it_holds(toy_parts: Path, tmp_path: Path) -> None:
    source = next((toy_parts / "train" / "good").glob("*.png")).read_bytes()
    for name in ("none", "a.dat", "b.gif", "c.JPE", "d.txt", "e.png.bak", "f.png~", ".hidden.png"):
        (tmp_path / name).write_bytes(source)
    others = {
        "raw.nef": b"II*\0" + bytes(100),
        "report.txt": b"BMW, the report of the year, in many words",
        "notes": b"P5 is the number of this part",
        "empty": b"",
        "sound.wav": b"RIFF\0\0\0\0WAVE",
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "scan").write_bytes(b"II*\0" + bytes(100))  # a TIFF, though a damaged one
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    found = [path.name for path in walk_parts(tmp_path)]
    assert found == ["a.dat", "b.gif", "c.JPE", "d.txt", "none", "scan"]


def test_names_of_composed_letters_meet_those_taken_apart(toy_parts: Path, tmp_path: Path) -> None:
    source = next((toy_parts / "train" / "good").glob("*.png"))
    for name in ("train/good/e\u0301.png", "test/kratzer\u00e9/e\u0301.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / name)
    mask = tmp_path / "ground_truth" / "kratzere\u0301" / "\u00e9_mask.png"
    mask.parent.mkdir(parents=True)
    shutil.copy(source, mask)
    parts = list_parts(tmp_path)
    assert [part.mask for part in parts if not part.is_good] == [mask]
    manifest = tmp_path / "parts.csv"
    manifest.write_text("path\ntrain/good/\u00e9.png\n", encoding="utf-8")
    (part,) = list_parts(manifest)
    assert part.path.exists()
