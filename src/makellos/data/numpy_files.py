"""NumPy files: which arrays they hold, and their values, mapped where they lie as they are.

Nothing is unpickled. What a file states of its size is compared with what is there before any
memory is taken.
"""

from __future__ import annotations

import math
import struct
import threading
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from makellos.data.files import check_file
from makellos.errors import InputError

__all__ = [
    "DAMAGE",
    "NUMPY_SUFFIXES",
    "StoredArray",
    "check_directory",
    "read_header",
    "read_values",
    "stored_arrays",
]

NUMPY_SUFFIXES = frozenset({".npz", ".npy"})
_MOST_MEMBERS = 1000  # of an archive
_MOST_UNPACKED = 4 << 30  # bytes of an array that has to be unpacked into memory
_SMALL = 64 << 20  # bytes; up to here an array is read whole, and its check sum verified
_LOCAL_HEADER = 30  # bytes, before the name of a member
_PLAIN = "Save it with np.save or np.savez, which are read piece by piece."
_ADVICE = "Give a .npz or .npy file that NumPy wrote."
# What parsers raise on bytes that are not what they should be.
DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_reading = threading.Lock()


@dataclass(frozen=True)
class StoredArray:
    """Name an array in a file; `key` is empty in a ``.npy`` file.

    `offset` is where its values begin in the file, None where they have to be unpacked; `stamp`,
    time and size, tells a file from one that took its place.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    offset: int | None
    stamp: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < 0:
            raise ValueError(f"an array has the shape {self.shape}")

    def __str__(self) -> str:
        return f"{self.path.name}[{self.key}]" if self.key else self.path.name

    @property
    def described(self) -> str:
        """Return key, shape and type in words, such as ``x_train: 60000x28x28 uint8``."""
        shape = "x".join(map(str, self.shape)) or "one value"
        kind = "Python objects" if self.dtype.hasobject else str(self.dtype)
        return f"{self.key or self.path.name}: {shape} {kind}"

    def values(self) -> NDArray[Any]:
        """Return the array, read once and kept; raises `InputError` for a damaged file."""
        if self.dtype.hasobject:
            raise InputError(
                f"{self} holds Python objects (pickle), which are never loaded because they can "
                "run code. Save plain arrays: np.stack(pictures), or labels as np.array(labels, "
                "dtype=str)."
            )
        with _reading:  # else two threads would read it at once
            return _values(self)


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """Return the arrays in a ``.npz`` or ``.npy`` file by key, from their headers alone.

    Raises `InputError` for a file that cannot be read, or is none of these.
    """
    check_file(path, InputError, _ADVICE)
    try:
        status = path.stat()
        return _headers(path, (status.st_mtime_ns, status.st_size))
    except DAMAGE as error:
        raise _damaged(path, error) from error


@lru_cache(maxsize=16)
def _headers(path: Path, stamp: tuple[int, int]) -> dict[str, StoredArray]:
    size = stamp[1]
    with path.open("rb") as stream:
        start = stream.read(6)
        stream.seek(0)
        if start == b"\x93NUMPY":
            shape, is_fortran, dtype = read_header(stream)
            n_bytes = 0 if dtype.hasobject else math.prod(shape) * dtype.itemsize
            if stream.tell() + n_bytes > size:
                raise ValueError("it is cut short")
            return {"": StoredArray(path, "", shape, dtype, is_fortran, stream.tell(), stamp)}
        if not start.startswith(b"PK"):
            raise ValueError("it does not begin as a NumPy file does")
        check_directory(stream)
        found = {}
        with zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                array = _member(path, stamp, stream, archive, member)
                found[array.key] = array
        return found


def _member(
    path: Path,
    stamp: tuple[int, int],
    stream: IO[bytes],
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
) -> StoredArray:
    key = member.filename.removesuffix(".npy")
    with archive.open(member) as opened:
        shape, is_fortran, dtype = read_header(opened)
        at = opened.tell()
    n_bytes = math.prod(shape) * dtype.itemsize
    held = member.file_size - at
    if not dtype.hasobject and n_bytes != held:
        raise ValueError(f"{key} should have {n_bytes:,} bytes, {held:,} are there")
    offset = None
    if member.compress_type == zipfile.ZIP_STORED and n_bytes > _SMALL:
        stream.seek(member.header_offset)
        n_name, n_extra = struct.unpack_from("<HH", stream.read(_LOCAL_HEADER), 26)
        offset = member.header_offset + _LOCAL_HEADER + n_name + n_extra + at
    return StoredArray(path, key, shape, dtype, is_fortran, offset, stamp)


@lru_cache(maxsize=8)
def _values(array: StoredArray) -> NDArray[Any]:
    n = math.prod(array.shape)
    n_bytes = n * array.dtype.itemsize
    if array.offset is None and n_bytes > _MOST_UNPACKED:
        raise InputError(
            f"{array} unpacks to {n_bytes:,} bytes; the limit is {_MOST_UNPACKED:,}. {_PLAIN}"
        )
    try:
        return _mapped(array) if array.offset is not None and n else _unpacked(array, n)
    except MemoryError:
        raise InputError(
            f"{array} has {n_bytes:,} bytes, too many for the free memory. {_PLAIN}"
        ) from None
    except DAMAGE as error:
        raise _damaged(array.path, error) from error


def _mapped(array: StoredArray) -> NDArray[Any]:
    order: Literal["F", "C"] = "F" if array.is_fortran else "C"
    return np.memmap(array.path, array.dtype, "r", array.offset or 0, array.shape, order)


def _unpacked(array: StoredArray, n: int) -> NDArray[Any]:
    if not n:
        return np.empty(array.shape, array.dtype)
    with zipfile.ZipFile(array.path) as archive, archive.open(f"{array.key}.npy") as opened:
        read_header(opened)
        values = read_values(opened, n, array.dtype)
        opened.read(1)  # at the end the check sum is compared
    return values.reshape(array.shape, order="F" if array.is_fortran else "C")


def check_directory(stream: IO[bytes]) -> None:
    """Raise `ValueError` for an archive whose list of members alone would fill the memory."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 16) - 22))
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 20 > len(tail):
        raise ValueError("the end of the archive is missing")
    n_members, n_bytes = struct.unpack_from("<HI", tail, at + 10)
    if n_members > _MOST_MEMBERS or n_bytes > 1 << 20:
        raise ValueError(f"it lists more than {_MOST_MEMBERS:,} arrays")


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis runs fastest, and type; raises `ValueError`."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array has the format version {version}")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    return shape, is_fortran, dtype


def read_values(stream: IO[bytes], n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `n` values, read piece by piece, so that no second copy lies beside them."""
    values = np.empty(n, dtype)
    target, done = values.view(np.uint8).data, 0
    while done < len(target):
        piece = stream.read(min(1 << 20, len(target) - done))
        if not piece:
            raise ValueError(f"an array should have {len(target):,} bytes, {done:,} are there")
        target[done : done + len(piece)] = piece
        done += len(piece)
    return values


def _damaged(path: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path} cannot be read as a NumPy file: {text}. {_ADVICE}")
