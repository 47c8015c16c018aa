"""Inspect: one row per input file, written as CSV, JSON lines or Parquet, and overlays."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makellos.data.array_pictures import is_numpy_file, pictures_in
from makellos.data.films import Frames, camera_of, is_film, with_films
from makellos.data.given import several
from makellos.data.pages import pages_of
from makellos.data.parts import PICTURES, Part, Source
from makellos.errors import ConfigurationError, InputError
from makellos.inspection import Inspection, Inspector
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.engines import EngineChoice
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import ModelFile, read_model
from makellos.storage import claim_folder
from makellos.subjects import WINDOW, Subject, subject_of_model
from makellos.workflows.discoveries import DISCOVERY_COLUMNS, Batch, Discoveries
from makellos.workflows.inputs import References, list_inputs
from makellos.workflows.rows import (
    COLUMNS,
    PROBABILITIES,
    Writer,
    check_row_files,
    columns_of,
    csv_writer,
    jsonl_writer,
    parquet_writer,
)

if TYPE_CHECKING:
    from makellos.workflows.trend import TrendSummary

__all__ = ["COLUMNS", "Frames", "InspectSummary", "Outputs", "RuleOverrides", "inspect"]

_MANY = 1_000_000  # parts, where a film or a camera has nobody knows how many
Sink = Callable[[Inspection, Path], None]  # takes a finding, and where its part lies

_CSV_BEGINS, _JSONL_BEGINS, _PARQUET_BEGINS = ",".join(COLUMNS).encode(), b'{"input": ', b"PAR1"
_TREND_BEGINS = b"<!doctype html>\n<!-- makellos trend -->"
_WINDOWS_BEGINS = ",".join(WINDOW).encode()


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Say where rows and pictures go; None for those not wanted. ``-`` is standard output.

    `windows` gets a row for each window of a recording, as CSV; `trend` a page that shows how the
    health of a machine developed over its recordings. An overlay is a panel with the nearest good
    part if the detector reconstructs one; `reconstructions` gets that part alone. With
    `statistics` rows also have those of pictures, which `drift` takes.
    """

    csv: Path | None = None
    jsonl: Path | None = None
    parquet: Path | None = None
    windows: Path | None = None
    trend: Path | None = None
    overlays: Path | None = None
    reconstructions: Path | None = None
    statistics: bool = False

    def in_folder(self, folder: Path) -> Outputs:
        """Return the outputs with tables in a folder, as CSV and JSON lines."""
        csv, jsonl = folder / "inspections.csv", folder / "inspections.jsonl"
        return replace(self, csv=self.csv or csv, jsonl=self.jsonl or jsonl)

    @property
    def draws(self) -> bool:
        """Tell whether pictures of parts are wanted."""
        return self.overlays is not None or self.reconstructions is not None


@dataclass(frozen=True, kw_only=True)
class RuleOverrides:
    """Name a file of rules to use instead of the model's, and another size of a pixel in mm."""

    rules: Path | None = None
    mm_per_pixel: float | None = None


@dataclass
class InspectSummary:
    """Hold the counts of an inspection run, and the trend of recordings where it was asked for.

    `notes` are what is odd about pictures, each with how many have it. `masks_left_out` lay among
    the files of a folder. `discoveries` are the parts of the batch to take out, where asked for.
    """

    n_parts: int = 0
    verdicts: dict[str, int] = field(
        default_factory=lambda: {"ok": 0, "look_again": 0, "reject": 0, "unreadable": 0}
    )
    notes: dict[str, int] = field(default_factory=dict)
    trend: TrendSummary | None = None
    noun: str = "part"
    masks_left_out: int = 0
    discoveries: Discoveries | None = None

    def count(self, inspection: Inspection) -> None:
        """Take one part into account."""
        self.n_parts += 1
        self.verdicts[inspection.verdict] += 1
        for note in inspection.notes:
            self.notes[note] = self.notes.get(note, 0) + 1


