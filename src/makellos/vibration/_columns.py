"""Columns of numbers as files hold them: what of them is a channel, a rate, a unit or a speed."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import InputError, MissingRuntimeError, adding

__all__ = [
    "MAX_BYTES",
    "MAX_CHANNELS",
    "MAX_SAMPLES",
    "NUMBERS",
    "RATE_NAMES",
    "Array",
    "Column",
    "Columns",
    "called_by_name",
    "check_size",
    "from_array",
    "from_variables",
    "named",
    "package",
]

MAX_SAMPLES = 1 << 26  # of all channels together: 23 minutes of one at 48 kHz
MAX_CHANNELS = 1024
MAX_BYTES = 1 << 30  # of a file
NUMBERS = "iuf"  # dtype kinds
RATE_NAMES = (  # the last one may mean a speed, where another is there
    *("sampling_rate", "sample_rate", "samplerate", "samplingrate"),
    *("sampling_frequency", "sample_frequency", "fs", "sr", "rate"),
)
Array = NDArray[Any]
_UNIT_NAMES = frozenset({"unit", "units"})
_RPM_NAME = re.compile(r"^(?:x\d+_?|shaft_?|motor_?|speed_?)?rpm$", re.IGNORECASE)
_MANY_CHANNELS = 32  # more are seldom recorded, and rather rows of something else
_WITH_UNIT = re.compile(r"^(?P<name>.*?)\s*[\[(](?P<unit>[^\[\]()]*)[\])]$")
_FIELD_NAME = re.compile(r"^.*?((?:(?<![^.])X\.)?[^.]*)$")  # without structures; X holds the times
_CWRU_NAME = re.compile(r"^X\d+_?(\w+?)(?:_time)?$")


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
    it is not named so. `rate` in Hz and `rpm`, turns per minute, are what the file states. `notes`
    say what about the file may not be as it was meant.
    """

    columns: list[Column]
    rate: float | None = None
    ordered: bool = False
    rpm: float | None = None
    notes: tuple[str, ...] = ()


def check_size(path: Path, n_samples: int, n_channels: int = 1) -> None:
    """Raise `InputError` for more samples, of all channels together, or channels than are read."""
    if n_channels > MAX_CHANNELS:
        raise InputError(
            f"{path} has {n_channels:,} channels; at most {MAX_CHANNELS:,} are read. If each of "
            "them is a recording of its own, save them as so many files."
        )
    if n_samples > MAX_SAMPLES:
        raise InputError(
            f"{path} holds {n_samples:,} samples; at most {MAX_SAMPLES:,} are read, of all "
            "channels together. Cut it into shorter recordings."
        )


def named(name: str, values: NDArray[Any]) -> Column:
    """Return a column whose unit stands in its name, as in ``acc [g]`` or ``acc (m/s2)``."""
    found = _WITH_UNIT.match(name.strip())
    if found and found["unit"].strip() and not found["unit"].strip().isdigit():
        return Column(name=found["name"].strip(), values=values, unit=found["unit"].strip())
    return Column(name=name.strip(), values=values)


def from_variables(
    path: Path, variables: Mapping[str, NDArray[Any]], units: Mapping[str, str] | None = None
) -> Columns:
    """Return the longest group of arrays that have one length, and rate and speed beside them.

    Names of fields have dots before them. `units` are those of single arrays.
    """
    rates: dict[str, float] = {}
    speeds: set[float] = set()
    unit: str | None = None
    tables: list[Column] = []
    for name, array in variables.items():
        last = name.rpartition(".")[2]
        is_number, is_one = array.dtype.kind in NUMBERS, array.size == 1
        if is_number and is_one and last.lower() in RATE_NAMES:
            rates[last.lower()] = float(array.reshape(-1)[0])
        elif is_number and is_one and _RPM_NAME.match(last):
            speeds.add(float(array.reshape(-1)[0]))
        elif array.dtype.kind == "U" and is_one and name.lower() in _UNIT_NAMES:
            unit = str(array.reshape(-1)[0]).strip() or None
        elif is_number and (rows := _rows(array)) is not None:
            one = named(name, rows)
            tables.append(replace(one, unit=one.unit or (units or {}).get(name)))
    longest = max((table.values.shape[1] for table in tables), default=0)
    kept = [replace(table, unit=table.unit or unit) for table in tables]
    kept = [table for table in kept if table.values.shape[1] == longest]
    return Columns(
        columns=_shortened(_divided(path, kept)),
        rate=next((rates[name] for name in RATE_NAMES if name in rates), None),
        rpm=speeds.pop() if len(speeds) == 1 else None,
        notes=tuple(filter(None, map(_doubt, kept))),
    )


