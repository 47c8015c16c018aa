"""Drift: whether a stream of parts has left the good state, from rows or from a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makellos.data.array_pictures import is_numpy_file, pictures_in
from makellos.data.files import is_folder
from makellos.data.parts import PICTURES, Part
from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError, MissingRuntimeError, adding
from makellos.inspection import Inspector
from makellos.inspection.drift import N_START, Alarm, DriftMonitor
from makellos.inspection.model_file import ModelFile, read_model
from makellos.reports.drift import DriftPage, Shown, render_drift
from makellos.reports.pages import write_page
from makellos.reports.thumbnails import draw_small
from makellos.storage import claim_folder
from makellos.subjects import subject_of_model
from makellos.workflows.inputs import list_inputs
from makellos.workflows.trend import natural_order

__all__ = ["PAGE", "DriftSummary", "drift"]

PAGE = "drift.html"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_N_SHOWN = 3  # pictures before a change, and after it
Row = Mapping[str, Any]


@dataclass
class DriftSummary:
    """Hold the alarms of a stream as plain data, and how many parts it had.

    `watched` says what was looked at, `order` in what order parts were taken.
    """

    n_parts: int = 0
    n_unreadable: int = 0
    alarms: list[dict[str, Any]] = field(default_factory=list)
    false_alarms_per_10000: float = 1.0
    watched: str = "scores alone"
    order: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class _Watched:
    """Hold the alarms of a stream and its counts, and for a page the wealth after each part."""

    n_parts: int = 0
    wealths: list[float] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    n_unreadable: int = 0
    n_statistics: int = 0


def drift(
    model: Path | str,
    source: Path | str,
    *,
    output: Path | str | None = None,
    false_alarms: float = 1.0,
    progress: Progress | None = None,
) -> DriftSummary:
    """Tell whether parts have left the good state of a model, since when and why.

    `source` is a file of rows that `inspect` wrote, in their order, or a folder of parts, in the
    order of their names, in which 2.png comes before 10.png. Rows without statistics tell of scores
    alone. `false_alarms` are allowed in 10,000 parts, on average. With `output` a page is written
    there. Raises `InputError` for a source of another kind or without parts that could be read,
    `ConfigurationError` for a rate out of range, `ModelFileError` for a model that cannot be
    trusted.
    """
    read, given, report = read_model(Path(model)), Path(source), progress or no_progress
    monitor = DriftMonitor(read, false_alarms=false_alarms)
    target = None if output is None else Path(output)
    if target is not None:
        claim_folder(target)
    rows: Iterable[Row]
    parts: list[Part] = []
    if is_folder(given):
        parts = _parts(read, given)
        rows, order = _inspected(read, parts, report), "names of files"
    else:
        rows, order = read_rows(given), "rows of the file"
    watched = _watch(monitor, rows, keep=target is not None)
    if not watched.n_parts:
        raise InputError(f"{given} has no rows of parts. Write them with 'makellos inspect'.")
    if watched.n_unreadable == watched.n_parts:
        raise InputError(
            f"No part of {given} could be read, so nothing is known about a drift. Run 'makellos "
            "inspect' on the parts: its column 'error' says what is wrong with each."
        )
    summary = _summary(watched, read, false_alarms, order)
    if target is not None:
        page = _page(watched, summary, read, given, parts)
        write_page(target / PAGE, render_drift(page))
    return summary


def _watch(monitor: DriftMonitor, rows: Iterable[Row], *, keep: bool) -> _Watched:
    """Return what a monitor says of rows, and if asked to `keep` them the wealths."""
    found = _Watched()
    for row in rows:
        alarm = monitor.update(row)
        found.n_parts += 1
        found.n_unreadable += row.get("p_value") is None
        found.n_statistics += row.get("statistics") is not None
        if keep:
            found.wealths.append(monitor.wealth)
        found.alarms += [] if alarm is None else [alarm]
    last = monitor.finish()
    found.alarms += [] if last is None else [last]
    return found


def _summary(watched: _Watched, model: ModelFile, false_alarms: float, order: str) -> DriftSummary:
    notes = []
    pictures = subject_of_model(model.manifest).kind == PICTURES
    if pictures and not watched.n_statistics:
        notes.append(
            "The rows have no statistics of pictures, so only the scores are watched. To learn "
            "the cause of a drift, inspect with --statistics, or give the folder of pictures."
        )
    elif pictures and model.manifest.good_state is None:
        notes.append(
            f"The model does not know what pictures of good parts are like, so the first {N_START} "
            "parts stand for them. Fit it again to compare with good parts."
        )
    if watched.n_unreadable:
        notes.append(f"{watched.n_unreadable} parts could not be read, and add no evidence.")
    return DriftSummary(
        n_parts=watched.n_parts,
        n_unreadable=watched.n_unreadable,
        alarms=[alarm.row() for alarm in watched.alarms],
        false_alarms_per_10000=false_alarms,
        watched="pictures and scores" if watched.n_statistics else "scores alone",
        order=order,
        notes=notes,
    )


def _parts(model: ModelFile, folder: Path) -> list[Part]:
    """Return the parts of a folder in the order of their names, each picture of an array one."""
    kind = subject_of_model(model.manifest).kind
    listed = list_inputs([folder], kind).files
    parts: list[Part] = []
    for path, _ in sorted(listed, key=lambda each: natural_order(each[1].as_posix())):
        holds_many = kind == PICTURES and is_numpy_file(path)
        parts += pictures_in(path) if holds_many else [Part(source=path, name=str(path))]
    return parts


def _inspected(model: ModelFile, parts: list[Part], progress: Progress) -> Iterator[Row]:
    subject = subject_of_model(model.manifest)
    workers = subject.workers(model.manifest, len(parts))
    inspector = Inspector(model, workers=workers, statistics=subject.kind == PICTURES)
    for done, inspection in enumerate(inspector.inspect_many(parts), start=1):
        yield inspection.row()
        progress("inspecting", done, len(parts))


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file that `inspect` wrote; raise `InputError` for any other."""
    kinds = {".jsonl": _of_jsonl, ".parquet": _of_parquet, ".csv": _of_csv}
    if path.suffix.lower() not in kinds:
        raise InputError(
            f"{path} is neither a folder nor rows of 'makellos inspect' "
            f"({', '.join(sorted(kinds))}). Give one of them."
        )
    number = 0
    try:
        for row in kinds[path.suffix.lower()](path):
            yield _plain(row)
            number += 1
    except (*_BROKEN, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as rows of 'makellos inspect', after row {number}: {error}."
        ) from None


