"""Decoding of picture files into arrays, with every way it can fail named.

What the formats carry no check sum for cannot be noticed: single bytes that changed inside a
JPEG, WebP, BMP, PGM or TIFF give other pixels. PNG and TIFF packed with Deflate have check sums,
and they are verified.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data._header import MAX_PIXELS, Header, UnsuitableError
from makellos.data._headers import kind_of, read_header
from makellos.data._tiff_header import tiff_pages
from makellos.data.threads import in_time
from makellos.errors import ConfigurationError, InputError

__all__ = [
    "LOSSY_SUFFIXES",
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "Picture",
    "begins_as_picture",
    "begins_as_tiff",
    "count_pages",
    "decode_framed",
    "decode_picture",
    "full_scale",
    "quiet",
    "read_encoded",
    "read_framed",
    "read_marks",
    "read_mask",
    "read_picture",
]

Picture = NDArray[np.uint8] | NDArray[np.uint16]

LOSSY_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
PICTURE_SUFFIXES = LOSSY_SUFFIXES | frozenset(
    {".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".pbm", ".pgm", ".ppm", ".pnm"}
)
_COPIES = ("~", ".bak", ".old", ".orig", ".tmp", ".temp", ".part", ".partial", ".crdownload")
_BEGIN = 256  # bytes by which a kind is told
MAX_BYTES = 2**31 - 1  # what OpenCV can count
_LARGE_FILE = 32 << 20  # bytes
_BAND = 256  # rows whose colours are put into order at once
# What a sound picture takes a tenth of, on a slow machine that does much else.
_SECONDS, _SECONDS_PER_MEGAPIXEL = 5.0, 0.3
# What cannot take longer than a second or two once its header is checked is not watched: to hand it
# to a thread takes longer than to decode a small picture.
_LIGHT_BYTES, _LIGHT_PIXELS = 1 << 19, 1 << 22


def read_picture(path: Path | str) -> Picture:
    """Decode a PNG, JPEG, BMP, TIFF, WebP, PGM or PPM file.

    Returns an array HxW (grey) or HxWx3 (RGB), uint8 or uint16 as stored. The EXIF orientation is
    applied, transparency is dropped, palettes are resolved, the first of several frames or pages is
    taken. TIFFs of 10, 12 or 14 bits come as uint16, shifted up to its full scale, and PGM and PPM
    in which white is another value are scaled to it. Pixels only: colour profiles and gamma are
    ignored.

    Raises `InputError` if the file is missing, empty, not a picture, damaged, of a variant that
    cannot be decoded faithfully, larger than `MAX_PIXELS` by its header or more work than a picture
    should be (checked before anything is decoded), or not decoded within 5 s plus 0.3 s per million
    pixels. Threads may call it concurrently; decoding releases the GIL.
    """
    return read_framed(Path(path))[0]


def read_framed(path: Path) -> tuple[Picture, int]:
    """Read a file as `read_picture` does; return how many frames or pages it has as well."""
    encoded = read_encoded(path)
    if len(encoded) <= _LARGE_FILE:
        return decode_framed(encoded, str(path))
    header = _header_of(encoded, str(path))
    if header.encoded is encoded:
        # The decoder reads the file itself, so that its bytes do not lie beside its pixels.
        header = replace(header, encoded=b"")
        del encoded
    return _decode_whole(header, str(path), path), header.n_frames


def begins_as_picture(path: Path) -> bool:
    """Tell whether a file begins as a picture does that is read, whatever its name says.

    Not so copies that programs keep beside a file, and TIFFs under another suffix than their own:
    cameras keep raw values in such.
    """
    if path.name.lower().endswith(_COPIES):
        return False
    kind = kind_of(_begin(path))
    return kind is not None and (kind != "TIFF" or not path.suffix)


def begins_as_tiff(path: Path) -> bool:
    """Tell whether a file begins as a TIFF does."""
    return kind_of(_begin(path)) == "TIFF"


def _begin(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(_BEGIN)
    except (OSError, ValueError):
        return b""


def read_marks(path: Path) -> NDArray[np.bool_]:
    """Return where a mask H×W or H×W×3 is not black; raises `InputError` as `read_picture` does.

    In a lossy file, where the surroundings of an edge are not quite black, above half of white.
    """
    marked = read_picture(path) > (127 if path.suffix.lower() in LOSSY_SUFFIXES else 0)
    return marked if marked.ndim == 2 else np.any(marked, axis=2)


def read_mask(mask: Path, size: tuple[int, ...], advice: str) -> NDArray[np.bool_]:
    """Read the mask H×W of a picture of `size`, True where damaged.

    Raises `InputError` with this `advice` where it has another size, or cannot be read.
    """
    marked = read_marks(mask)
    if marked.shape != size:
        raise InputError(
            f"The mask {mask} is {marked.shape[1]}x{marked.shape[0]}, but its picture is "
            f"{size[1]}x{size[0]} (width x height). {advice}"
        )
    return marked


def read_encoded(path: Path) -> bytes:
    """Return the bytes of a picture file, undecoded.

    Raises `InputError` when `path` does not exist, is no file, cannot be read, or is larger than
    2 GiB.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder, not a picture. Name the files in it.")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe could wait for ever
            raise InputError(f"{path} is a device or a pipe, not a file. Remove it.")
        if status.st_size > MAX_BYTES:
            raise InputError(
                f"{path} has {status.st_size:,} bytes; pictures of at most {MAX_BYTES:,} are read. "
                "Cut it into smaller pictures."
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the path.") from None
    except (OSError, ValueError, MemoryError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or "out of memory"
        raise InputError(
            f"{path} cannot be read: {reason}. Check its permissions and its drive."
        ) from error


def decode_picture(encoded: bytes, name: str) -> Picture:
    """Decode the bytes of a picture file; `name` stands in the messages.

    Takes, returns and raises what `read_picture` does.
    """
    return decode_framed(encoded, name)[0]


def decode_framed(encoded: bytes, name: str) -> tuple[Picture, int]:
    """Decode bytes as `decode_picture` does; return how many frames or pages they have as well."""
    header = _header_of(encoded, name)
    return _decode_whole(header, name), header.n_frames


def count_pages(encoded: bytes) -> int:
    """Return how many pages a TIFF has that can be found; 1 for other kinds of files."""
    return max(1, len(tiff_pages(encoded))) if kind_of(encoded[:_BEGIN]) == "TIFF" else 1


def _header_of(encoded: bytes, name: str) -> Header:
    try:
        return read_header(encoded)
    except UnsuitableError as error:
        raise InputError(f"{name} {error}") from None


def _decode_whole(header: Header, name: str, path: Path | None = None) -> Picture:
    """Decode what a header announces; raise `InputError` where that does not succeed."""
    pixels = header.width * header.height
    seconds = _SECONDS + _SECONDS_PER_MEGAPIXEL * pixels / 1e6
    try:
        light = 0 < len(header.encoded) <= _LIGHT_BYTES and pixels <= _LIGHT_PIXELS
        work = partial(_decode, header, path)
        picture = work() if light else in_time(work, seconds)
    except TimeoutError:
        raise InputError(
            f"{name} was not decoded within {seconds:.0f} s; {header.width:,} x "
            f"{header.height:,} pixels should take a fraction of that. Save it again, or remove it."
        ) from None
    except (cv2.error, MemoryError) as error:
        if isinstance(error, MemoryError) or error.code == cv2.Error.StsNoMem:
            raise InputError(
                f"{name} has {header.width:,} x {header.height:,} pixels, too many for the free "
                "memory. Close other programs, or cut it into smaller pictures."
            ) from None
        picture = None
    if picture is None:
        raise InputError(
            f"{name} is damaged: its header is that of a picture, but the rest cannot be decoded "
            "(a broken copy?). Copy it again or remove it."
        )
    return picture


def full_scale(picture: Picture, white_level: int | None = None) -> float:
    """Return the value that stands for white: by bit depth, or `white_level` for 16 bit pictures.

    Raises `ConfigurationError` for a white level outside 1 to 65535.

    >>> full_scale(np.zeros((2, 2), np.uint16), white_level=4095)
    4095.0
    """
    if white_level is not None and not 1 <= white_level <= 65535:
        raise ConfigurationError(
            f"The white level is {white_level}; expected 1 to 65535. Give the largest value "
            "that the camera can deliver, 4095 for 12 bits."
        )
    if picture.dtype == np.uint8:
        return 255.0
    return float(white_level or 65535)


def _decode(header: Header, path: Path | None) -> Picture | None:
    """Decode the header's bytes, or the file at `path` where they are left out."""
    flags, decoded = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR, None
    with quiet:
        if path is not None and not header.encoded:
            decoded = cv2.imread(str(path), flags)
        if decoded is None:  # some systems open no name with letters of other languages
            raw = header.encoded or (read_encoded(path) if path is not None else b"")
            decoded = cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    # Headers that announce other values are refused before; this is what they might not know.
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        return None
    picture: Picture = decoded
    if header.white not in (None, 255, 65535):
        full = int(np.iinfo(decoded.dtype).max)
        picture = np.minimum(decoded, header.white).astype(np.uint32)
        picture = ((picture * full + header.white // 2) // header.white).astype(decoded.dtype)
    if decoded.ndim == 2 and header.inverted:
        picture = cv2.bitwise_not(decoded)
    elif decoded.ndim == 3 and header.gray:
        picture = cv2.extractChannel(decoded, 0)
    elif decoded.ndim == 3:
        # Band by band and in place: a second copy of a large picture may be too much.
        for top in range(0, len(picture), _BAND):
            band = picture[top : top + _BAND]
            band[:] = cv2.cvtColor(band, cv2.COLOR_BGR2RGB)
    return picture


class _Quiet:
    """Keep OpenCV from printing to stderr while any thread is inside.

    What cannot be decoded is raised as an error; warnings about unknown TIFF tags say nothing
    about the pixels. The level that the host program chose is back when the last thread leaves.
    """

    def __init__(self) -> None:
        # OpenCV moved these functions in 4.13.
        log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
        self._get, self._set = log.getLogLevel, log.setLogLevel
        self._lock = threading.Lock()
        self._n_inside = 0
        self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_inside:
                self._level = self._get()
                self._set(0)
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                self._set(self._level)

    def forked(self) -> None:
        """Take in that this process was forked off: threads inside are not in it."""
        self._lock = threading.Lock()
        self._n_inside = 0


class _Threads:
    """Let OpenCV end its threads before a fork: a forked process has none and would wait for them.

    It stays with one; the parent has as many as before.
    """

    def __init__(self) -> None:
        self._n_threads = cv2.getNumThreads()

    def stop(self) -> None:
        self._n_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def resume(self) -> None:
        cv2.setNumThreads(self._n_threads)


quiet, _threads = _Quiet(), _Threads()
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(
        before=_threads.stop, after_in_parent=_threads.resume, after_in_child=quiet.forked
    )
