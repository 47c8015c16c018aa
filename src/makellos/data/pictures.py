"""Decoding of picture files into arrays, with every way it can fail named."""

from __future__ import annotations

import os
import threading
import warnings
from io import BytesIO
from pathlib import Path

# OpenCV prints to stderr what it cannot decode; the reason is raised as an error here instead.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from makellos.errors import InputError

__all__ = ["PICTURE_SUFFIXES", "Picture", "full_scale", "read_picture"]

Picture = NDArray[np.uint8] | NDArray[np.uint16]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970  # what Pillow takes for a decompression bomb: 13,377 x 13,377
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_header_lock = threading.Lock()


def read_picture(path: Path) -> Picture:
    """Decode a PNG, JPEG, BMP, TIFF or WebP file.

    Returns an array H×W (gray) or H×W×3 (RGB), uint8 or uint16 as stored. The EXIF orientation
    is applied, transparency is dropped, palettes are resolved.

    Raises `InputError` when the file is missing, empty, no picture, damaged, or larger than
    `MAX_PIXELS` by its header (checked before anything is decoded).
    """
    try:
        encoded = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    _check_header(encoded, path)
    try:
        flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(
            f"{path} is damaged: its header is that of a picture, but the rest cannot be decoded "
            "(a broken copy?). Copy it again or remove it."
        )
    if decoded.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{path} holds {decoded.dtype} values; accepted are 8 and 16 bit integers. "
            "Save it as an 8 or 16 bit PNG or TIFF."
        )
    if decoded.ndim == 2:
        return decoded
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def full_scale(picture: Picture, white_level: int | None = None) -> float:
    """Return the value that stands for white: by bit depth, or `white_level` for 16 bit pictures.

    >>> full_scale(np.zeros((2, 2), np.uint16), white_level=4095)
    4095.0
    """
    if picture.dtype == np.uint8:
        return 255.0
    return float(white_level or 65535)


def _check_header(encoded: bytes, path: Path) -> None:
    if not encoded:
        raise InputError(f"{path} is empty (0 bytes). Copy it again or remove it.")
    try:
        # Pillow reads the header alone; its own warning about size is turned into our limit.
        with _header_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(encoded), formats=_FORMATS) as header:
                width, height = header.size
    except Image.DecompressionBombError:
        raise InputError(
            f"{path} claims more than {MAX_PIXELS:,} pixels in its header and was not decoded "
            "(a decompression bomb?). Cut it into smaller pictures."
        ) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise InputError(
            f"{path} is not a picture. Accepted are PNG, JPEG, BMP, TIFF and WebP, judged by "
            "content and not by name. Remove it or save it as one of these."
        ) from None
    if width * height > MAX_PIXELS or min(width, height) < 1:
        raise InputError(f"{path} has {width}x{height} pixels; at most {MAX_PIXELS:,} are read.")
