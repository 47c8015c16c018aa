"""Decoding: the pixels that were stored, whatever the file format, or a reason."""

from __future__ import annotations

import io
import os
import re
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from picture_files import chunk, png, tiff
from PIL import Image

from makellos.data import _headers, pictures
from makellos.data.pictures import decode_picture, full_scale, read_picture
from makellos.errors import ConfigurationError, InputError

HEIGHT, WIDTH = 30, 44
GRAY = (np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH) * 2) % 256).astype(np.uint8)
RGB = np.dstack([GRAY, GRAY // 2 + 50, 255 - GRAY])
ALPHA = np.where(np.arange(WIDTH) < 10, 0, GRAY[::-1]).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
GRAY_ALPHA = np.dstack([GRAY, ALPHA])

Bits = NDArray[np.generic]


def wide(picture: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return picture.astype(np.uint16) * 257


def saved(picture: Bits | Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, file_format, **options)
    return stream.getvalue()


def encoded(picture: Bits, suffix: str, *options: int) -> bytes:
    """Written by OpenCV, which writes 16 bit colour."""
    stored = picture if picture.ndim == 2 else picture[..., ::-1]
    return cv2.imencode(suffix, np.ascontiguousarray(stored), options)[1].tobytes()


def assert_decodes(content: bytes, expected: Bits, tolerance: int = 0) -> None:
    found = decode_picture(content, "x")
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance


def small_pictures(dtype: type[np.generic], *, colour: bool) -> st.SearchStrategy[Bits]:
    sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return arrays.arrays(dtype, sides.map(lambda side: (*side, 3) if colour else side))


FORMATS = {
    "png": (".png",),
    "tiff": (".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "tiff lzw": (".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "tiff deflate": (".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 8),
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [False, True], ids=["gray", "RGB"])
@given(data=st.data())
@settings(max_examples=25)
def test_pixels_come_back_as_they_were(
    options: tuple[str, ...], dtype: type[np.generic], colour: bool, data: st.DataObject
) -> None:
    picture = data.draw(small_pictures(dtype, colour=colour))
    assert_decodes(encoded(picture, *options), picture)


PALETTE = Image.fromarray(RGB).quantize(255)
BITS = (GRAY > 100).astype(np.uint8) * 255
# Alpha is 0 in places: colours below it must neither vanish nor darken.
FAITHFUL = {
    "PNG RGBA": (saved(RGBA, "PNG"), RGB),
    "PNG gray and alpha": (saved(GRAY_ALPHA, "PNG"), GRAY),
    "PNG 16 bit RGBA": (
        png(
            *(WIDTH, HEIGHT),
            bits=16,
            colour=6,
            rows=[row.astype(">u2").tobytes() for row in wide(RGBA)],
        ),
        wide(RGB),
    ),
    "PNG 16 bit gray and alpha": (
        png(
            *(WIDTH, HEIGHT),
            bits=16,
            colour=4,
            rows=[row.astype(">u2").tobytes() for row in wide(GRAY_ALPHA)],
        ),
        wide(GRAY),
    ),
    "PNG gray with a transparent value": (saved(GRAY, "PNG", transparency=7), GRAY),
    "PNG 1 bit": (saved(Image.fromarray(BITS).convert("1"), "PNG"), BITS),
    "PNG 4 bit": (
        png(2, 1, bits=4, colour=0, rows=[b"\x1f"]),
        np.array([[17, 255]], np.uint8),
    ),
    "PNG palette": (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "PNG palette with transparency": (
        saved(PALETTE, "PNG", transparency=5),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "BMP gray": (saved(GRAY, "BMP"), GRAY),
    "BMP RGB": (saved(RGB, "BMP"), RGB),
    "BMP RGBA": (saved(RGBA, "BMP"), RGB),
    "BMP 1 bit": (saved(Image.fromarray(BITS).convert("1"), "BMP"), BITS),
    "WebP": (saved(RGB, "WEBP", lossless=True), RGB),
    "WebP RGBA": (saved(RGBA, "WEBP", lossless=True, exact=True), RGB),
    "TIFF 1 bit": (saved(Image.fromarray(BITS).convert("1"), "TIFF"), BITS),
    "TIFF fax": (saved(Image.fromarray(BITS).convert("1"), "TIFF", compression="group4"), BITS),
    "TIFF palette": (saved(PALETTE, "TIFF"), np.asarray(PALETTE.convert("RGB"))),
    "TIFF LZW": (saved(GRAY, "TIFF", compression="tiff_lzw"), GRAY),
    "TIFF 16 bit LZW": (saved(wide(GRAY), "TIFF", compression="tiff_lzw"), wide(GRAY)),
    "TIFF RGBA": (tiff(RGBA, colour=2, extra=2), RGB),
    "TIFF RGBA big-endian": (tiff(RGBA, colour=2, extra=2, order=">"), RGB),
    "TIFF RGBA, large file": (tiff(RGBA, colour=2, extra=2, big=True), RGB),
    "TIFF 16 bit RGBA": (tiff(wide(RGBA), colour=2, extra=2), wide(RGB)),
    "TIFF gray and alpha": (tiff(GRAY_ALPHA, colour=1, extra=2), GRAY),
    "TIFF 0 is white": (tiff(255 - GRAY, colour=0), GRAY),
    "TIFF 16 bit, 0 is white": (tiff(65535 - wide(GRAY), colour=0), wide(GRAY)),
    "TIFF 16 bit big-endian": (tiff(wide(RGB), colour=2, order=">"), wide(RGB)),
    "TIFF 16 bit, large file": (tiff(wide(GRAY), colour=1, big=True), wide(GRAY)),
    "TIFF by plane": (tiff(RGB, colour=2, by_plane=True), RGB),
    "TIFF strips": (tiff(RGB, colour=2, rows_per_strip=7, packed=True), RGB),
    "PGM": (saved(GRAY, "PPM"), GRAY),
    "PPM": (saved(RGB, "PPM"), RGB),
    "PBM": (saved(Image.fromarray(BITS).convert("1"), "PPM"), BITS),
    "PGM 16 bit": (saved(wide(GRAY), "PPM"), wide(GRAY)),
    "PPM 16 bit": (
        b"P6\n# a camera\n1 1 # one pixel\n65535\n\1\2\3\4\5\6",
        np.array([[[0x102, 0x304, 0x506]]], np.uint16),
    ),
    "PGM of two, and what follows": (b"P5 2 1 255\n\1\2P5 9 9 255\n", np.uint8([[1, 2]])),
    "PGM of digits": (b"P2\n3 1\n255\n0 128\n255", np.uint8([[0, 128, 255]])),
    "PPM of digits": (b"P3 1 1 255 1 2 3", np.uint8([[[1, 2, 3]]])),
    "PBM of digits": (b"P1 4 1\n0110", np.uint8([[255, 0, 0, 255]])),
    # what stands for white becomes the full scale, and nothing is lighter than white
    "PGM of 12 bits": (
        b"P5 3 1 4095\n\0\0\x0f\xff\x10\0",
        np.uint16([[0, 65535, 65535]]),
    ),
    "PPM of hundredths": (b"P6 1 1 100\n\0\x32\x64", np.uint8([[[0, 128, 255]]])),
    # 0xABC, 0x123: camera values keep their share of full scale
    "TIFF 12 bit": (
        tiff(np.zeros((1, 2), np.uint16), colour=1, bits=12, strips=[b"\xab\xc1\x23"]),
        np.array([[0xABC0, 0x1230]], np.uint16),
    ),
}


@pytest.mark.parametrize(("content", "expected"), FAITHFUL.values(), ids=FAITHFUL)
def test_every_variant_gives_the_pixels_it_stands_for(content: bytes, expected: Bits) -> None:
    assert_decodes(content, expected)


def test_jpeg_gives_gray_or_rgb() -> None:
    assert_decodes(saved(GRAY, "JPEG", quality=100), GRAY, tolerance=60)
    assert_decodes(saved(RGB, "JPEG", quality=100, subsampling=0), RGB, tolerance=60)
    assert_decodes(saved(RGB, "JPEG", progressive=True, subsampling=0), RGB, tolerance=90)


def test_jpeg_of_printing_colours_becomes_rgb() -> None:
    # no cyan, half magenta, full yellow, no black: orange
    inks = np.full((16, 16, 4), (0, 128, 255, 0), np.uint8)
    content = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)
    assert_decodes(content, np.full((16, 16, 3), (255, 127, 0), np.uint8), tolerance=4)


UPRIGHT: dict[int, Callable[[Bits], Bits]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: np.swapaxes(stored, 0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.swapaxes(stored, 0, 1)[::-1, ::-1],
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = UPRIGHT[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    for file_format in ("PNG", "WEBP"):
        assert_decodes(saved(RGB, file_format, exif=exif, lossless=True), upright(RGB))
    assert_decodes(saved(GRAY, "JPEG", exif=exif, quality=100), upright(GRAY), tolerance=60)
    assert_decodes(saved(RGBA, "TIFF", tiffinfo={274: orientation}), upright(RGB))
    assert_decodes(tiff(wide(GRAY), colour=1, tags={274: orientation}), upright(wide(GRAY)))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_taken(file_format: str) -> None:
    others = [Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    content = saved(RGB, file_format, save_all=True, append_images=others, lossless=True)
    assert_decodes(content, RGB)


def jpeg_of_bits(bits: int) -> bytes:
    content = bytearray(saved(GRAY, "JPEG"))
    content[content.index(b"\xff\xc0") + 4] = bits
    return bytes(content)


REFUSED = {
    "nothing": (b"", r"is empty \(0 bytes\)"),
    "text": (
        b"part 17 was lost",
        "is not a picture. Accepted are PNG, JPEG, BMP, TIFF, WebP, PGM and PPM",
    ),
    "text like a BMP": (b"BMW, the report of the year, in many words", "is not a picture"),
    "zeros": (bytes(500), "file of zeros"),
    "GIF": (saved(PALETTE, "GIF"), "is a GIF picture"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC file"),
    "text like a PGM": (b"P5 is the number of this part", "is not a picture"),
    "PAM": (b"P7\nWIDTH 1\nHEIGHT 1\n", "is a PAM or PFM picture"),
    "PGM without white": (b"P5 1 1 0 \1", "states 0 as the value of white; expected 1 to 65,535"),
    "PGM of more than 16 bits": (b"P2 1 1 70000 1 ", "states 70,000 as the value of white"),
    "PNG of another standard": (
        png(1, 1, bits=8, colour=0, rows=[b"\0"], extra=chunk(b"CgBI", b"")),
        "part b'CgBI' that is not in the PNG standard",
    ),
    "PNG without pixels": (
        saved(GRAY, "PNG")[:33] + chunk(b"IEND", b""),
        "damaged: it has no PNG data",
    ),
    "PNG of changed bytes": (
        saved(GRAY, "PNG")[:60] + b"????" + saved(GRAY, "PNG")[64:],
        "checksum of its part IDAT at byte 33",
    ),
    "JPEG without its end": (saved(RGB, "JPEG")[:-2] + bytes(99), "file ends before the picture"),
    "JPEG of 12 bits": (jpeg_of_bits(12), "JPEG with 12-bit values"),
    "TIFF of fractions": (saved(GRAY.astype(np.float32), "TIFF"), "32-bit floating point values"),
    "TIFF of signed numbers": (tiff(GRAY.astype(np.int16), colour=1, numbers=2), "16-bit signed"),
    "TIFF of 32 bits": (tiff(GRAY.astype(np.uint32), colour=1), "32-bit integer values"),
    "TIFF of 16 bit planes": (tiff(wide(RGB), colour=2, by_plane=True), "stored plane by plane"),
    "TIFF of 16 bit gray and alpha": (tiff(wide(GRAY_ALPHA), colour=1, extra=2), "2 channel"),
    "TIFF of five channels": (tiff(np.dstack([RGBA, GRAY]), colour=2), "5 channel"),
    "TIFF of 16 bit inks": (tiff(wide(RGBA), colour=5), "colour CMYK"),
    "TIFF of Lab": (saved(Image.fromarray(RGB).convert("LAB"), "TIFF"), "colour Lab"),
    "TIFF of wide tiles": (
        tiff(GRAY, colour=1, tags={322: 65520, 323: 65520}),
        "tiles larger than any picture",
    ),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_picture_is_refused_with_its_reason(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as raised:
        read_picture(path)
    assert str(raised.value).startswith(str(path))


def webp_canvas(side: int) -> bytes:
    size = (side - 1).to_bytes(3, "little")
    return b"RIFF" + (22).to_bytes(4, "little") + b"WEBPVP8X\x0a\0\0\0" + bytes(4) + size * 2


def jpeg_of_size(side: int) -> bytes:
    content = bytearray(saved(GRAY, "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = side.to_bytes(2, "big") * 2
    return bytes(content)


SIDE = 30_000
BOMBS = {
    "PNG": png(SIDE, SIDE, bits=8, colour=2, rows=[b""]),
    "JPEG": jpeg_of_size(SIDE),
    "BMP": saved(RGB, "BMP")[:18] + SIDE.to_bytes(4, "little") * 2 + saved(RGB, "BMP")[26:],
    "BMP upside down": saved(RGB, "BMP")[:18]
    + SIDE.to_bytes(4, "little")
    + (-SIDE).to_bytes(4, "little", signed=True)
    + saved(RGB, "BMP")[26:],
    "TIFF": tiff(GRAY, colour=1, tags={256: SIDE, 257: SIDE}),
    "WebP": webp_canvas(SIDE),
    "PGM": f"P5 {SIDE} {SIDE} 255 ".encode(),
    "nothing wide": png(0, SIDE, bits=8, colour=2, rows=[b""]),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_size_out_of_range_is_refused_before_decoding(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(InputError, match=r"claims (30,000|0) x 30,000 pixels"):
        decode_picture(content, "x")


WHOLE = {
    "PNG": saved(RGB, "PNG"),
    "PNG 16 bit": encoded(wide(RGB), ".png"),
    "PNG palette": saved(PALETTE, "PNG"),
    "JPEG": saved(RGB, "JPEG"),
    "JPEG progressive": saved(GRAY, "JPEG", progressive=True),
    "JPEG of inks": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "BMP": saved(RGB, "BMP"),
    "BMP palette": saved(PALETTE, "BMP"),
    "WebP": saved(RGB, "WEBP"),
    "WebP lossless": saved(RGBA, "WEBP", lossless=True),
    "PGM": saved(GRAY, "PPM"),
    "PPM of digits": b"P3 4 4 255 " + b"9 " * 48,
    "TIFF": tiff(RGB, colour=2),
    "TIFF 16 bit": tiff(wide(GRAY), colour=1),
    "TIFF RGBA": tiff(RGBA, colour=2, extra=2),
    "TIFF packed strips": tiff(RGB, colour=2, packed=True, rows_per_strip=4),
    "TIFF LZW": saved(GRAY, "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": saved(RGB, "TIFF", compression="jpeg"),
}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_a_file_that_is_cut_off_is_refused_and_nothing_is_printed(
    content: bytes, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    decode_picture(content, "x")
    with pytest.raises(InputError, match=r"damaged|not a picture"):
        decode_picture(content[: int(len(content) * share)], "x")
    assert capfd.readouterr() == ("", "")


NOISY = {
    # what photo editors write into healthy files, and libpng complains about
    "colour profile": png(
        *(WIDTH, HEIGHT),
        bits=8,
        colour=0,
        rows=[row.tobytes() for row in GRAY],
        extra=chunk(b"iCCP", b"ICC\0\0" + zlib.compress(b"no profile")),
    ),
    "private TIFF tag": tiff(GRAY, colour=1, tags={50838: 12}),
    "damaged comment": png(
        *(WIDTH, HEIGHT),
        bits=8,
        colour=0,
        rows=[row.tobytes() for row in GRAY],
        extra=chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    ),
}


@pytest.mark.parametrize("content", NOISY.values(), ids=NOISY)
def test_healthy_pixels_are_read_without_a_word(
    content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_decodes(content, GRAY)
    assert capfd.readouterr() == ("", "")


def test_the_log_level_of_opencv_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = threading.Barrier(2, timeout=20)
    levels = []

    def wait(*_: object) -> None:
        inside.wait()
        levels.append(pictures.quiet._get())
        inside.wait()

    monkeypatch.setattr(cv2, "imdecode", wait)
    before = pictures.quiet._get()
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(decode_picture, WHOLE["PNG"], "x") for _ in range(2)]
        assert all(isinstance(task.exception(), InputError) for task in tasks)
    assert levels == [0, 0]
    assert pictures.quiet._get() == before != 0


@given(
    st.sampled_from([*WHOLE.values(), *(content for content, _ in FAITHFUL.values())]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
@example(tiff(GRAY, colour=1, big=True), [(15, 255)], 1.0)  # a position beyond 64 bits
@settings(max_examples=300)
def test_damage_gives_a_picture_or_a_reason(
    content: bytes, changes: list[tuple[int, int]], kept: float
) -> None:
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        found = decode_picture(bytes(damaged[: int(len(damaged) * max(kept, 0.3))]), "x")
    except InputError as error:
        assert re.match(r"x (is|has|claims) .+\.$", str(error))
    else:
        assert found.dtype in (np.uint8, np.uint16)
        assert found.ndim == 2 or (found.ndim == 3 and found.shape[2] == 3)


def test_threads_read_side_by_side(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(b"" if number % 4 == 3 else saved(np.roll(RGB, number, axis=1), "PNG"))

    def read(path: Path) -> Bits | None:
        try:
            return read_picture(path)
        except InputError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, paths))
    for number, picture in enumerate(found):
        if number % 4 == 3:
            assert picture is None
        else:
            assert np.array_equal(picture, np.roll(RGB, number, axis=1))


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "x.png"
    folder.mkdir()
    with pytest.raises(InputError, match=r"x\.png is a folder"):
        read_picture(folder)
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"does not exist|cannot be read"):
        read_picture(folder / "a.png" / "b.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(tmp_path / "a\0b.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    os.mkfifo(path)
    with pytest.raises(InputError, match="device or a pipe"):
        read_picture(path)


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(WHOLE["PNG"])

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"cannot be read: Permission denied\. Check"):
        read_picture(path)


def test_a_file_too_large_to_decode_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(WHOLE["PNG"])
    monkeypatch.setattr(pictures, "MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"bytes; pictures of at most 100 are read"):
        read_picture(path)


@pytest.mark.parametrize("failure", ["python", "opencv"])
def test_a_picture_too_large_for_the_memory_is_named(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        if failure == "python":
            raise MemoryError
        error = cv2.error("Failed to allocate")
        error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(InputError, match="44 x 30 pixels, too many for the free memory"):
        decode_picture(WHOLE["PNG"], "x")


def test_the_largest_accepted_size_passes_the_header() -> None:
    header = _headers.read_header(png(13_377, 13_377, bits=8, colour=0, rows=[b""]))
    assert (header.width, header.height) == (13_377, 13_377)


def test_white_is_told_by_bit_depth_or_by_the_user() -> None:
    assert full_scale(GRAY) == full_scale(GRAY, 4095) == 255
    assert full_scale(wide(GRAY)) == 65535
    assert full_scale(wide(GRAY), 4095) == 4095
    for level in (0, -1, 65536):
        with pytest.raises(ConfigurationError, match=f"white level is {level}; expected 1"):
            full_scale(wide(GRAY), level)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
@pytest.mark.parametrize("opens", [True, False], ids=["by its name", "by its bytes"])
@pytest.mark.parametrize("stored", [GRAY, RGB], ids=["gray", "rgb"])
def test_a_large_file_is_decoded_as_a_small_one_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    opens: bool,
    stored: NDArray[np.uint8],
) -> None:
    path = tmp_path / f"part{suffix}"
    assert cv2.imwrite(str(path), stored)
    small = read_picture(path)
    monkeypatch.setattr(pictures, "_LARGE_FILE", 0)
    if not opens:
        monkeypatch.setattr(cv2, "imread", lambda *_: None)
    large = read_picture(path)
    assert large.dtype == small.dtype
    assert np.array_equal(large, small)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_picture(path)
