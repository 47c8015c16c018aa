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
FAITHFUL = {
    "PNG RGBA": (saved(RGBA, "PNG"), RGB),
    "PNG gray and alpha": (saved(GRAY_ALPHA, "PNG"), GRAY),
    "PNG 16 bit RGBA": (encoded(wide(RGBA[..., [2, 1, 0, 3]])[..., ::-1][..., [1, 2, 3, 0]], ".png"), None),
    "PNG 16 bit gray and alpha": (
        png(WIDTH, HEIGHT, bits=16, colour=4, rows=[r.astype(">u2").tobytes() for r in wide(GRAY_ALPHA)]),
        wide(GRAY),
    ),
}
