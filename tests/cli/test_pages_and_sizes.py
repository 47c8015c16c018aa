"""Files of several pages, and pictures unlike those that were learned: each is said."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from makellos.data.pages import pages_of
from makellos.data.pictures import read_framed, read_picture
from makellos.errors import InputError
from makellos.inspection import Inspector

Cli = Callable[..., Any]


@pytest.fixture
def pages(toy_parts: Path) -> list[np.ndarray]:
    """Return three good parts of one size."""
    return [read_picture(path) for path in sorted((toy_parts / "train" / "good").glob("*"))[:3]]


def write_pages(path: Path, pages: list[np.ndarray], **options: object) -> Path:
    images = [Image.fromarray(page) for page in pages]
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


def rows(told: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.out.splitlines()]


def test_the_first_page_is_taken_and_said(
    pages: list[np.ndarray], toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    path = write_pages(tmp_path / "stack.tif", pages)
    assert np.array_equal(read_picture(path), pages[0])
    told = cli("inspect", toy_model, path)
    assert "Note: The file holds 3 pages or frames, of which the first was inspected" in told.out
    (row,) = rows(cli("inspect", toy_model, path, "--jsonl", "-"))
    assert len(row["notes"]) == 1
    told = cli("inspect", toy_model, path, path, "-o", tmp_path / "out")
    assert "Note (2 parts): The file holds 3 pages" in told.out


@pytest.mark.parametrize("big", [False, True])
def test_each_page_may_be_a_part(
    pages: list[np.ndarray], toy_model: Path, tmp_path: Path, cli: Cli, big: bool
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    path = write_pages(folder / "stack.tif", pages, compression="tiff_lzw", big_tiff=big)
    alone = [folder / f"{i}.png" for i in range(3)]
    for page, target in zip(pages, alone, strict=True):
        Image.fromarray(page).save(target)
    told = cli(
        "inspect", toy_model, folder, "--pages", "all", "--jsonl", "-",
        "--overlays", "-o", tmp_path / "out",
    )  # fmt: skip
    found = rows(told)
    assert [row["input"] for row in found[3:]] == [f"{path} page {n}" for n in (1, 2, 3)]
    assert [row["score"] for row in found[3:]] == [row["score"] for row in found[:3]]
    assert not any(row["notes"] for row in found)
    drawn = sorted(each.name for each in (tmp_path / "out" / "overlays").iterdir())
    assert drawn[3:] == [f"stack.tif.page{n}.overlay.png" for n in (1, 2, 3)]


def test_a_damaged_page_costs_itself_alone(
    pages: list[np.ndarray], toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    path = write_pages(tmp_path / "stack.tif", pages, compression="tiff_adobe_deflate")
    content = bytearray(path.read_bytes())
    with Image.open(path) as third:
        third.seek(2)
        start = third.tag_v2[273][0]
    content[start + 20 : start + 60] = bytes(40)
    path.write_bytes(content)
    told = cli("inspect", toy_model, path, "--pages", "all", "--jsonl", "-")
    assert told.code == 1
    assert [row["verdict"] == "unreadable" for row in rows(told)] == [False, False, True]
    assert "stack.tif page 3 is damaged: the checksum" in rows(told)[2]["error"]


def test_pages_that_lead_back_are_counted_once(pages: list[np.ndarray], tmp_path: Path) -> None:
    path = write_pages(tmp_path / "stack.tif", pages)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    at = first
    for _ in range(3):
        (count,) = struct.unpack_from("<H", content, at)
        place = at + 2 + 12 * count
        (at,) = struct.unpack_from("<I", content, place)
    struct.pack_into("<I", content, place, first)
    path.write_bytes(content)
    assert read_framed(path)[1] == len(pages_of(path)) == 3
    struct.pack_into("<I", content, place, 0xFFFFFF00)
    path.write_bytes(content)
    assert read_framed(path)[1] == 3


def test_what_is_no_tiff_of_pages_is_one_part(pages: list[np.ndarray], tmp_path: Path) -> None:
    single = write_pages(tmp_path / "one.tif", pages[:1])
    for path in (single, tmp_path / "gone.tif", write_pages(tmp_path / "a.png", pages)):
        assert [part.source for part in pages_of(path)] == [path]
    (tmp_path / "two.tif").write_bytes(write_pages(tmp_path / "x.tif", pages).read_bytes())
    part = pages_of(tmp_path / "two.tif")[2]
    write_pages(tmp_path / "two.tif", pages[:1])
    with pytest.raises(InputError, match="page 3 no longer exists"):
        part.read()


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_frames_are_said_too(pages: list[np.ndarray], tmp_path: Path, kind: str) -> None:
    path = write_pages(tmp_path / f"film.{kind}", pages, lossless=True)
    picture, n_frames = read_framed(path)
    assert n_frames == 3
    assert np.array_equal(picture if picture.ndim == 2 else picture[..., 0], pages[0])


def test_pictures_unlike_those_learned_are_said(
    pages: list[np.ndarray], toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    part = pages[0]
    height, width = part.shape[:2]
    wide = (part if part.ndim == 2 else part[..., 0]).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "small.png"), cv2.resize(part, (width // 2, height // 2)))
    cv2.imwrite(str(tmp_path / "deep.png"), wide)
    cv2.imwrite(str(tmp_path / "usual.png"), part)
    deep, small, usual = rows(cli("inspect", toy_model, tmp_path, "--jsonl", "-"))
    assert f"is {width // 2} x {height // 2} pixels, but the model learned" in small["notes"][0]
    assert f"pictures of {width} x {height} pixels" in small["notes"][0].replace(",", " pixels")
    assert "grey 16 bit, but the model learned from pictures of" in deep["notes"][0]
    assert usual["notes"] == []
    assert "may mean nothing" in Inspector(toy_model).inspect(wide).notes[0]


def test_tested_pictures_unlike_those_learned_are_said(
    pages: list[np.ndarray], toy_model: Path, tmp_path: Path, cli: Cli
) -> None:
    for name in ("good/a", "good/b", "dent/c"):
        target = tmp_path / "test" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = cv2.resize(pages[0], (40, 40))
        cv2.imwrite(str(target), np.roll(small, len(name), axis=0))
    told = cli("evaluate", toy_model, tmp_path)
    assert "3 tested parts: The picture is 40 x 40 pixels" in told.out


def test_what_is_learned_from_first_pages_is_said(
    pages: list[np.ndarray], tmp_path: Path, cli: Cli, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for i in range(4):
        write_pages(folder / f"{i}.tif", [np.roll(page, i, axis=0) for page in pages])
    said = "4 files hold several pages or frames, of which the first is used: "
    assert said in cli("data", "check", folder).out
    toy.install(monkeypatch)
    told = cli("fit", folder, "-o", tmp_path / "m.makellos", "--false-alarms", "0.3")
    assert said in told.out, told.err