def from_array(path: Path, array: NDArray[Any]) -> Columns:
    """Return the channels of one array: of a 2-D one those along its shorter axis."""
    rows = _rows(array) if array.dtype.kind in NUMBERS else None
    if rows is None:
        return Columns(columns=[])
    table = Column(name="", values=rows)
    notes = tuple(filter(None, [_doubt(table)]))
    return Columns(columns=_divided(path, [table]), ordered=True, notes=notes)


def called_by_name(variables: dict[str, Array]) -> dict[str, str]:
    """Rename the data of structures that have a name beside them, and return their units.

    Of ``Y(3).Data``, ``Y(3).Name`` (a text) and ``Y(3).Unit`` the data become ``Y.<that name>``, as
    in the files of Paderborn.
    """
    units: dict[str, str] = {}
    for key in [key for key in variables if key.endswith(".Name")]:
        label, own = key.removesuffix(".Name"), variables[key]
        called = f"{re.sub(r'[(][0-9]+[)]$', '', label)}.{str(own).strip().replace('.', '_')}"
        if own.dtype.kind != "U" or f"{label}.Data" not in variables or called in variables:
            continue
        variables[called] = variables.pop(f"{label}.Data")
        unit = variables.get(f"{label}.Unit")
        if unit is not None and unit.dtype.kind == "U" and str(unit).strip():
            units[called] = str(unit).strip()
    return units


def _rows(array: NDArray[Any]) -> NDArray[Any] | None:
    """Return the channels C×N of an array, None where it has too few or too many axes."""
    squeezed = np.squeeze(array)
    if array.size < 2 or squeezed.ndim > 2:
        return None
    if squeezed.ndim == 1:
        return squeezed[np.newaxis]
    return squeezed if len(squeezed) <= squeezed.shape[1] else squeezed.T


def _divided(path: Path, tables: Sequence[Column]) -> list[Column]:
    n_channels = sum(len(table.values) for table in tables)
    check_size(path, sum(table.values.size for table in tables), n_channels)
    columns: list[Column] = []
    for table in tables:
        if len(table.values) == 1:
            columns.append(replace(table, values=table.values[0]))
            continue
        columns += [
            replace(table, name=f"{table.name}_{i}" if table.name else "", values=row)
            for i, row in enumerate(table.values, start=1)
        ]
    return columns


def _doubt(table: Column) -> str | None:
    """Say where the rows of a table are more likely recordings than channels."""
    n_channels, n_samples = table.values.shape
    if n_channels <= _MANY_CHANNELS:
        return None
    name = f"{table.name!r} " if table.name else ""
    return (
        f"The array {name}of {n_channels:,} x {n_samples:,} numbers is read as {n_channels:,} "
        f"channels of {n_samples:,} samples. So many channels are unusual: if they are recordings "
        "or windows, save each as a file of its own."
    )


def _shortened(columns: Sequence[Column]) -> list[Column]:
    """Name columns without what they lie in, where no two are then called the same.

    ``X097_DE_time`` is DE, as in the files of the CWRU Bearing Data Center.
    """
    for pattern in (_FIELD_NAME, _CWRU_NAME):
        names = [pattern.sub(r"\1", column.name) for column in columns]
        times = Counter(names)
        columns = [
            replace(column, name=name) if times[name] == 1 else column
            for column, name in zip(columns, names, strict=True)
        ]
    return list(columns)


def package(name: str, what: str) -> ModuleType:
    """Import a package that reads `what`; raises `MissingRuntimeError` where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        top = name.partition(".")[0]
        raise MissingRuntimeError(
            f"{what} are read with {top}, which is not installed. Install it: "
            f"{adding('signals')}. CSV, .mat of version 5, .npz, .npy and .wav need "
            "nothing more."
        ) from None
