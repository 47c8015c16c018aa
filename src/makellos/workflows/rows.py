"""Rows of parts, as `inspect` writes them: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from makellos.data.own_outputs import PARQUET_MARK
from makellos.errors import ConfigurationError, MissingRuntimeError, adding
from makellos.inspection import Inspector
from makellos.storage import cell, claim_file, growing, replacing, write_out
from makellos.subjects import Subject

__all__ = [
    "COLUMNS",
    "PROBABILITIES",
    "Writer",
    "check_row_files",
    "columns_of",
    "csv_writer",
    "import_parquet",
    "jsonl_writer",
    "parquet_table",
    "parquet_writer",
]

COLUMNS = ("input", "verdict", "score", "p_value", "threshold", "regions", "milliseconds", "error")
PROBABILITIES = "probabilities"  # a further column where the model is a classifier
ZONE_COLUMN, CLASS_COLUMN, BESIDE_COLUMN = "zones", "classes", "beside"
STATISTICS = "statistics"  # a further column where they are asked for
RULE_COLUMNS = ("calibrated_verdict", "broken_rules")
# Columns of Parquet that hold no text.
_NUMBERS = ("score", "p_value", "threshold", "milliseconds", "share_rejected", "q_value")
_COUNTS, _ANSWERS = ("n_windows",), ("discovery",)
Writer = Callable[[dict[str, Any]], None]


def columns_of(inspector: Inspector, subject: Subject) -> tuple[str, ...]:
    """Return the columns of rows, as the model has them."""
    return (
        *COLUMNS,
        *([PROBABILITIES] if inspector.manifest.classes else []),
        *subject.columns,
        *(() if inspector.zones is None else (ZONE_COLUMN,)),
        *((CLASS_COLUMN,) if inspector.manifest.calibration.by_class else ()),
        *(() if inspector.manifest.background is None else (BESIDE_COLUMN,)),
        *(RULE_COLUMNS if inspector.acceptance.rules else ()),
        *((STATISTICS,) if inspector.statistics else ()),
    )


def check_row_files(
    files: Sequence[tuple[Path | None, bytes]], parquet: Path | None, verb: str
) -> None:
    """Raise where a file of rows cannot be written, is named twice, or is not this verb's.

    Each comes with the bytes that such a file begins with.
    """
    named = [path for path, _ in files if path]
    places = Counter(os.path.realpath(path) for path in named)
    twice = [path for path in named if places[os.path.realpath(path)] > 1]
    if twice:
        name = "standard output (-)" if str(twice[0]) == "-" else str(twice[0])
        raise ConfigurationError(
            f"Two kinds of rows cannot go to {name}. Give each a file of its own."
        )
    if str(parquet) == "-":
        raise ConfigurationError(
            "Parquet cannot go to standard output (-). Name a file, or write the rows as CSV."
        )
    for path, begin in files:
        if path is not None and str(path) != "-":
            _check_target(path, begin, verb)


def _check_target(path: Path, begin: bytes, verb: str) -> None:
    def is_ours(file: Path) -> bool:
        with file.open("rb") as stream:
            return stream.read(len(begin)) in (b"", begin)

    claim_file(path, is_ours, f"does not hold what 'makellos {verb}' wrote there")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose lists and objects are JSON texts, for tables."""
    listed = ("regions", PROBABILITIES, "notes", "broken_rules", STATISTICS)
    by_part = (ZONE_COLUMN, CLASS_COLUMN, BESIDE_COLUMN)
    nested = (name for name in (*listed, *by_part) if name in row)
    return {**row, **{name: json.dumps(row[name]) for name in nested}}


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose texts UTF-8 can hold, as those of odd file names are not."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in row.items()
    }


@contextmanager
def csv_writer(path: Path, columns: Sequence[str]) -> Iterator[Writer]:
    with _appending(path) as write:
        text = io.StringIO()
        table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        table.writeheader()

        def write_row(row: dict[str, Any]) -> None:
            table.writerow({name: cell(value) for name, value in _flat(row).items()})
            write(text.getvalue())
            text.seek(0)
            text.truncate()

        yield write_row


@contextmanager
def jsonl_writer(path: Path) -> Iterator[Writer]:
    with _appending(path) as write:
        yield lambda row: write(json.dumps(row, allow_nan=False) + "\n")


@contextmanager
def parquet_writer(path: Path, columns: Sequence[str]) -> Iterator[Writer]:
    parquet = import_parquet()
    rows: list[dict[str, Any]] = []
    try:
        yield rows.append
    finally:
        if rows:
            with replacing(path) as stream:
                parquet.write_table(parquet_table(rows, columns), stream)


def import_parquet() -> Any:
    """Return what reads and writes Parquet; raises `MissingRuntimeError` without pyarrow."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingRuntimeError(
            f"Parquet needs pyarrow: {adding('parquet')}. CSV and JSON lines do not."
        ) from None
    return parquet


def parquet_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Any:
    """Return rows as a table of Arrow, marked as ours; a column has one type, whatever is in it."""
    import pyarrow

    kinds = {
        **dict.fromkeys(_NUMBERS, pyarrow.float64()),
        **dict.fromkeys(_COUNTS, pyarrow.int64()),
        **dict.fromkeys(_ANSWERS, pyarrow.bool_()),
    }
    told = [_told(_flat(row)) for row in rows]
    arrays = []
    for name in columns:
        values = [row.get(name) for row in told]  # that of an unreadable part lacks columns
        other = any(value is not None and not isinstance(value, str) for value in values)
        kind = kinds.get(name) or (None if other else pyarrow.string())
        arrays.append(pyarrow.array(values, kind))
    table = pyarrow.table(arrays, list(columns))
    return table.replace_schema_metadata({PARQUET_MARK: b"1"})


def _appending(path: Path) -> AbstractContextManager[Callable[[str], None]]:
    """Give a function that writes text, to standard output for ``-``."""
    if str(path) == "-":
        return nullcontext(write_out)
    return growing(path, "Rows up to here are kept; make room and run again.")
