"""What a program hands over: one input or many, and pictures in memory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from makellos.data.given import part_of, several
from makellos.data.parts import Part, Values
from makellos.data.pictures import Picture
from makellos.errors import InputError

GRAY = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
ALPHA = np.dstack([RGB, np.zeros((5, 7), np.uint8)])


def encoded(picture: Picture, suffix: str = ".png") -> bytes:
    shown = picture if picture.ndim == 2 else picture[..., ::-1]
    return bytes(cv2.imencode(suffix, shown)[1].tobytes())


def read(given: Any, white: int | None = None) -> Picture:
    return part_of(given, "part", white=white).read()


@pytest.mark.parametrize(
    "one", ["abc", Path("abc"), b"abc", RGB, GRAY, Part(source=Path("a"), name="a")]
)
def test_one_input_is_no_row_of_its_pieces(one: object) -> None:
    (found,) = several(one)
    assert found is one


@pytest.mark.parametrize("many", [["a", "b"], ("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}])
def test_several_inputs_are_several(many: Any) -> None:
    assert list(several(many)) == ["a", "b"]


def test_a_stack_of_pictures_is_several() -> None:
    assert len(list(several(np.stack([RGB, RGB])))) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GRAY, GRAY),
        (GRAY[..., np.newaxis], GRAY),
        (RGB, RGB),
        (ALPHA, RGB),
        (DEEP, DEEP),
        (DEEP.astype(">u2"), DEEP),
        (np.asfortranarray(RGB), RGB),
        (GRAY / 255, GRAY),
        (RGB.astype(np.float32) / 255, RGB),
        ((GRAY / np.float16(255)).astype(np.float16)[:1, :1] * 0, GRAY[:1, :1] * 0),
        (DEEP / 65535, DEEP),
        (ALPHA / 255.0, RGB),
        (np.float32(1.0000001) * np.ones((5, 7), np.float32), np.full((5, 7), 255, np.uint8)),
        (encoded(RGB), RGB),
        (bytearray(encoded(GRAY)), GRAY),
        (memoryview(encoded(DEEP)), DEEP),
        (Image.fromarray(GRAY), GRAY),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(ALPHA), RGB),
        (Image.fromarray(GRAY).convert("LA"), GRAY),
        (Image.fromarray(GRAY > 100), np.where(GRAY > 100, 255, 0).astype(np.uint8)),
        (Image.fromarray(DEEP[..., 0]), DEEP[..., 0]),
        (Image.fromarray(DEEP[..., 0].astype(np.int32)), DEEP[..., 0]),
        (Image.fromarray(GRAY.astype(np.float32) / np.float32(255)), GRAY),
        (Image.fromarray(GRAY).convert("P"), np.dstack([GRAY] * 3)),
        (Image.open(io.BytesIO(encoded(RGB))), RGB),
    ],
    ids=lambda each: (
        f"{type(each).__name__} {getattr(each, 'dtype', '')}{getattr(each, 'mode', '')}"
    ),
)
def test_pictures_in_memory_are_read(given: Any, expected: Picture) -> None:
    found = read(given)
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


def test_floats_fill_the_white_level_of_a_model() -> None:
    values = np.linspace(0, 4095, 35).round().astype(np.uint16).reshape(5, 7)
    np.testing.assert_array_equal(read(values / 4095, white=4095), values)


def test_picture_of_pil_is_turned_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    from_file = part_of(tmp_path / "turned.png").read()
    assert from_file.shape == (7, 5, 3)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(read(opened), from_file)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (RGB.transpose(2, 0, 1), "transpose it"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\)"),
        (np.zeros((0, 8), np.uint8), r"\(0, 8\)"),
        (np.zeros(8, np.uint8), r"\(8,\)"),
        (np.zeros((8, 8), np.int16), "int16"),
        (np.zeros((8, 8), bool), "bool"),
        (np.zeros((8, 8), complex), "complex"),
        (np.full((8, 8), 255.0), "from 255 to 255. Divide"),
        (np.full((8, 8), -0.5), "from -0.5"),
        (np.full((8, 8), np.nan), "NaN"),
        ([[1, 2], [3, 4]], "int64|int32"),
        (None, "object"),
        (b"", "empty"),
        (b"text", "not a picture"),
        (encoded(RGB)[:-30], "damaged"),
        (Image.open(io.BytesIO(encoded(RGB)[:60])), "part cannot be decoded"),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), "int32"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20,000 x 20,000 pixels"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_what_is_no_picture_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read(given)


def test_names_are_those_given() -> None:
    assert part_of("a/b.png").name == "a/b.png"
    assert part_of(Path("a/b.png"), "part 7").name == "part 7"
    assert part_of(GRAY).name == "array"
    assert part_of(GRAY, unnamed="array 3").name == "array 3"
    part = Part(source=Values(GRAY), name="own")
    assert part_of(part) is part
    with pytest.raises(InputError, match="no file"):
        _ = part_of(GRAY).path


def test_pil_is_not_loaded_for_arrays() -> None:
    code = (
        "import sys, numpy; from makellos.data.given import part_of; "
        "part_of(numpy.zeros((4, 4), 'u1')).read(); print('PIL.Image' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_open_files_are_one_picture_wherever_they_stand(tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.fromarray(RGB).save(written, format="png")
    assert list(several(written)) == [written]
    np.testing.assert_array_equal(read(written), RGB)
    np.testing.assert_array_equal(read(written), RGB)
    path = tmp_path / "part.png"
    path.write_bytes(written.getvalue())
    with path.open("rb") as file:
        assert list(several(file)) == [file]
        np.testing.assert_array_equal(read(file), RGB)
    with pytest.raises(InputError, match=r"part cannot be read: read of closed file\. Open"):
        read(file)
    with path.open() as text, pytest.raises(InputError, match="open as text"):
        read(text)


@pytest.mark.parametrize("what", [None, {}, (each for each in "ab")])
def test_what_is_no_picture_is_named(what: Any) -> None:
    with pytest.raises(InputError, match=f"an object of type {type(what).__name__}\\.$"):
        read(what)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_named(value: float) -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        read(np.where(GRAY > 9, value, 0.5))
