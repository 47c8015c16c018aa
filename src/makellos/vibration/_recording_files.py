"""Readers of vibration recordings, one per file format; each returns the columns that it found.

Nothing is unpickled: arrays of Python objects are refused. A damaged file raises whatever its
parser raises; `makellos.vibration.recordings` makes an `InputError` of it.
"""

from __future__ import annotations

import importlib
import io
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import InputError, MissingRuntimeError

__all__ = [
    "Column",
    "Columns",
    "read_mat",
    "read_numpy",
    "read_parquet",
    "read_text",
    "read_wav",
]

_NUMBERS = "iuf"  # dtype kinds
_RATE_NAMES = frozenset(
    {"rate", "fs", "sampling_rate", "sample_rate", "samplerate", "sampling_frequency"}
)
_UNIT_NAMES = frozenset({"unit", "units"})


@dataclass(frozen=True, kw_only=True)
class Column:
    """Hold one 1-D numeric column; `name` is empty where the file has none."""

    name: str
    values: NDArray[Any]
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Hold the columns of one file, all of one length.

    `ordered` is True where the columns have an order, so that the first may be the time although
    it is not named so. `rate` is what the file states, in Hz.
    """

    columns: list[Column]
    rate: float | None = None
    ordered: bool = False


def read_numpy(path: Path) -> Columns:
    """Read ``.npz`` and ``.npy``."""
    with path.open("rb") as stream:
        if not stream.read(6).startswith((b"PK", b"\x93NUMPY")):
            raise ValueError("it does not begin as a NumPy file does")
        stream.seek(0)
        try:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return Columns(columns=_channels("", loaded), ordered=True)
            with loaded:
                variables = {name: np.asarray(loaded[name]) for name in loaded.files}
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise InputError(
                f"{path} holds Python objects (pickle), which are never loaded because they can "
                "run code. Save plain numeric arrays."
            ) from None
    return _from_variables(variables)


def read_mat(path: Path) -> Columns:
    """Read MATLAB files, of version 5 with SciPy, of version 7.3 with h5py."""
    with path.open("rb") as stream:
        head = stream.read(520)
    signature = b"\x89HDF\r\n\x1a\n"
    if head.startswith((b"MATLAB 7.3 MAT-file", signature)) or head[512:] == signature:
        return _read_mat_hdf5(path)
    scipy_io = _package("scipy.io", "MATLAB files")
    with path.open("rb") as stream:
        try:
            loaded: dict[str, Any] = scipy_io.loadmat(stream)
        except scipy_io.matlab.MatReadError as error:
            raise ValueError(str(error)) from error
    variables = {
        name: value
        for name, value in loaded.items()
        if isinstance(value, np.ndarray) and not name.startswith("__")
    }
    return _from_variables(variables)


def _read_mat_hdf5(path: Path) -> Columns:
    h5py = _package("h5py", "MATLAB files of version 7.3")
    variables: dict[str, NDArray[Any]] = {}

    def collect(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or name.startswith("#"):
            return
        kind = item.attrs.get("MATLAB_class", b"")
        if kind == b"char":
            text = "".join(map(chr, np.ravel(item[()]).tolist()))
            variables[name] = np.array(text)
        elif item.dtype.kind in _NUMBERS and "MATLAB_empty" not in item.attrs:
            variables[name.replace("/", ".")] = np.asarray(item[()])

    with h5py.File(path, "r") as file:
        file.visititems(collect)  # follows no link, so no other file is opened
    return _from_variables(variables)


def read_parquet(path: Path) -> Columns:
    """Read Parquet; metadata may hold the rate, and the unit of each field."""
    parquet = _package("pyarrow.parquet", "Parquet files")
    with path.open("rb") as stream:
        table = parquet.ParquetFile(stream).read()
    columns = []
    for field, chunked in zip(table.schema, table.columns, strict=True):
        values: NDArray[Any] = np.asarray(chunked.to_numpy())
        if values.dtype.kind == "M":
            columns.append(Column(name="time", values=_seconds(values), unit="s"))
        elif values.dtype.kind in _NUMBERS and len(values) > 1:
            unit = (field.metadata or {}).get(b"unit")
            column = _named(field.name, values)
            columns.append(replace(column, unit=unit.decode()) if unit else column)
    stated = (table.schema.metadata or {}).items()
    rates = [float(value) for key, value in stated if key.decode().lower() in _RATE_NAMES]
    return Columns(columns=columns, rate=rates[-1] if rates else None, ordered=True)


def _seconds(stamps: NDArray[Any]) -> NDArray[np.float64]:
    valid = stamps[~np.isnat(stamps)]
    if not len(valid):
        return np.full(len(stamps), np.nan)
    elapsed: NDArray[np.float64] = (stamps - valid[0]) / np.timedelta64(1, "s")
    return elapsed


def read_wav(path: Path) -> Columns:
    """Read RIFF WAVE: PCM of 8 to 32 bits scaled to [-1, 1], float as it is."""
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it does not begin as a RIFF WAVE file does")
    chunks = dict(_chunks(content))
    if b"fmt " not in chunks or b"data" not in chunks:
        raise ValueError("the chunk fmt or data is missing")
    form = chunks[b"fmt "]
    tag, n_channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == 0xFFFE:  # extensible: the encoding stands further behind
        (tag,) = struct.unpack_from("<H", form, 24)
    samples = _wav_samples(chunks[b"data"], tag, bits)
    if not n_channels:
        raise ValueError("it states 0 channels")
    table = samples.reshape(-1, n_channels)
    columns = [Column(name="", values=channel) for channel in table.T] if len(table) > 1 else []
    return Columns(columns=columns, rate=float(rate))


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, start = memoryview(content), 12
    while start + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, start)
        start += 8
        if size == 0xFFFFFFFF:  # written to a pipe, which did not know the length
            size = len(content) - start
        if start + size > len(content):
            raise ValueError(
                f"the chunk {name.decode('latin-1')!r} should have {size:,} bytes, "
                f"{len(content) - start:,} are there"
            )
        yield name, view[start : start + size]
        start += size + size % 2


def _wav_samples(block: memoryview, tag: int, bits: int) -> NDArray[Any]:
    if tag == 3 and bits in (32, 64):
        return np.frombuffer(block, f"<f{bits // 8}")
    if tag == 1 and bits == 8:
        return (np.frombuffer(block, np.uint8) - 128.0) / 128
    if tag == 1 and bits in (16, 32):
        return np.frombuffer(block, f"<i{bits // 8}") / np.float64(2 ** (bits - 1))
    if tag == 1 and bits == 24:
        packed = np.frombuffer(block, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(packed), 4), np.uint8)
        padded[:, 1:] = packed
        return padded.view("<i4")[:, 0] / np.float64(2**31)
    raise ValueError(
        f"its encoding (format {tag}, {bits} bits) is not supported; expected PCM of 8, 16, 24 or "
        "32 bits and float of 32 or 64 bits"
    )


# Text: a header of any length, then rows of numbers.

_HEAD = 65536  # characters that are looked at to find the layout
_WITH_UNIT = re.compile(r"^(?P<name>.*?)\s*[\[(](?P<unit>[^\[\]()]*)[\])]$")
_STATED_RATE = re.compile(
    r"\b(?:sampl\w*[ _-]*(?:rate|freq\w*)|sample_?rate|fs|rate)(?:\s*[\[(](?P<before>k?)Hz[\])])?"
    r"\s*[=:;,\t ]\s*(?P<number>\d+(?:\.\d+)?)(?![.,]?\d)\s*(?P<after>k?)(?:Hz)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Rows:
    """How a row of numbers is written; a separator of None is white space."""

    separator: str | None
    decimal: str

    def fields(self, line: str) -> list[str]:
        if self.separator is None:
            return line.split()
        return [field.strip() for field in line.split(self.separator)]

    def is_data(self, line: str, n_columns: int) -> bool:
        fields = self.fields(line)
        filled = [field for field in fields if field]
        return len(fields) == n_columns and bool(filled) and all(map(self._is_number, filled))

    def _is_number(self, field: str) -> bool:
        try:
            float(field.replace(self.decimal, "."))
        except ValueError:
            return False
        return True


def read_text(path: Path) -> Columns:
    """Read columns of numbers, whatever separates them, with or without a header."""
    text = _decoded(path)
    lines = text[:_HEAD].split("\n")
    if len(text) > _HEAD:
        lines.pop()  # cut off in the middle
    rows = _rows(lines)
    filled = [line for line in lines if line.strip()]
    n_columns = len(rows.fields(filled[-1])) if filled else 0
    first = next((i for i, line in enumerate(lines) if rows.is_data(line, n_columns)), None)
    if first is None:
        raise InputError(
            f"{path} holds no rows of numbers. Expected columns of numbers, separated by "
            "commas, semicolons, tabs or spaces, with or without a line of names. Export it anew."
        )
    if first + 1 < len(lines) and _is_numbered(
        rows.fields(lines[first]), rows.fields(lines[first + 1]), rows.decimal
    ):
        first += 1
    header = [line.strip().lstrip("#%/ ") for line in lines[:first] if line.strip()]
    start = sum(len(line) + 1 for line in lines[:first])
    table = _table(path, text, start, rows, n_columns)
    columns = [
        _named(name, values)
        for name, values in zip(_names(header, rows, n_columns), table.T, strict=True)
    ]
    if len(columns) > 1 and not columns[-1].name and np.isnan(columns[-1].values).all():
        columns.pop()  # every row ends with a separator
    return Columns(
        columns=columns if len(table) > 1 else [], rate=_stated_rate(header), ordered=True
    )


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
    elif b"\0" in content:
        raise ValueError("it is binary, not text")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace('"', "") if '"' in text else text


def _rows(lines: Sequence[str]) -> _Rows:
    """Find the separator in the last lines, which are rows, and the sign of decimals."""
    last = [line.strip() for line in lines if line.strip()][-20:]
    for separator in (";", "\t"):
        if all(separator in line for line in last):
            return _Rows(separator, "," if any("," in line for line in last) else ".")
    comma = _Rows(None, ",")
    if any("," in line for line in last):
        spaced = all(comma.is_data(line, len(line.split())) for line in last)
        if spaced and all(len(line.split()) > 1 for line in last):
            return comma
        return comma if spaced and _is_one_column(lines, last) else _Rows(",", ".")
    return _Rows(None, ".")


def _is_one_column(lines: Sequence[str], last: Sequence[str]) -> bool:
    """Tell a column of decimal commas from two columns of whole numbers.

    Names without a comma above, a minus before a zero, or a fraction that begins with a zero
    give it away.
    """
    if any(line.count(",") > 1 or "." in line for line in last):
        return False
    comma = _Rows(None, ",")
    names = [line for line in lines if line.strip() and not comma.is_data(line, 1)]
    if names:
        return not any("," in name for name in names)
    return any(re.search(r"^-0,|,0\d", line) for line in last)


def _is_numbered(names: Sequence[str], row: Sequence[str], decimal: str) -> bool:
    """Say whether a row is a header that counts its columns, such as ``0,1,2`` or ``,0,1``."""
    counted = [name for name in names if name]
    return (
        len(names) > 1
        and counted == [str(i) for i in range(len(counted))]
        and all(decimal in field for field in row[-len(counted) :])
    )


def _names(header: Sequence[str], rows: _Rows, n_columns: int) -> list[str]:
    """Return the names above the columns; a line of units below them is joined to them."""
    units = [""] * n_columns
    for line in reversed(header):
        close = re.sub(r"\s+(?=[\[(])", "", line) if rows.separator is None else line
        fields = [close] if n_columns == 1 and rows.separator is None else rows.fields(close)
        if len(fields) != n_columns:
            continue
        if all(field[:1] in ("[", "(") for field in fields if field) and not any(units):
            units = fields
            continue
        return [f"{name} {unit}".strip() for name, unit in zip(fields, units, strict=True)]
    return units


def _stated_rate(header: Sequence[str]) -> float | None:
    for line in header:
        found = _STATED_RATE.search(line)
        if found:
            is_kilo = bool(found["before"] or found["after"])
            return float(found["number"]) * (1000 if is_kilo else 1)
    return None


def _table(path: Path, text: str, start: int, rows: _Rows, n_columns: int) -> NDArray[np.float64]:
    body = text[start:]
    if rows.decimal != ".":
        body = body.replace(rows.decimal, ".")
    plain = _Rows(rows.separator, ".")
    try:
        return _parsed(body, plain, n_columns)
    except ValueError:
        try:
            return _parsed(_filled(body, plain), plain, n_columns)
        except ValueError as error:
            raise _bad_row(path, text, start, rows, n_columns) or error from None


def _parsed(body: str, rows: _Rows, n_columns: int) -> NDArray[np.float64]:
    table = np.loadtxt(io.StringIO(body), comments=None, delimiter=rows.separator, ndmin=2)
    if table.shape[1] != n_columns:
        raise ValueError("rows differ in length")
    return table


def _filled(body: str, rows: _Rows) -> str:
    """Write nan into empty fields."""
    if rows.separator is None:
        return body
    sign = re.escape(rows.separator)
    return re.sub(rf"(?m)^ *(?={sign})|(?<={sign}) *(?={sign}|$)", "nan", body)


def _bad_row(path: Path, text: str, start: int, rows: _Rows, n_columns: int) -> InputError | None:
    n_before = text.count("\n", 0, start)
    for number, line in enumerate(io.StringIO(text[start:]), start=n_before + 1):
        if line.strip() and not rows.is_data(line.rstrip("\n"), n_columns):
            return InputError(
                f"{path}, line {number}: {line.strip()[:60]!r} is no row of {n_columns} "
                f"{'number' if n_columns == 1 else 'numbers'} like the others. Correct or remove "
                "the line."
            )
    return None


def _named(name: str, values: NDArray[Any]) -> Column:
    """Return a column whose unit stands in its name, as in ``acc [g]`` or ``acc (m/s2)``."""
    found = _WITH_UNIT.match(name.strip())
    if found and found["unit"].strip() and not found["unit"].strip().isdigit():
        return Column(name=found["name"].strip(), values=values, unit=found["unit"].strip())
    return Column(name=name.strip(), values=values)


def _from_variables(variables: Mapping[str, NDArray[Any]]) -> Columns:
    """Return the longest group of arrays that have one length, and the rate beside them."""
    rate: float | None = None
    unit: str | None = None
    columns: list[Column] = []
    for name, array in variables.items():
        if array.dtype.kind in _NUMBERS and array.size == 1 and name.lower() in _RATE_NAMES:
            rate = float(array.reshape(-1)[0])
        elif array.dtype.kind == "U" and array.size == 1 and name.lower() in _UNIT_NAMES:
            unit = str(array.reshape(-1)[0]).strip() or None
        elif array.dtype.kind in _NUMBERS:
            columns += _channels(name, array)
    longest = max((len(column.values) for column in columns), default=0)
    kept = [column for column in columns if len(column.values) == longest]
    if unit is not None:
        kept = [replace(column, unit=column.unit or unit) for column in kept]
    return Columns(columns=_shortened(kept), rate=rate)


def _channels(name: str, array: NDArray[Any]) -> list[Column]:
    if array.dtype.kind not in _NUMBERS or array.size < 2:
        return []
    squeezed = np.squeeze(array)
    if squeezed.ndim == 1:
        return [_named(name, squeezed)]
    if squeezed.ndim != 2:
        return []
    rows = squeezed if len(squeezed) <= squeezed.shape[1] else squeezed.T
    one = _named(name, rows)
    return [
        Column(name=f"{one.name}_{i}" if one.name else "", values=row, unit=one.unit)
        for i, row in enumerate(rows, start=1)
    ]


def _shortened(columns: Sequence[Column]) -> list[Column]:
    """Call ``X097_DE_time`` DE, as in the files of the CWRU Bearing Data Center."""
    pattern = re.compile(r"^X\d+_?(\w+?)(?:_time)?$")
    short = [pattern.sub(r"\1", column.name) for column in columns]
    times = Counter(short)
    return [
        replace(column, name=name) if times[name] == 1 else column
        for column, name in zip(columns, short, strict=True)
    ]


def _package(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingRuntimeError(
            f"{what} are read with {package}, which is not installed. Install it: "
            "pip install 'makellos[signals]'. CSV, .npz, .npy and .wav need nothing more."
        ) from None
