"""Readers of vibration recordings, one per binary format; each returns the columns that it found.

Nothing is unpickled: arrays of Python objects are refused. A damaged file raises whatever its
parser raises; `makellos.vibration.recordings` makes an `InputError` of it. What a file states of
its size is compared with what is read before anything is.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from makellos.data.numpy_files import check_directory, read_header, read_values
from makellos.errors import InputError
from makellos.vibration._columns import (
    MAX_SAMPLES,
    NUMBERS,
    RATE_NAMES,
    Array,
    Column,
    Columns,
    called_by_name,
    check_size,
    from_array,
    from_variables,
    named,
)
from makellos.vibration._matlab_files import read_matlab
from makellos.vibration._reader_process import READER

__all__ = [
    "WavForm",
    "read_mat",
    "read_numpy",
    "read_parquet",
    "read_wav",
    "read_wav_form",
    "wav_samples",
]

_MOST_CHUNKS = 1000
_MOST_LETTERS = 1000
_MOST_FORM = 1 << 12
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_numpy(path: Path) -> Columns:
    """Read ``.npz`` and ``.npy``."""
    with path.open("rb") as stream:
        start = stream.read(6)
        stream.seek(0)
        if start == b"\x93NUMPY":
            array = _array(path, stream, MAX_SAMPLES)
            return Columns(columns=[]) if array is None else from_array(path, array)
        if not start.startswith(b"PK"):
            raise ValueError("it does not begin as a NumPy file does")
        check_directory(stream)
        variables: dict[str, Array] = {}
        left = MAX_SAMPLES
        with zipfile.ZipFile(stream) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    array = _array(path, member, left)
                if array is not None:
                    left -= array.size
                    variables[name.removesuffix(".npy")] = array
    return from_variables(path, variables)


def _array(path: Path, stream: IO[bytes], most: int) -> Array | None:
    """Return the numbers, or the short text, of an array of at most two axes; None for others.

    Raises `InputError` for Python objects, and where it has more than `most` elements.
    """
    shape, is_fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise InputError(
            f"{path} holds Python objects (pickle), which are never loaded because they can "
            "run code. Save plain numeric arrays."
        )
    n, n_axes = math.prod(shape), sum(length != 1 for length in shape)
    if dtype.kind == "U" and n == 1 and dtype.itemsize <= 4 * _MOST_LETTERS:
        return read_values(stream, 1, dtype).reshape(())
    if dtype.kind not in NUMBERS or n_axes > 2 or min(shape, default=1) < 1:
        return None
    check_size(path, MAX_SAMPLES - most + n)
    return read_values(stream, n, dtype).reshape(shape, order="F" if is_fortran else "C")


def read_mat(path: Path) -> Columns:
    """Read MATLAB files: of version 7.3, which are HDF5, in a process of their own."""
    with path.open("rb") as stream:
        head = stream.read(520)
    if not (head.startswith((b"MATLAB 7.3 MAT-file", _HDF5)) or head[512:] == _HDF5):
        return read_matlab(path)
    answer = READER.read("hdf5", path)
    variables = {each.name: each.values for each in answer.columns}
    return from_variables(path, variables, called_by_name(variables))


def read_parquet(path: Path) -> Columns:
    """Read Parquet, in a process of its own; metadata may hold the rate, and units of fields."""
    answer = READER.read("parquet", path)
    columns = []
    for each in answer.columns:
        column = named(each.name, each.values)
        columns.append(replace(column, unit=each.unit) if each.unit else column)
    stated = {key.lower(): value for key, value in answer.facts.items()}
    rate = next((float(stated[name]) for name in RATE_NAMES if name in stated), None)
    return Columns(columns=columns, rate=rate, ordered=True)


@dataclass(frozen=True)
class WavForm:
    """Say how samples lie in a RIFF WAVE file: from byte `start` on, `n_bytes` of them."""

    tag: int
    n_channels: int
    rate: int
    bits: int
    start: int
    n_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of all channels."""
        return self.n_channels * (self.bits // 8)


def read_wav(path: Path) -> Columns:
    """Read RIFF WAVE: PCM of 8 to 32 bits scaled to [-1, 1], float as it is."""
    with path.open("rb") as stream:
        form = read_wav_form(stream)
        if not form.n_channels:
            raise ValueError("it states 0 channels")
        check_size(path, form.n_bytes * 8 // max(form.bits, 1), form.n_channels)
        stream.seek(form.start)
        data = memoryview(stream.read(form.n_bytes))
    table = wav_samples(data, form.tag, form.bits).reshape(-1, form.n_channels)
    columns = [Column(name="", values=channel) for channel in table.T] if len(table) > 1 else []
    return Columns(columns=columns, rate=float(form.rate))


def read_wav_form(stream: IO[bytes]) -> WavForm:
    """Read the head of a RIFF WAVE file; raises `ValueError` or `struct.error` for any other."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise ValueError("it does not begin as a RIFF WAVE file does")
    form, data = b"", None
    for name, start, length in _chunks(stream, size):
        if name == b"fmt " and not form:
            stream.seek(start)
            form = stream.read(min(length, _MOST_FORM))
        if name == b"data" and data is None:
            data = start, length
        if form and data is not None:
            break
    else:
        raise ValueError("the chunk fmt or data is missing")
    tag, n_channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == 0xFFFE:  # extensible: the encoding stands further behind
        (tag,) = struct.unpack_from("<H", form, 24)
    return WavForm(tag, n_channels, rate, bits, *data)


def _chunks(stream: IO[bytes], end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, where what it holds starts, and its bytes."""
    start = 12
    for _ in range(_MOST_CHUNKS):
        if start + 8 > end:
            return
        stream.seek(start)
        name, size = struct.unpack("<4sI", stream.read(8))
        start += 8
        if size == 0xFFFFFFFF:  # written to a pipe, which did not know the length
            size = end - start
        if start + size > end:
            raise ValueError(
                f"the chunk {name.decode('latin-1')!r} should have {size:,} bytes, "
                f"{end - start:,} are there"
            )
        yield name, start, size
        start += size + size % 2
    raise ValueError(f"it has more than {_MOST_CHUNKS:,} chunks")


def wav_samples(block: memoryview, tag: int, bits: int) -> NDArray[np.floating]:
    """Return the samples in bytes of an encoding; raises `ValueError` for one that is unknown."""
    if tag == 3 and bits in (32, 64):
        return np.frombuffer(block, f"<f{bits // 8}")
    if tag == 1 and bits == 8:
        return np.frombuffer(block, np.uint8).astype(np.float32) / 128 - 1
    if tag == 1 and bits in (16, 32):
        whole = np.frombuffer(block, f"<i{bits // 8}")
        return whole.astype(np.float32) / np.float32(2 ** (bits - 1))
    if tag == 1 and bits == 24:
        packed = np.frombuffer(block, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(packed), 4), np.uint8)
        padded[:, 1:] = packed
        return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    raise ValueError(
        f"its encoding (format {tag}, {bits} bits) is not supported; expected PCM of 8, 16, 24 or "
        "32 bits and float of 32 or 64 bits"
    )
