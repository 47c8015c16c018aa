"""Files of few bytes and much work: refused by what they say of themselves, or given up in time."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import PNG_SIGNATURE, chunk, png, tiff
from PIL import Image

from makellos.data import pictures
from makellos.data.pictures import decode_picture
from makellos.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
MANY = 12_000  # pieces; each costs the decoder as much as a piece with a content


def saved(picture: np.ndarray, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, file_format, **options)
    return stream.getvalue()


def with_scans(n_scans: int, side: int = 64) -> bytes:
    content = saved(np.full((side, side), 128, np.uint8), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * n_scans + content[-2:]


def with_chunks(kind: bytes, content: bytes, n_chunks: int) -> bytes:
    whole = png(64, 64, bits=8, colour=0, rows=[row.tobytes() for row in NOISE])
    return whole[:33] + chunk(kind, content) * n_chunks + whole[33:]


def png_of(packed: bytes, side: int = 64) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"".join(
        (PNG_SIGNATURE, chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b""))
    )


def webp(flags: int, side: int, chunks: bytes) -> bytes:
    head = bytes([flags, 0, 0, 0]) + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + head + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


JPEG = saved(NOISE, "JPEG")
SCAN = JPEG.index(b"\xff\xda")
NO_CHUNK = b"ABCD\0\0\0\0"
SPACE = zlib.compress(bytes(1 << 20))
HOSTILE = {
    "JPEG with scans": (with_scans(200), "JPEG with 101 scans or more"),
    "JPEG with segments": (JPEG[:2] + b"\xff\xe1\0\2" * MANY + JPEG[2:], "segments or more"),
    "JPEG with comments": (JPEG[:SCAN] + b"\xff\xfe\0\2" * MANY + JPEG[SCAN:], "segments or more"),
    "JPEG with tables": (JPEG[:-2] + b"\xff\xdb\0\2" * MANY + JPEG[-2:], "segments or more"),
    "JPEG that is too short for its size": (
        JPEG[: JPEG.index(b"\xff\xc0") + 5] + b"\x20\0\x20\0" + JPEG[JPEG.index(b"\xff\xc0") + 9 :],
        "file ends before the picture does",
    ),
    "JPEG in a JPEG": (JPEG[:2] + b"\xff\xd8" * MANY + JPEG[2:], "is damaged"),
    "PNG of empty pixels": (with_chunks(b"IDAT", b"", MANY), "parts or more"),
    "PNG of texts": (with_chunks(b"tEXt", b"", MANY), "parts or more"),
    "PNG of more pixels": (png_of(NOISE.tobytes() * 20), "81,920 bytes of pixels, more than 64 x"),
    "TIFF of fields": (
        tiff(NOISE, colour=1, tags=dict.fromkeys(range(40_000, 41_000), 1)),
        "1,011 fields in its header",
    ),
    "TIFF of strips": (
        tiff(np.zeros((30_000, 1), np.uint8), colour=1, rows_per_strip=1, packed=True),
        "30,000 strips or tiles or more",
    ),
    "TIFF of tiles that hide": (
        tiff(np.zeros((1, 30_000), np.uint8), colour=1, tags={322: 16, 323: 32_768}),
        "tiles larger than any picture",
    ),
    "WebP of chunks": (webp(0, 64, NO_CHUNK * MANY), "parts or more"),
    "WebP that moves": (webp(2, 13_000, b""), "animated WebP of 13,000 x 13,000 pixels"),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_much_work_in_few_bytes_is_refused_before_it_is_done(
    content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(InputError, match=reason):
        decode_picture(content, "x")


def test_scans_count_by_their_pixels() -> None:
    decode_picture(with_scans(80), "x")
    content = bytearray(with_scans(80))
    at = content.index(b"\xff\xc2") + 5
    content[at : at + 4] = struct.pack(">HH", 13_000, 13_000)
    with pytest.raises(InputError, match="JPEG with 13 scans or more"):
        decode_picture(bytes(content), "x")


PADDING = b"\xff" * 300_000
HARMLESS = {
    "JPEG padded": (JPEG[:2] + PADDING + JPEG[2:], JPEG),
    "JPEG padded before its scan": (JPEG[:SCAN] + PADDING + JPEG[SCAN:], JPEG),
    "JPEG padded at its end": (JPEG[:-2] + PADDING + JPEG[-2:], JPEG),
    "JPEG and what cameras add": (JPEG + bytes(50) + JPEG, JPEG),
    "PNG of further sizes and palettes": (
        with_chunks(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0), 1)[:58]
        + with_chunks(b"PLTE", b"\0\0\0", 3)[33:],
        with_chunks(b"IDAT", b"", 0),
    ),
    "PNG that says how it lies many times": (
        with_chunks(b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0", 50),
        with_chunks(b"IDAT", b"", 0),
    ),
    "PNG with texts that unpack to megabytes": (
        with_chunks(b"zTXt", b"a\0\0" + SPACE, 3),
        with_chunks(b"IDAT", b"", 0),
    ),
}


@pytest.mark.parametrize(("content", "plain"), HARMLESS.values(), ids=HARMLESS)
def test_what_costs_no_work_is_jumped_over_without_a_word(
    content: bytes, plain: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.perf_counter()
    assert np.array_equal(decode_picture(content, "x"), decode_picture(plain, "x"))
    assert time.perf_counter() - begun < 1
    assert capfd.readouterr() == ("", "")


def packed_tiff(*, zeros_at: slice = slice(0, 0), sum_changed: bool = False) -> bytes:
    content = bytearray(tiff(NOISE, colour=1, packed=True, rows_per_strip=16))
    content[zeros_at] = bytes(len(content[zeros_at]))
    if sum_changed:
        content[-1] ^= 1
    return bytes(content)


def test_check_sums_of_a_packed_tiff_are_compared() -> None:
    assert np.array_equal(decode_picture(packed_tiff(), "x"), NOISE)
    for damaged in (packed_tiff(zeros_at=slice(2500, 3500)), packed_tiff(sum_changed=True)):
        with pytest.raises(InputError, match="checksum of its pixels does not match"):
            decode_picture(damaged, "x")


def test_strips_that_share_their_bytes_are_not_unpacked_time_and_again() -> None:
    content = bytearray(tiff(NOISE, colour=1, packed=True, rows_per_strip=16))
    n_bytes = len(content)
    lengths = content.index(struct.pack("<HHI", 279, 4, 4)) + 8
    (at,) = struct.unpack_from("<I", content, lengths)
    struct.pack_into("<4I", content, at, *(4 * [n_bytes]))
    with pytest.raises(InputError, match="overlap"):
        decode_picture(bytes(content), "x")


def test_strips_are_unpacked_to_what_they_hold_and_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unpacked: list[int] = []
    unpack = zlib.decompressobj

    class Counting:
        def __init__(self) -> None:
            self._real = unpack()

        def decompress(self, packed: bytes, most: int) -> bytes:
            found = self._real.decompress(packed, most)
            unpacked.append(len(found))
            return found

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    rows = np.zeros((400, 16), np.uint8)
    bombs = [zlib.compress(bytes(1 << 20))] * 100
    content = tiff(rows, colour=1, rows_per_strip=4, strips=bombs, tags={259: 8})
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    assert decode_picture(content, "x").shape == (400, 16)
    assert len(unpacked) == 100
    assert sum(unpacked) < 3 * rows.size + 100 * 64


def test_a_picture_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: stop.wait(20))
    monkeypatch.setattr(pictures, "_SECONDS", 0.1)
    monkeypatch.setattr(pictures, "_LIGHT_BYTES", 0)
    begun = time.perf_counter()
    with pytest.raises(InputError, match="not decoded within 0 s; 64 x 64 pixels should take"):
        decode_picture(JPEG, "x")
    assert time.perf_counter() - begun < 5
    stop.set()


def test_a_decoder_that_hangs_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(JPEG)
    program = (
        "import sys, time, cv2\n"
        "from makellos.data import pictures\n"
        "pictures._SECONDS, pictures._LIGHT_BYTES = 0.1, 0\n"
        "cv2.imdecode = lambda *_: time.sleep(300)\n"
        "try:\n"
        "    pictures.read_picture(pictures.Path('x.jpg'))\n"
        "except pictures.InputError:\n"
        "    sys.exit(7)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == 7


def test_decoding_goes_on_where_there_are_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(pictures, "_LIGHT_BYTES", 0)
    assert decode_picture(JPEG, "x").shape == (64, 64)


def test_the_work_of_light_files_is_bounded_without_a_clock() -> None:
    # as much as can be packed behind the pixels of a file that is not watched
    raw = np.random.default_rng(0).integers(0, 256, (600, 701), np.uint8)
    raw[:, 0] = 0
    pack = zlib.compressobj()
    packed = pack.compress(raw.tobytes())
    while len(packed) < 480_000:
        packed += pack.compress(bytes(1 << 20))
    packed += pack.flush()
    header = struct.pack(">IIBBBBB", 700, 600, 8, 0, 0, 0, 0)
    content = b"".join(
        (PNG_SIGNATURE, chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b""))
    )
    assert len(content) < pictures._LIGHT_BYTES
    begun = time.perf_counter()
    assert np.array_equal(decode_picture(content, "x"), raw[:, 1:])
    assert time.perf_counter() - begun < 5
