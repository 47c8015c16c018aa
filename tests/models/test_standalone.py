"""The program of an exported folder computes what OpenCV and makellos compute, by NumPy alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from makellos import read_picture
from makellos.inspection import background, loose
from makellos.models.standalone import beside, verdict

SIDE, CELL = 384, 24


def bolt(*, fibre: bool = False, stain: bool = False) -> NDArray[np.float32]:
    """Return a dark bolt on a plain table, 1×H×W in [0, 1], with dirt close to it."""
    rng = np.random.default_rng(0)
    solid, dirt = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
    solid[144:240, 48:300] = 1
    if fibre:
        points = np.array([[80, 124], [120, 112], [160, 122]], np.int32).reshape(-1, 1, 2)
        cv2.polylines(dirt, [points], isClosed=False, color=1.0, thickness=2)
    if stain:
        cv2.circle(dirt, (4, 320), 24, 1.0, 2)
    rows = np.linspace(0, 0.05, SIDE, dtype=np.float32)[:, None]
    shadow = cv2.GaussianBlur(solid, (0, 0), 24)
    gray = 0.9 + rows - 0.3 * shadow - 0.35 * cv2.GaussianBlur(solid, (0, 0), 0.8)
    gray = gray - 0.2 * cv2.GaussianBlur(dirt, (0, 0), 0.7) + rng.normal(0, 0.004, gray.shape)
    return gray.astype(np.float32)[None]


def inside() -> NDArray[np.bool_]:
    cells = np.zeros((SIDE // CELL, SIDE // CELL), bool)
    cells[5:11, 1:14] = True
    return cells


def blots(shape: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return np.asarray(cv2.blur(noise, (3, 3)) > 0.5, bool)


@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (5, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_masks_are_worked_on_as_opencv_does(shape: tuple[int, int], seed: int) -> None:
    mask, square = blots(shape, seed), np.ones((5, 5), np.uint8)
    raw = mask.astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(raw)
    labels, areas = beside.components(mask)
    assert len(areas) == count
    assert sorted(areas[1:]) == sorted(stats[1:, cv2.CC_STAT_AREA])
    assert all(len(np.unique(labels[labels == i])) == 1 for i in range(1, count))
    assert (beside.filled(mask) == loose.filled(mask)).all()
    assert (beside.part_in(mask) == background.part_in(mask)).all()
    assert (beside.grown(mask, 5) == cv2.dilate(raw, square)).all()
    assert (beside.shrunk(mask, 5, outside=False) == cv2.erode(raw, square, borderValue=0)).all()
    closed = cv2.morphologyEx(raw, cv2.MORPH_CLOSE, square)
    assert (beside.shrunk(beside.grown(mask, 5), 5) == closed).all()
    large = cv2.resize(raw, (200, 130), interpolation=cv2.INTER_NEAREST)
    assert (beside.enlarged(mask, (130, 200)) == large).all()


@pytest.mark.parametrize("shape", [(64, 64), (61, 90)])
def test_values_are_worked_on_as_opencv_does(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    for deviation in (beside.FINE, beside.COARSE):
        expected = cv2.GaussianBlur(values, (0, 0), deviation)
        assert np.abs(beside.blurred(values, deviation) - expected).max() < 1e-5
    small = cv2.resize(values, (9, 7), interpolation=cv2.INTER_AREA)
    assert np.abs(beside.averaged(values, (7, 9)) - small).max() < 1e-5
    large = cv2.resize(values, (200, 130), interpolation=cv2.INTER_LINEAR)
    assert np.abs(beside.between(values, (130, 200)) - large).max() < 1e-5


def test_hulls_are_those_of_opencv_but_for_single_pixels() -> None:
    mask = blots((64, 90), 7)
    expected = loose.filled(mask, hulls=True)
    assert (beside.filled(mask, hulls=True) != expected).sum() < 0.05 * expected.sum()


@pytest.mark.parametrize("dirt", [{}, {"fibre": True}, {"stain": True}])
def test_what_lies_loose_is_found_and_taken_out_alike(dirt: dict[str, bool]) -> None:
    picture = np.repeat(bolt(**dirt), 3, axis=0)
    expected, found = loose.find_loose(picture, inside()), beside.find_loose(picture, inside())
    if expected is None:
        assert found is None and not dirt
        return
    assert found is not None and dirt
    assert (found.loose != expected.loose).sum() <= 0.02 * expected.loose.sum()
    assert (found.part == expected.part).all()
    same = beside.Loose(expected.loose, expected.part)
    painted = beside.without(picture, same)
    assert np.abs(painted - loose.without(picture, expected)).max() < 1e-4


@pytest.mark.parametrize("choice", ["ignore", "look_again", "count"])
@pytest.mark.parametrize("least", [0.0, 0.9])
def test_maps_are_divided_alike(choice: background.Choice, least: float) -> None:
    rng = np.random.default_rng(0)
    anomaly_map = rng.random((16, 16)).astype(np.float32)
    part = cv2.blur(inside().astype(np.float32), (3, 3))
    ours = background.Background(choice=choice, least=least, most=1.0)
    theirs = beside.Background(choice, least, 1.0)
    removed = loose.find_loose(bolt(fibre=True), inside())
    assert removed is not None
    for taken in (None, removed):
        again = None if taken is None else beside.Loose(*taken)
        expected = ours.apart(anomaly_map, part, taken)
        for one, other in zip(theirs.apart(anomaly_map, part, again), expected, strict=True):
            assert np.abs(one - other).max() < 1e-6
    for counted in (part, 1 - part):
        one, other = (rule.loose(counted, part, bolt(fibre=True)) for rule in (theirs, ours))
        assert (one is None) == (other is None)


# Files that the program reads, or refuses


@pytest.fixture(scope="module")
def program() -> verdict.Model:
    """Return a program whose score is the mean of a picture of 16×16."""
    model = object.__new__(verdict.Model)
    steps = [[0.5], [1.0, 0.0]]
    model.facts = {
        "input": {"height": 16, "width": 16, "channels": 3, "white_level": None},
        "calibration": {"threshold": 0.5, "false_alarms": 0.1, "look_again": 0.1},
        "aggregation": {"name": "max", "parameter": 0, "mean_weight": 0},
    }
    model.steps, model.beside, model.background = steps, [], None
    model.run = lambda batch: {"anomaly_map": batch.mean(1)}  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("size", [(1600, 1200), (160, 120), (16, 16)])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jpg"])
def test_sizes_are_not_taken_for_bits(size: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", size, (10, 160, 16)).save(path)
    assert (verdict.read_picture(path) == read_picture(path)).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
def test_colours_of_16_bits_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), np.full((20, 20, 3), 999, np.uint16))
    with pytest.raises(verdict.UnreadableError, match="16 bits"):
        verdict.read_picture(path)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_ink_is_mixed_as_makellos_does(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    path = tmp_path / "a"
    Image.fromarray(values, "CMYK").save(path, kind, quality=100)
    found, expected = verdict.read_picture(path), read_picture(path)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("raw", "is_read"),
    [
        (b"P5 4 2 255 " + bytes(8), True),
        (b"P5 2 2 65535 " + bytes(range(8)), True),
        (b"P2 2 2 255 0 50 99 100\n", True),
        (b"P2 2 2 65535 0 50 99 60000\n", True),
        (b"P4 8 2 ab", True),
        (b"P1 2 2 0 1 1 0\n", True),
        (b"P5 4 2 100 " + bytes(8), False),
        (b"P5 2 2 4095 " + bytes(8), False),
        (b"P6 2 1 4095 " + bytes(12), False),
        (b"P6 2 1 65535 " + bytes(12), False),
        (b"P6 2 1 100 " + bytes(6), False),
    ],
)
def test_white_has_to_be_that_of_8_or_16_bits(raw: bytes, is_read: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pnm"
    path.write_bytes(raw)
    if is_read:
        assert (verdict.read_picture(path) == read_picture(path)).all()
        return
    with pytest.raises(verdict.UnreadableError, match="white is"):
        verdict.read_picture(path)


@pytest.mark.parametrize("kind", ["GIF", "ICO", "TGA", "PCX", "JPEG2000"])
def test_formats_that_makellos_refuses_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(path, kind)
    with pytest.raises(verdict.UnreadableError, match="no PNG, JPEG"):
        verdict.read_picture(path)


def bad_files(folder: Path) -> list[Path]:
    arrays: dict[str, Any] = {
        "two.npy": np.zeros((8, 8, 2), np.uint8),
        "line.npy": np.zeros(8, np.uint8),
        "film.npy": np.zeros((2, 8, 8, 3), np.uint8),
        "none.npy": np.zeros((0, 8), np.uint8),
        "real.npy": np.zeros((8, 8)),
    }
    for name, values in arrays.items():
        np.save(folder / name, values)
    np.save(folder / "object.npy", np.array([{}], object), allow_pickle=True)
    np.savez(folder / "many.npz", a=np.zeros((8, 8), np.uint8))
    (folder / "many.npz").rename(folder / "many.npy")
    (folder / "empty.npy").write_bytes(b"")
    (folder / "short.npy").write_bytes((folder / "real.npy").read_bytes()[:150])
    (folder / "text.npy").write_text("no array")
    Image.effect_noise((64, 64), 90).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:900])
    Image.new("L", (8, 8)).save(folder / "bomb.bmp")
    raw = bytearray((folder / "bomb.bmp").read_bytes())
    raw[18:26] = struct.pack("<ii", 60_000, 60_000)
    (folder / "bomb.bmp").write_bytes(raw)
    for mode in ("I", "F"):
        Image.new(mode, (8, 8)).save(folder / f"{mode}.tif")
    return sorted(folder.iterdir())


def test_bad_files_cost_themselves_alone(program: verdict.Model, tmp_path: Path) -> None:
    for path in bad_files(tmp_path):
        found = program.inspect_file(path)
        assert (path.name, found.verdict) == (path.name, "unreadable")
        assert found.error is not None and found.error.startswith(f"{path}: ")
        json.dumps(found.error)


def test_arrays_have_one_three_or_four_channels(program: verdict.Model) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    opaque = np.full_like(gray, 255)
    expected = program.inspect(gray).score
    assert program.inspect(gray[..., None]).score == expected
    assert program.inspect(np.dstack([gray] * 3)).score == expected
    assert program.inspect(np.dstack([gray, gray, gray, opaque])).score == expected