def inspect(
    model: Path | str,
    inputs: Path | str | Iterable[Path | str],
    *,
    outputs: Outputs | None = None,
    engine: EngineChoice | None = None,
    rpm: float | None = None,
    held_to: RuleOverrides | None = None,
    frames: Frames | None = None,
    references: Path | None = None,
    false_discoveries: float | None = None,
    on_row: Callable[[Inspection, int, int | None], None] | None = None,
) -> InspectSummary:
    """Inspect files and folders, or one, with a model; every file gets a row, whatever happens.

    Rows are written as they come, so an interrupted run keeps those it has. `rpm` is the speed of
    the shaft in recordings, if it differs from that at fit; `held_to` are rules to use instead of
    the model's. Videos, and cameras such as ``camera:0``, give a row for each frame, or for those
    that `frames` selects, which can also make a part of each page of a TIFF. `references` is a
    picture, or a folder of pictures named as the parts are, to compare them with. With
    `false_discoveries`, a share, rows also say which parts to take out of the batch so that on
    average at most that share of them is good; they are then written at the end. `on_row` is
    called with each inspection, its number and the total, if known. Raises `InputError` if there is
    nothing to inspect, `ModelFileError` for a model that cannot be trusted, `ConfigurationError`
    for rules that do not fit the model, `StorageError` if nothing can be written or a file of
    another kind would be replaced.
    """
    wanted, held, taken = outputs or Outputs(), held_to or RuleOverrides(), frames or Frames()
    opened = read_model(Path(model))
    manifest, subject = opened.manifest, subject_of_model(opened.manifest)
    _check_asked(wanted, taken, subject, model)
    given = [*map(_named, several(inputs))]
    listed, masks, named = list_inputs(given, with_films(subject.kind))
    reference_of = _references(references, named, manifest, model)
    films = {path for path, _ in listed if subject.kind == PICTURES and _has_frames(path)}
    arrays = {p for p, _ in listed if subject.kind == PICTURES and is_numpy_file(p)}
    n_parts = None if films or arrays or taken.pages else len(listed)
    inspector = _opened(opened, wanted, held, n_parts, engine, rpm)
    batch = _batch(false_discoveries, inspector)
    _check_outputs(wanted, inspector)  # now that all else is right: it makes folders
    summary = InspectSummary(noun=_noun(subject), masks_left_out=len(masks))
    kept: list[Inspection] = []
    with ExitStack() as stack:
        sinks: list[Sink] = [] if batch is None else [batch.put]
        sinks += [stack.enter_context(sink) for sink in _sinks(wanted, inspector, subject, batch)]
        ahead, beside = tee(_parts(listed, films, arrays, taken, reference_of))
        inspections = inspector.inspect_many((part for part, _ in ahead), keep=wanted.draws)
        for (_, relative), inspection in zip(beside, inspections, strict=True):
            for put in sinks:
                put(inspection, relative)
            kept += [_without_windows(inspection)] if wanted.trend is not None else []
            summary.count(inspection)
            if on_row is not None:
                on_row(inspection, summary.n_parts, n_parts)
    summary.discoveries = None if batch is None else batch.found()
    if wanted.trend is not None:
        from makellos.workflows.trend import write_trend_of

        summary.trend = write_trend_of(kept, inspector, wanted.trend)
    return summary


def _check_asked(wanted: Outputs, taken: Frames, subject: Subject, model: Path | str) -> None:
    """Raise `ConfigurationError` for what is asked of models of the other kind of data."""
    other = None
    if (wanted.windows or wanted.trend) and not subject.has_windows:
        other = "--windows and --trend are for models of recordings"
    if wanted.reconstructions and subject.kind != PICTURES:
        other = "--reconstructions is for models of pictures"
    if wanted.statistics and subject.kind != PICTURES:
        other = "--statistics is for models of pictures"
    if taken != Frames() and subject.kind != PICTURES:
        other = "--every, --frames and --pages are for models of pictures"
    if other:
        raise ConfigurationError(f"{other}; {model} is of {subject.kind.name}.")


def _opened(
    model: ModelFile,
    wanted: Outputs,
    held: RuleOverrides,
    n_parts: int | None,
    engine: EngineChoice | None,
    rpm: float | None,
) -> Inspector:
    manifest = model.manifest
    return Inspector(
        model,
        workers=subject_of_model(manifest).workers(manifest, n_parts or _MANY),
        engine=engine,
        rpm=rpm,
        acceptance=_acceptance(held, manifest),
        statistics=wanted.statistics,
    )


def _acceptance(held: RuleOverrides, manifest: Manifest) -> Acceptance | None:
    if held == RuleOverrides():
        return manifest.acceptance
    from makellos.inspection.zone_files import read_acceptance

    return read_acceptance(held.rules, held.mm_per_pixel, manifest.acceptance)


def _batch(share: float | None, inspector: Inspector) -> Batch | None:
    return None if share is None else Batch(share, inspector.calibration.smallest_budget)


def _noun(subject: Subject) -> str:
    return "recording" if subject.has_windows else "part"


def _references(
    given: Path | None,
    named: Mapping[Path, Path | Source],
    manifest: Manifest,
    model: Path | str,
) -> References:
    """Return where references are; raise `ConfigurationError` where the model uses none."""
    if given is not None and manifest.preprocessing.compares is None:
        raise ConfigurationError(
            f"{model} does not compare parts with references. Leave out --reference."
        )
    return References.of(given, named)


def _has_frames(path: Path) -> bool:
    return camera_of(path) is not None or is_film(path)


