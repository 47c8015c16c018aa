"""The process that reads HDF5 and Parquet with their libraries, for another."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from makellos.errors import InputError, MissingRuntimeError
from makellos.vibration._columns import (
    MAX_CHANNELS,
    MAX_SAMPLES,
    NUMBERS,
    RATE_NAMES,
    Array,
    Column,
    check_size,
    package,
)
from makellos.vibration._reader_process import MEMORY, Answer, received, send

__all__ = ["serve"]

_MOST_ITEMS = 10_000  # of a file in HDF5
_MOST_LETTERS = 10_000
_MOST_CHUNK = 1 << 28  # bytes


def serve() -> None:
    """Answer on standard output what is asked for on standard input, until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is meant for the other process
    _limit_memory()
    asking, answering = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that no library writes between the answers
    while True:
        try:
            asked = received(asking)
        except EOFError:
            return
        try:
            answer = {"hdf5": _hdf5, "parquet": _parquet}[asked["kind"]](Path(asked["path"]))
            arrays = [_described(each) for each in answer.columns]
        except (InputError, MissingRuntimeError, MemoryError) as error:
            send(answering, {"error": type(error).__name__, "text": str(error)})
            continue
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of a parser
            text = " ".join(str(error).split())[:400] or type(error).__name__
            send(answering, {"error": "damage", "text": text})
            continue
        send(answering, {"arrays": arrays, "facts": answer.facts})
        for each in answer.columns:
            answering.write(np.ascontiguousarray(each.values).reshape(-1).view(np.uint8).data)
        answering.flush()


def _limit_memory() -> None:
    """Let what fills the memory fail in this process, where the system can do that."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def _described(column: Column) -> tuple[str, str | None, str, tuple[int, ...]]:
    values = column.values
    return column.name, column.unit, values.dtype.str, values.shape


# HDF5


def _hdf5(path: Path) -> Answer:
    """Return the numbers and short texts of a file, and of what its references lead to.

    Raises `InputError` where it leads to another file: by a link, external storage or a virtual
    data set.
    """
    h5py = package("h5py", "MATLAB files of version 7.3")
    with h5py.File(path, "r") as file:
        found = _Hdf5(path, h5py, file)
        for name, dataset in found.datasets():
            found.take(name, dataset)
    return Answer(found.columns, {})


class _Hdf5:
    """Collect what an open file holds."""

    def __init__(self, path: Path, h5py: Any, file: Any) -> None:
        self.path, self.h5py, self.file = path, h5py, file
        self.columns: list[Column] = []
        self.n_items, self.left = 0, MAX_SAMPLES

    def datasets(self) -> Iterator[tuple[str, Any]]:
        """Yield every data set, and its name with dots, that lies in groups of this file."""
        waiting, seen = [("", self.file["/"])], set()
        while waiting:
            above, group = waiting.pop()
            for name in group:
                self._count()
                link = group.get(name, getlink=True)
                if isinstance(link, self.h5py.ExternalLink):
                    raise self._leads_away("what a link names", link.filename)
                if not isinstance(link, self.h5py.HardLink) or name.startswith("#"):
                    continue
                item, full = group[name], f"{above}.{name}" if above else name
                if isinstance(item, self.h5py.Dataset):
                    yield full, item
                elif isinstance(item, self.h5py.Group):
                    address = self.h5py.h5o.get_info(item.id).addr
                    if address not in seen:
                        seen.add(address)
                        waiting.append((full, item))

    def take(self, name: str, dataset: Any) -> None:
        """Take a data set; of cells and elements of structures what they refer to."""
        self._check(dataset)
        if dataset.shape is None or not dataset.size or "MATLAB_empty" in dataset.attrs:
            return
        if dataset.attrs.get("MATLAB_class", b"") == b"char":
            if dataset.size <= _MOST_LETTERS and dataset.dtype.kind in "iu":
                text = "".join(map(chr, np.ravel(dataset[()], order="F").tolist()))
                self.columns.append(Column(name=name, values=np.array(text)))
        elif dataset.dtype.kind in NUMBERS:
            check_size(self.path, MAX_SAMPLES - self.left + dataset.size)
            self.left -= dataset.size
            self.columns.append(Column(name=name, values=np.asarray(dataset[()])))
        elif self.h5py.check_ref_dtype(dataset.dtype) is self.h5py.Reference:
            self._follow(name, dataset)

    def _follow(self, name: str, dataset: Any) -> None:
        if dataset.size > _MOST_ITEMS:
            raise ValueError(f"it holds more than {_MOST_ITEMS:,} references")
        within, _, field = name.rpartition(".")
        is_struct = dataset.parent.attrs.get("MATLAB_class", b"") == b"struct" and within
        for i, reference in enumerate(np.ravel(dataset[()]), start=1):
            self._count()
            target = self.file[reference] if reference else None
            if not isinstance(target, self.h5py.Dataset) or target.dtype.kind == "O":
                continue
            self.take(f"{within}({i}).{field}" if is_struct else f"{name}({i})", target)

    def _check(self, dataset: Any) -> None:
        if dataset.external:
            raise self._leads_away("what a data set holds", dataset.external[0][0])
        if dataset.is_virtual:
            sources = [each.file_name for each in dataset.virtual_sources()]
            raise self._leads_away("a virtual data set", sources[0] if sources else "elsewhere")
        if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > _MOST_CHUNK:
            raise ValueError(f"its chunks have more than {_MOST_CHUNK:,} bytes")

    def _count(self) -> None:
        self.n_items += 1
        if self.n_items > _MOST_ITEMS:
            raise ValueError(f"it holds more than {_MOST_ITEMS:,} items")

    def _leads_away(self, what: str, where: object) -> InputError:
        return InputError(
            f"{self.path}: {what} is in another file ({str(where)[:80]!r}), which is not opened. "
            "Save the samples in the file itself."
        )


# Parquet


def _parquet(path: Path) -> Answer:
    parquet = package("pyarrow.parquet", "Parquet files")
    types = package("pyarrow.types", "Parquet files")
    with path.open("rb") as stream:
        file = parquet.ParquetFile(stream)
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
        if len(schema) > MAX_CHANNELS + 1:
            check_size(path, 0, len(schema))
        fields = [
            field
            for field in schema
            if types.is_integer(field.type)
            or types.is_floating(field.type)
            or types.is_timestamp(field.type)
        ]
        check_size(path, n_rows * len(fields), len(fields))
        columns = []
        for field in fields if n_rows > 1 else []:
            table = file.read(columns=[field.name], use_threads=False)
            if table.num_columns == 1 and table.num_rows == n_rows:
                columns.append(_parquet_column(field, np.asarray(table.column(0).to_numpy())))
    stated = (schema.metadata or {}).items()
    facts = {key.decode("utf-8", "replace"): value for key, value in stated}
    return Answer(
        columns,
        {
            key: value.decode("utf-8", "replace")
            for key, value in facts.items()
            if key.lower() in RATE_NAMES
        },
    )


def _parquet_column(field: Any, values: Array) -> Column:
    if values.dtype.kind == "M":
        return Column(name="time", values=_seconds(values), unit="s")
    unit = (field.metadata or {}).get(b"unit")
    return Column(name=field.name, values=values, unit=unit and unit.decode("utf-8", "replace"))


def _seconds(stamps: Array) -> Array:
    valid = stamps[~np.isnat(stamps)]
    if not len(valid):
        return np.full(len(stamps), np.nan)
    return np.asarray((stamps - valid[0]) / np.timedelta64(1, "s"), np.float64)
