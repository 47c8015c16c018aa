"""Inspect: one row per input file, written as CSV, JSON lines or Parquet, and overlays."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from makellos.data.parts import walk_pictures
from makellos.data.pictures import read_picture
from makellos.errors import InputError, MissingRuntimeError, StorageError
from makellos.inspection import Inspection, Inspector, draw_overlay, write_picture
from makellos.inspection.engines import EngineChoice, default_workers

__all__ = ["COLUMNS", "InspectSummary", "Outputs", "inspect"]

COLUMNS = ("input", "verdict", "score", "p_value", "threshold", "regions", "milliseconds", "error")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Say where rows and overlays go; None for what is not wanted. ``-`` is standard output."""

    csv: Path | None = None
    jsonl: Path | None = None
    parquet: Path | None = None
    overlays: Path | None = None


@dataclass
class InspectSummary:
    """Hold the counts of an inspection run."""

    n_parts: int = 0
    verdicts: dict[str, int] = field(
        default_factory=lambda: {"ok": 0, "look_again": 0, "reject": 0, "unreadable": 0}
    )


def inspect(
    model: Path | str,
    inputs: Sequence[Path | str],
    *,
    outputs: Outputs | None = None,
    engine: EngineChoice | None = None,
    on_row: Callable[[Inspection, int, int], None] | None = None,
) -> InspectSummary:
    """Inspect files and folders with a model; every file gets one row, whatever happens to it.

    Rows are written as they come, so an interrupted run keeps those it had. `on_row` is called
    with each inspection, its number and the number of all. Raises `InputError` when there is
    nothing to inspect, `ModelFileError` for a model that cannot be trusted, `StorageError` when
    nothing can be written.
    """
    wanted = outputs or Outputs()
    listed = list_inputs([Path(item) for item in inputs])
    inspector = Inspector(model, workers=min(default_workers(), len(listed)), engine=engine)
    summary = InspectSummary()
    with ExitStack() as stack:
        writers = [stack.enter_context(writer) for writer in _writers(wanted)]
        inspections = inspector.inspect_many([path for path, _ in listed])
        for (path, relative), inspection in zip(listed, inspections, strict=True):
            row = inspection.row()
            for write in writers:
                write(row)
            if wanted.overlays is not None and inspection.size is not None:
                _save_overlay(inspector, path, wanted.overlays / relative, inspection)
            summary.n_parts += 1
            summary.verdicts[inspection.verdict] += 1
            if on_row is not None:
                on_row(inspection, summary.n_parts, len(listed))
    return summary


def list_inputs(inputs: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return every file to inspect with its path relative to the folder it was found in.

    Folders are walked for pictures; a file is taken whatever its name. Raises `InputError` when
    nothing is left.
    """
    listed: list[tuple[Path, Path]] = []
    for item in inputs:
        if item.is_dir():
            listed += [(path, path.relative_to(item)) for path in walk_pictures(item)]
        else:
            listed.append((item, Path(item.name)))
    if not listed:
        names = ", ".join(str(item) for item in inputs) or "nothing"
        raise InputError(
            f"There is no picture in {names}. Give picture files, or folders that hold some."
        )
    return listed


def _save_overlay(inspector: Inspector, path: Path, target: Path, inspection: Inspection) -> None:
    picture = read_picture(path)
    drawn = draw_overlay(
        picture,
        inspection,
        map_threshold=inspector.map_threshold,
        white_level=inspector.manifest.preprocessing.white_level,
    )
    # The suffix of the part stays in the name: a.png and a.jpg are two parts.
    write_picture(target.with_name(target.name + ".overlay.png"), drawn)


Writer = Callable[[dict[str, Any]], None]


def _writers(outputs: Outputs) -> Iterator[Any]:
    if outputs.csv is not None:
        yield _csv_writer(outputs.csv)
    if outputs.jsonl is not None:
        yield _jsonl_writer(outputs.jsonl)
    if outputs.parquet is not None:
        yield _parquet_writer(outputs.parquet)


@contextmanager
def _csv_writer(path: Path) -> Iterator[Writer]:
    with _replacing(path) as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        yield lambda row: table.writerow({**row, "regions": json.dumps(row["regions"])})


@contextmanager
def _jsonl_writer(path: Path) -> Iterator[Writer]:
    with _replacing(path) as stream:

        def write(row: dict[str, Any]) -> None:
            stream.write(json.dumps(row, allow_nan=False) + "\n")
            stream.flush()

        yield write


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Writer]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingRuntimeError(
            "Parquet needs pyarrow: pip install 'makellos[parquet]'. CSV and JSON lines do not."
        ) from None
    rows: list[dict[str, Any]] = []
    try:
        yield rows.append
    finally:
        if rows:
            partial = _partial(path)
            flat = [{**row, "regions": json.dumps(row["regions"])} for row in rows]
            parquet.write_table(pyarrow.Table.from_pylist(flat), partial)
            partial.replace(path)


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """Give a stream that takes the place of `path` at the end, also after an interruption."""
    if str(path) == "-":
        yield sys.stdout
        return
    partial = _partial(path)
    try:
        stream = partial.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with stream:
            yield stream
    finally:
        partial.replace(path)


def _partial(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path.parent} cannot be made: {error.strerror}.") from error
    return path.with_name(f".{path.name}.partial")
