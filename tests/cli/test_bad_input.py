"""Bad input: everything that is wrong is named with the next step, and costs itself alone."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

BAD = {
    "huge.png": "30,000 x 30,000 pixels",
    "text.png": "is not a picture",
    "truncated.png": "is damaged",
    "void.png": "is empty",
}
Cli = Callable[..., Any]


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


@pytest.fixture
def bad_files(toy_parts: Path, tmp_path: Path) -> Path:
    """Return a folder of three good pictures and four files that are no pictures."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = sorted((toy_parts / "train" / "good").glob("*.png"))
    for i, path in enumerate(good[:3]):
        shutil.copy(path, folder / f"part{i}.png")
    whole = good[3].read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("Dear Sir or Madam")
    (folder / "void.png").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    (folder / "huge.png").write_bytes(huge + chunk(b"IEND", b""))
    return folder


@pytest.fixture
def fitting(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fits of the test use the toy detector."""
    toy.install(monkeypatch)


# Nothing there


@pytest.mark.parametrize("verb", ["fit", "evaluate", "inspect", "check"])
def test_empty_folder(toy_model: Path, tmp_path: Path, cli: Cli, verb: str) -> None:
    void = tmp_path / "void"
    void.mkdir()
    commands = {
        "fit": ["fit", void, "-o", tmp_path / "m.makellos"],
        "evaluate": ["evaluate", toy_model, void],
        "inspect": ["inspect", toy_model, void],
        "check": ["data", "check", void],
    }
    told = cli(*commands[verb])
    assert told.code == 2
    assert "no picture" in told.err
    assert "Give picture" in told.err if verb == "inspect" else "Put pictures of" in told.err


def test_folder_without_pictures_is_empty_too(toy_model: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    told = cli("inspect", toy_model, tmp_path)
    assert told.code == 2
    assert f"There is no picture in {tmp_path}" in told.err


@pytest.mark.parametrize("verb", ["fit", "evaluate", "check"])
def test_data_that_do_not_exist(toy_model: Path, tmp_path: Path, cli: Cli, verb: str) -> None:
    nowhere = tmp_path / "nowhere"
    commands = {
        "fit": ["fit", nowhere, "-o", tmp_path / "m.makellos"],
        "evaluate": ["evaluate", toy_model, nowhere],
        "check": ["data", "check", nowhere],
    }
    told = cli(*commands[verb])
    assert told.code == 2
    assert f"{nowhere} does not exist. Give a folder of pictures" in told.err


@pytest.mark.usefixtures("fitting")
def test_fit_on_one_picture(toy_parts: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(toy_parts / "train" / "good" / "000.png", tmp_path / "one")
    told = cli("fit", tmp_path / "one", "-o", tmp_path / "m.makellos")
    assert told.code == 2
    assert "There is 1 good part;" in told.err
    assert "Add pictures of good parts" in told.err


def test_fit_on_defective_parts_alone(toy_parts: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(toy_parts / "test" / "spotted", tmp_path / "parts" / "test" / "spotted")
    told = cli("fit", tmp_path / "parts", "-o", tmp_path / "m.makellos")
    assert told.code == 2
    assert "no good parts to learn from" in told.err
    assert "train/good" in told.err


# Some files are bad


def test_fit_names_all_bad_files_and_stops(bad_files: Path, tmp_path: Path, cli: Cli) -> None:
    told = cli("fit", bad_files, "-o", tmp_path / "m.makellos")
    assert told.code == 2
    assert "4 of 7 files cannot be used" in told.err
    for name, reason in BAD.items():
        (line,) = [line for line in told.err.splitlines() if name in line]
        assert reason in line
    assert "--skip-unreadable" in told.err
    assert not (tmp_path / "m.makellos").exists()


@pytest.mark.usefixtures("fitting")
def test_fit_leaves_bad_files_out_on_demand(bad_files: Path, tmp_path: Path, cli: Cli) -> None:
    model = tmp_path / "m.makellos"
    told = cli("fit", bad_files, "-o", model, "--skip-unreadable", "--json", tmp_path / "f.json")
    assert told.code == 0
    assert "learned from 3 good parts" in told.out
    assert f"Left out, unreadable: {', '.join(sorted(BAD))}" in told.out
    assert json.loads((tmp_path / "f.json").read_text())["skipped"] == sorted(BAD)
    told = cli("info", model, "--json", "-")
    assert json.loads(told.out)["training"]["skipped"] == sorted(BAD)


@pytest.mark.usefixtures("fitting")
def test_fit_stops_where_too_few_files_are_left(bad_files: Path, tmp_path: Path, cli: Cli) -> None:
    (bad_files / "part0.png").unlink()
    told = cli("fit", bad_files, "-o", tmp_path / "m.makellos", "--skip-unreadable")
    assert told.code == 2
    assert "2 good parts; at least 3" in told.err


def test_inspect_gives_every_file_its_row(
    toy_model: Path, bad_files: Path, tmp_path: Path, cli: Cli
) -> None:
    alone = {
        row["input"]: row
        for i in range(3)
        for row in rows(cli("inspect", toy_model, bad_files / f"part{i}.png", "--jsonl", "-").out)
    }
    (bad_files / "notes.txt").write_text("no picture, but given by name")
    order = [bad_files / "part2.png", tmp_path / "nowhere.png", bad_files / "notes.txt"]
    told = cli("inspect", toy_model, *order, bad_files, "--jsonl", "-")
    assert told.code == 1
    found = rows(told.out)
    walked = sorted([*BAD, *(f"part{i}.png" for i in range(3))])
    expected = [*map(str, order), *(str(bad_files / name) for name in walked)]
    assert [row["input"] for row in found] == expected
    reasons = BAD | {"nowhere.png": "does not exist", "notes.txt": "is not a picture"}
    for row in found:
        name = Path(row["input"]).name
        if name in reasons:
            assert row["verdict"] == "unreadable"
            assert reasons[name] in row["error"]
            assert row["error"].endswith(".")
            assert row["score"] is row["p_value"] is row["threshold"] is None
            assert row["regions"] == []
            assert row["error"] in told.err
        else:
            same = dict.fromkeys(("milliseconds",))
            assert row | same == alone[row["input"]] | same
    assert "10 parts: " in told.err
    assert "6 unreadable" in told.err


def test_inspect_of_bad_files_alone(toy_model: Path, bad_files: Path, cli: Cli) -> None:
    told = cli("inspect", toy_model, *(bad_files / name for name in BAD))
    assert told.code == 1
    assert told.out.splitlines()[-1] == "4 parts: 4 unreadable."
    assert all(line.startswith("unreadable  ") for line in told.out.splitlines()[:-1])


def test_bad_files_have_no_overlay(
    toy_model: Path, bad_files: Path, tmp_path: Path, cli: Cli
) -> None:
    told = cli("inspect", toy_model, bad_files, "-o", tmp_path / "out", "--overlays")
    assert told.code == 1
    names = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert names == [f"part{i}.png.overlay.png" for i in range(3)]


def test_data_check_names_bad_files(bad_files: Path, cli: Cli) -> None:
    told = cli("data", "check", bad_files)
    assert told.code == 1
    assert "4 pictures cannot be decoded" in told.out
    told = cli("data", "check", bad_files, "--json", "-")
    assert [name for name, _ in json.loads(told.out)["unreadable"]] == sorted(BAD)


# Odd files are no bad files


@pytest.fixture
def odd_files(toy: ModuleType, tmp_path: Path) -> Path:
    """Return good pictures of every size and mode, under names of every kind."""
    folder = tmp_path / "odd"
    rng = np.random.default_rng(8)
    gray = toy.gray_part(rng)
    color = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    pictures = {
        "gray.png": gray,
        "rgb.png": color,
        "rgba.png": np.dstack([color, np.full(gray.shape, 255, np.uint8)]),
        "deep.png": gray.astype(np.uint16) * 257,
        "deep rgb.tif": color.astype(np.uint16) * 257,
        "large.png": cv2.resize(gray, None, fx=3, fy=3),
        "small.bmp": cv2.resize(gray, (48, 32)),
        "upper.JPG": gray,
        "läßt 零.webp": gray,
        'sub/folder/a,b"c.png': gray,
    }
    for name, picture in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        done, encoded = cv2.imencode(path.suffix.lower(), picture)
        assert done
        path.write_bytes(encoded.tobytes())
    return folder


@pytest.mark.usefixtures("fitting")
def test_fit_on_pictures_of_mixed_size_and_mode(odd_files: Path, tmp_path: Path, cli: Cli) -> None:
    told = cli("fit", odd_files, "-o", tmp_path / "m.makellos")
    assert told.code == 0
    assert "learned from 10 good parts" in told.out


def test_patchcore_fits_on_pictures_of_mixed_size_and_mode(
    odd_files: Path, tmp_path: Path, cli: Cli
) -> None:
    lines = [
        f"{path},{'val' if i % 2 else 'train'}" for i, path in enumerate(odd_files.glob("*.*"))
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,split", *lines]), encoding="utf-8")
    told = cli("fit", tmp_path / "m.csv", "-o", tmp_path / "m.makellos", "--set", "image_size=64")
    assert told.code == 0
    assert "learned from 5 good parts" in told.out


def test_same_part_in_every_mode_scores_alike(toy_model: Path, odd_files: Path, cli: Cli) -> None:
    found = rows(cli("inspect", toy_model, odd_files, "--jsonl", "-").out)
    assert len(found) == 10
    scores = {Path(row["input"]).name: row["score"] for row in found}
    for name in ("rgb.png", "rgba.png", "deep.png", "deep rgb.tif"):
        assert scores[name] == pytest.approx(scores["gray.png"], abs=2e-3)


@pytest.mark.usefixtures("fitting")
@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes exist on Linux alone")
def test_file_names_that_are_no_text(
    toy: ModuleType, toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    rng = np.random.default_rng(2)
    for i in range(3):
        made = toy.write(tmp_path / "in" / f"{i}.png", toy.gray_part(rng))
        made.rename(os.fsdecode(os.fsencode(made.parent) + b"/\xff%d.png" % i))
    told = cli("inspect", toy_model, tmp_path / "in", "-o", tmp_path / "out", "--overlays")
    assert told.code == 0
    assert len((tmp_path / "out" / "inspections.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert len(rows((tmp_path / "out" / "inspections.jsonl").read_text(encoding="utf-8"))) == 3
    assert cli("inspect", toy_model, tmp_path / "in").code == 0
    assert cli("fit", tmp_path / "in", "-o", tmp_path / "m.makellos").code == 0
    assert cli("calibrate", toy_model, tmp_path / "in", "-o", tmp_path / "n.makellos").code == 0
    assert cli("data", "check", tmp_path / "in", "--json", "-").code == 0


# Models


@pytest.mark.parametrize("verb", ["inspect", "evaluate", "calibrate", "info"])
@pytest.mark.parametrize("fault", ["missing", "folder", "truncated", "changed", "text", "void"])
def test_models_that_cannot_be_used(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Cli, verb: str, fault: str
) -> None:
    model = tmp_path / "m.makellos"
    whole = toy_model.read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "changed": with_a_changed_byte(toy_model, "weights.safetensors"),
        "text": b"Dear Sir or Madam",
        "void": b"",
    }
    if fault == "folder":
        model.mkdir()
    elif fault != "missing":
        model.write_bytes(contents[fault])
    rest = {
        "inspect": [toy_parts / "test"],
        "evaluate": [toy_parts],
        "calibrate": ["--false-alarms", 0.2],
        "info": [],
    }
    told = cli(verb, model, *rest[verb])
    assert told.code == 2
    assert str(model) in told.err
    assert "makellos fit" in told.err or "again" in told.err
    assert told.out == ""
    if fault in contents:
        assert model.read_bytes() == contents[fault]


def test_info_checks_the_golden_parts_too(toy_model: Path, tmp_path: Path, cli: Cli) -> None:
    assert "every hash checked" in cli("info", toy_model).out
    model = tmp_path / "m.makellos"
    model.write_bytes(with_a_changed_byte(toy_model, "golden/00.png"))
    told = cli("info", model)
    assert told.code == 2
    assert "golden/00.png" in told.err


def with_a_changed_byte(model: Path, member: str) -> bytes:
    """Return a model file, which stores its members as they are, with one byte of one changed."""
    raw = bytearray(model.read_bytes())
    with zipfile.ZipFile(model) as archive:
        content = archive.read(member)
    raw[raw.index(content) + len(content) // 2] ^= 1
    return bytes(raw)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_picture_that_never_ends_costs_itself_alone(
    toy_model: Path, bad_files: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from makellos.data import pictures

    decode, ended = cv2.imdecode, threading.Event()
    slow = (bad_files / "part1.png").read_bytes()

    def hang(raw: Any, flags: int) -> Any:
        if raw.tobytes() == slow:
            ended.wait(60)
        return decode(raw, flags)

    monkeypatch.setattr(cv2, "imdecode", hang)
    monkeypatch.setattr(pictures, "_LIGHT_BYTES", 0)
    monkeypatch.setattr(pictures, "_SECONDS", 1.0)
    told = cli("inspect", toy_model, bad_files, "--jsonl", "-")
    ended.set()
    rows = {Path(row["input"]).name: row for row in map(json.loads, told.out.splitlines())}
    assert told.code == 1
    assert "was not decoded within 1 s" in rows["part1.png"]["error"]
    assert {rows[name]["error"] for name in ("part0.png", "part2.png")} == {None}