def _parts(
    listed: Sequence[tuple[Path, Path]],
    films: Container[Path],
    arrays: Container[Path],
    frames: Frames,
    reference_of: References,
) -> Iterator[tuple[Part, Path]]:
    """Yield the parts of files, frames and pages as they are needed, and where overlays lie."""
    for path, place in listed:
        own = reference_of(path, place)
        if path in arrays:
            for part in pictures_in(path):
                drawn = place.with_name(place.name + part.piece.replace("/", "-"))
                yield replace(part, reference=own), drawn
            continue
        if path not in films:
            pages = pages_of(path) if frames.pages else [Part(source=path, name=str(path))]
            for n, part in enumerate(pages, start=1):
                suffix = f".page{n}" if len(pages) > 1 else ""
                yield replace(part, reference=own), place.with_name(f"{place.name}{suffix}")
            continue
        # No file of every system has a colon in its name.
        name = place.name.replace(":", "-")
        for number, part in frames.of(path):
            drawn = place.with_name(name if number is None else f"{name}#{number:06d}")
            yield replace(part, reference=own), drawn


@contextmanager
def _rows(writer: AbstractContextManager[Writer], *, classes: bool) -> Iterator[Sink]:
    """Give what writes the row of each part; those of a classifier always have probabilities."""
    with writer as write:

        def put(inspection: Inspection, _relative: Path) -> None:
            row = inspection.row()
            if classes:
                row.setdefault(PROBABILITIES, {})
            write(row)

        yield put


@contextmanager
def _windows(path: Path, inspector: Inspector, subject: Subject) -> Iterator[Sink]:
    """Give what writes a row for each window of a recording."""
    with csv_writer(path, WINDOW) as write:

        def put(inspection: Inspection, _relative: Path) -> None:
            for row in subject.window_rows(inspector, inspection):
                write(row)

        yield put


@contextmanager
def _overlays(folder: Path, inspector: Inspector, subject: Subject) -> Iterator[Sink]:
    """Give what draws the finding of each part that could be read."""
    from makellos.drawing import picture_place, write_drawing

    def put(inspection: Inspection, relative: Path) -> None:
        if inspection.error is None:
            target = picture_place(folder, relative, ".overlay.png")
            write_drawing(target, subject.draw(inspector, inspection))

    yield put


@contextmanager
def _reconstructions(folder: Path) -> Iterator[Sink]:
    """Give what writes the nearest good part of each part that could be read."""
    from makellos.drawing import draw_reconstruction, picture_place, write_drawing

    def put(inspection: Inspection, relative: Path) -> None:
        made = draw_reconstruction(inspection)
        if made is not None:
            write_drawing(picture_place(folder, relative, ".reconstruction.png"), made)

    yield put


def _sinks(
    outputs: Outputs, inspector: Inspector, subject: Subject, batch: Batch | None
) -> Iterator[AbstractContextManager[Sink]]:
    columns, classes = columns_of(inspector, subject), bool(inspector.manifest.classes)
    columns += () if batch is None else DISCOVERY_COLUMNS
    for writer in _writers(outputs, columns):
        yield _rows(writer if batch is None else batch.rows(writer), classes=classes)
    if outputs.windows is not None:
        yield _windows(outputs.windows, inspector, subject)
    if outputs.overlays is not None:
        yield _overlays(outputs.overlays, inspector, subject)
    if outputs.reconstructions is not None:
        yield _reconstructions(outputs.reconstructions)


def _without_windows(inspection: Inspection) -> Inspection:
    """Return an inspection that takes little memory, of a machine's thousands."""
    found = inspection.recording
    if found is None:
        return inspection
    return replace(inspection, recording=replace(found, windows=(), starts=()))


def _check_outputs(outputs: Outputs, inspector: Inspector) -> None:
    """Raise when an output cannot be had, cannot be used or is a file of another kind."""
    if outputs.reconstructions is not None and not inspector.reconstructs:
        from makellos.detectors import detectors_giving

        raise ConfigurationError(
            f"--reconstructions: the model is of {inspector.manifest.detector.name}, which "
            "does not reconstruct parts. Leave it out, or use a model of "
            f"{', '.join(detectors_giving('reconstruction'))}."
        )
    rows = (outputs.csv, outputs.jsonl, outputs.parquet, outputs.windows, outputs.trend)
    begins = (_CSV_BEGINS, _JSONL_BEGINS, _PARQUET_BEGINS, _WINDOWS_BEGINS, _TREND_BEGINS)
    check_row_files(list(zip(rows, begins, strict=True)), outputs.parquet, "inspect")
    for folder in (outputs.overlays, outputs.reconstructions):
        if folder is not None:
            claim_folder(folder)


def _writers(outputs: Outputs, columns: Sequence[str]) -> Iterator[Any]:
    if outputs.csv is not None:
        yield csv_writer(outputs.csv, columns)
    if outputs.jsonl is not None:
        yield jsonl_writer(outputs.jsonl)
    if outputs.parquet is not None:
        yield parquet_writer(outputs.parquet, columns)


def _named(item: Path | str) -> Path:
    if not str(item):
        raise InputError("An input is empty. Name a file or a folder; the current folder is '.'.")
    return Path(item)