def _of_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _of_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        yield from (json.loads(line) for line in stream if line.strip())


def _of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingRuntimeError(f"{path} needs pyarrow: {adding('parquet')}.") from None
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _plain(row: Mapping[str, Any]) -> Row:
    """Return name, p-value and statistics of a row, whatever kind of file it comes from."""
    p_value, statistics = row["p_value"], row.get("statistics")
    if isinstance(statistics, str):
        statistics = json.loads(statistics) if statistics else None
    return {
        "input": str(row.get("input") or ""),
        "p_value": None if p_value in (None, "") else float(p_value),
        "statistics": statistics,
    }


def _page(
    watched: _Watched, summary: DriftSummary, model: ModelFile, given: Path, parts: list[Part]
) -> DriftPage:
    pictures = parts if subject_of_model(model.manifest).kind == PICTURES else []
    return DriftPage(
        title=given.resolve().name,
        n_parts=watched.n_parts,
        wealths=watched.wealths,
        level=10_000 / summary.false_alarms_per_10000,
        shown=[_shown(alarm, pictures, model) for alarm in watched.alarms],
        n_unreadable=watched.n_unreadable,
        watched=summary.watched,
        order=summary.order,
        notes=summary.notes,
        model=model.path.name,
    )


def _shown(alarm: Alarm, parts: list[Part], model: ModelFile) -> Shown:
    """Return an alarm with pictures of parts before the change, and of the latest at its naming."""
    white = getattr(model.manifest.preprocessing, "white_level", None)
    first = max(0, alarm.since - 1)
    places = (
        range(max(0, first - _N_SHOWN), first),
        range(alarm.named_at - _N_SHOWN, alarm.named_at),
    )
    before, after = (
        [(f"part {i + 1}", drawn) for i in each if (drawn := _drawn(parts, i, white))]
        for each in places
    )
    return Shown(alarm, before, after)


def _drawn(parts: list[Part], place: int, white: int | None) -> bytes:
    if not 0 <= place < len(parts):
        return b""
    try:
        return draw_small(parts[place].read(), white)
    except InputError:
        return b""
