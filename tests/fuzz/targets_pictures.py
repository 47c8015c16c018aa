"""Pictures, each kind by itself, and their headers without a decoder."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image
from target import Target

from makellos.data.pictures import decode_picture

_DRAW = np.random.default_rng(0)
_NOISE = _DRAW.integers(0, 256, (12, 17, 3), np.uint8)
_GRAY = _NOISE[..., 0]
_WIDE = _GRAY.astype(np.uint16) * 257
_FLAT = np.full((40, 40, 3), 90, np.uint8)


def _saved(picture: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _read(data: bytes) -> None:
    picture = decode_picture(data, "x")
    assert picture.dtype in (np.uint8, np.uint16)
    assert picture.ndim == 2 or picture.shape[2] == 3


def _read_png(data: bytes) -> None:
    """Read a PNG whose check sums are put right first: hardly a change would get past them."""
    pieces, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        pieces += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    _read(b"".join(pieces))


def _png() -> list[bytes]:
    palette = Image.fromarray(_NOISE).quantize(16)
    several = {"save_all": True, "append_images": [Image.fromarray(_NOISE)]}
    kinds = [_NOISE, _GRAY, _WIDE, palette, np.dstack([_NOISE, _GRAY])]
    return [*(_saved(kind, "PNG") for kind in kinds), _saved(_FLAT, "PNG", **several)]


def _jpeg() -> list[bytes]:
    exif = Image.Exif()
    exif[0x112] = 6
    return [
        _saved(_NOISE, "JPEG", exif=exif),
        _saved(_NOISE, "JPEG", progressive=True),
        _saved(_GRAY, "JPEG", optimize=True, restart_marker_blocks=1),
        _saved(Image.fromarray(_FLAT).convert("CMYK"), "JPEG"),
    ]


def _tiff() -> list[bytes]:
    packings = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    several = {"save_all": True, "append_images": [Image.fromarray(_FLAT)]}
    return [
        *(_saved(_NOISE, "TIFF", compression=packing) for packing in packings),
        _saved(_WIDE, "TIFF", compression="tiff_adobe_deflate"),
        _saved(_GRAY, "TIFF", tiffinfo={278: 3}, big_tiff=True),
        _saved(Image.fromarray(_GRAY).convert("1"), "TIFF", compression="group4"),
        _saved(_FLAT, "TIFF", **several),
    ]


def _webp() -> list[bytes]:
    several = {"save_all": True, "append_images": [Image.fromarray(255 - _FLAT)]}
    return [
        _saved(_NOISE, "WEBP"),
        _saved(np.dstack([_NOISE, _GRAY]), "WEBP", lossless=True),
        _saved(_FLAT, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", **several),
    ]


def _bmp() -> list[bytes]:
    one = Image.fromarray(_GRAY).convert("1")
    return [_saved(kind, "BMP") for kind in (_NOISE, _GRAY, np.dstack([_NOISE, _GRAY]), one)]


def _pnm() -> list[bytes]:
    one = Image.fromarray(_GRAY).convert("1")
    digits = b"P3\n# a camera\n3 1\n4095\n" + b"17 " * 9
    return [*(_saved(kind, "PPM") for kind in (_NOISE, _GRAY, _WIDE, one)), digits, b"P1 2 1 0 1"]


TARGETS = [
    Target("png", _read_png, _png, (b"IDAT", b"IHDR", b"PLTE", b"eXIf", b"fdAT", b"acTL")),
    Target("jpeg", _read, _jpeg, (b"\xff\xda", b"\xff\xc2", b"\xff\xd9", b"\xff\xc4", b"\xff\xdd")),
    Target("tiff", _read, _tiff, (b"\x42\x01\x04\0", b"\x17\x01\x04\0", b"\x16\x01\x04\0")),
    Target("webp", _read, _webp, (b"VP8X", b"VP8L", b"VP8 ", b"ALPH", b"ANMF", b"EXIF")),
    Target("bmp", _read, _bmp, (b"\x01\0\0\0", b"\x02\0\0\0", b"\x03\0\0\0")),
    Target("pnm", _read, _pnm, (b"P5 ", b"P2 ", b"#", b"65535", b"999999999")),
]
