"""Inspect in shards: a long list of inputs in pieces, each inspected anywhere and written once.

Which inputs are in which shard depends on the list alone. The rows of a shard are a Parquet file
``part-NNNNN-of-NNNNN.parquet``, which is there as a whole or not at all, so that a run that was
broken off goes on with the shards that are missing, on another machine if need be.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from makellos.data.addresses import Addressed, Place, is_address
from makellos.data.array_pictures import is_numpy_file
from makellos.data.files import parse_json
from makellos.data.films import camera_of, is_film
from makellos.data.parts import PICTURES, FileKind, Part
from makellos.errors import ConfigurationError, InputError, StorageError
from makellos.inspection import Inspection, Inspector
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.engines import EngineChoice, limit_cores
from makellos.inspection.model_file import read_model
from makellos.inspection.zone_files import read_acceptance
from makellos.storage import scratch_folder
from makellos.subjects import subject_of_model
from makellos.workflows.inputs import list_inputs
from makellos.workflows.inspect import InspectSummary, RuleOverrides
from makellos.workflows.rows import (
    PROBABILITIES,
    columns_of,
    import_parquet,
    parquet_table,
)

__all__ = [
    "Manner",
    "Shard",
    "ShardInspector",
    "ShardPlan",
    "ShardReport",
    "plan_shards",
]

PLAN = "shards.json"
_BEGIN, _END, _SHARD_KEY = "part-", ".parquet", b"makellos shard"
_FEWEST, _MOST, _PIECES = 50, 1000, 64  # inputs of a shard, and shards where both are kept
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Manner:
    """Say how parts are inspected, as in `inspect`; None and False leave it to the model."""

    engine: EngineChoice | None = None
    rpm: float | None = None
    acceptance: Acceptance | None = None
    statistics: bool = False

    def record(self) -> dict[str, Any]:
        """Return it as plain data, to tell two runs apart."""
        rules = None if self.acceptance is None else self.acceptance.model_dump(mode="json")
        return {
            "engine": None if self.engine is None else str(self.engine),
            "rpm": self.rpm,
            "rules": rules,
            "statistics": self.statistics,
        }


@dataclass(frozen=True)
class Shard:
    """Hold the inputs of a shard, as they were given, and where its rows go.

    Paths are relative to the folder `base`. `plan` tells the run from others.
    """

    number: int
    inputs: tuple[str, ...]
    base: str
    target: str
    plan: str


@dataclass(frozen=True)
class ShardReport:
    """Hold what became of a shard: counts of verdicts and notes, and what could not be read.

    `unreadable` are inputs with their errors; of a shard of an earlier run they are left out.
    """

    number: int
    verdicts: dict[str, int]
    notes: dict[str, int]
    unreadable: tuple[tuple[str, str], ...] = ()

    def add_to(self, summary: InspectSummary) -> None:
        """Take the shard into account."""
        summary.n_parts += sum(self.verdicts.values())
        for name, n in self.verdicts.items():
            summary.verdicts[name] += n
        for note, n in self.notes.items():
            summary.notes[note] = summary.notes.get(note, 0) + n


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Hold what a run is to inspect, in which manner, and the folder that its rows go to.

    `model` is the content of the model file, `record` what a later run must share with this one.
    """

    model: bytes = field(repr=False)
    manner: Manner
    inputs: tuple[str, ...] = field(repr=False)
    base: str
    output: Place
    record: dict[str, Any]
    noun: str
    masks_left_out: int = 0

    @property
    def digest(self) -> str:
        """Return what tells the run from others."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()

    def shards(self) -> list[Shard]:
        """Return all shards, in the order of the inputs."""
        size, digest = shard_size(len(self.inputs)), self.digest
        starts = range(0, len(self.inputs), size)
        return [
            Shard(
                number,
                self.inputs[start : start + size],
                self.base,
                str(self.output / shard_name(number, len(starts))),
                digest,
            )
            for number, start in enumerate(starts)
        ]

    def begin(self) -> list[ShardReport]:
        """Claim the folder, and return the shards that an earlier run of this plan finished.

        Raises `StorageError` where the folder cannot be written, or holds rows of another run.
        """
        names = self.output.names()
        shards = [name for name in names if name.startswith(_BEGIN) and name.endswith(_END)]
        if PLAN in names:
            self._check_same(self.output / PLAN)
        elif shards:
            raise StorageError(
                f"{self.output} holds {shards[0]}, but no {PLAN} that tells which run wrote it. "
                "Choose another folder."
            )
        else:
            self._write_record()
        found = (_report_in(self.output / name, self.digest) for name in shards)
        return [report for report in found if report is not None]

    def sweep(self) -> None:
        """Remove what writers left that were killed, now that all shards are there."""
        self.output.remove_drafts()

    def _write_record(self) -> None:
        text = json.dumps(self.record, indent=2, sort_keys=True) + "\n"
        (self.output / PLAN).write(text.encode())

    def _check_same(self, place: Place) -> None:
        try:
            found = parse_json(place.read())
        except ValueError as error:
            raise StorageError(
                f"{place} is not what 'makellos inspect --cluster' writes there: {error}. Choose "
                "another folder."
            ) from error
        if not isinstance(found, dict):
            found = {}
        named = {"model": "another model", "inputs": "another list of inputs"}
        differs = [key for key in self.record if found.get(key) != self.record[key]]
        if differs:
            what = next((named[key] for key in differs if key in named), "other settings")
            raise StorageError(
                f"{self.output} holds rows of {what} ({', '.join(differs)}); nothing was "
                "changed. Choose another folder with -o, or repeat the earlier command exactly."
            )


def plan_shards(
    model: Path | str,
    inputs: Iterable[Path | str],
    output: Path | str,
    *,
    engine: EngineChoice | None = None,
    rpm: float | None = None,
    held_to: RuleOverrides | None = None,
    statistics: bool = False,
) -> ShardPlan:
    """Return how many inputs are inspected in shards; nothing is written or inspected.

    Inputs are files and folders of this machine as in `inspect`, addresses such as
    ``s3://bucket/parts`` of pictures or of all below a folder, and, for pictures, Parquet files
    with a column ``path``. Raises what `inspect` raises for what cannot be used, and
    `ConfigurationError` for a model that compares parts with references.
    """
    opened, held = read_model(Path(model)), held_to or RuleOverrides()
    manifest, subject = opened.manifest, subject_of_model(opened.manifest)
    if manifest.preprocessing.compares is not None:
        raise ConfigurationError(
            f"{model} compares parts with references, which --cluster does not support. Leave "
            "--cluster out."
        )
    if statistics and subject.kind != PICTURES:
        raise ConfigurationError(f"--statistics is for models of pictures; {model} is not.")
    acceptance = read_acceptance(held.rules, held.mm_per_pixel, manifest.acceptance)
    manner = Manner(engine=engine, rpm=rpm, acceptance=acceptance, statistics=statistics)
    listed, n_masks = _listed([str(item) for item in inputs], subject.kind)
    record = {
        "format": _FORMAT,
        "model": hashlib.sha256(manifest.without_verification().encode()).hexdigest(),
        "manner": manner.record(),
        "inputs": _digest(listed),
        "n_inputs": len(listed),
        "n_per_shard": shard_size(len(listed)),
    }
    return ShardPlan(
        model=Path(model).read_bytes(),
        manner=manner,
        inputs=tuple(listed),
        base=os.fspath(Path.cwd()),
        output=Place(
            str(output) if is_address(str(output)) else os.fspath(Path(output).absolute())
        ),
        record=record,
        noun="recording" if subject.has_windows else "part",
        masks_left_out=n_masks,
    )


def _digest(listed: Iterable[str]) -> str:
    """Return what tells a list of inputs from others, also from one of another folder."""
    base = Path.cwd()
    whole = (name if is_address(name) else os.fspath(base / name) for name in listed)
    return hashlib.sha256("\0".join(whole).encode("utf-8", "surrogatepass")).hexdigest()


def shard_size(n_inputs: int) -> int:
    """Return how many inputs a shard has.

    >>> shard_size(20), shard_size(20_000), shard_size(5_000_000)
    (50, 313, 1000)
    """
    return min(_MOST, max(_FEWEST, -(-n_inputs // _PIECES)))


def shard_name(number: int, n_shards: int) -> str:
    """Return the name of a shard's file.

    >>> shard_name(3, 64)
    'part-00003-of-00064.parquet'
    """
    return f"{_BEGIN}{number:05d}-of-{n_shards:05d}{_END}"


class ShardInspector:
    """Inspect shards with one model, `n_cores` parts at once, and write their rows.

    `model` is the content of a model file. Raises what `Inspector` raises.
    """

    def __init__(self, model: bytes, manner: Manner, n_cores: int = 1) -> None:
        limit_cores(n_cores)
        with scratch_folder() as folder:  # what is needed of the file is in memory then
            file = folder / "carried.makellos"
            file.write_bytes(model)
            self._inspector = Inspector(
                file,
                workers=n_cores,
                engine=manner.engine,
                rpm=manner.rpm,
                acceptance=manner.acceptance,
                statistics=manner.statistics,
            )
        manifest = self._inspector.manifest
        self._columns = columns_of(self._inspector, subject_of_model(manifest))
        self._classes = bool(manifest.classes)

    def __call__(self, shard: Shard) -> ShardReport:
        """Inspect the inputs of a shard, write a row for each, and return what was found."""
        parts = (_part(name, shard.base) for name in shard.inputs)
        summary, rows, unreadable = InspectSummary(), list[dict[str, Any]](), []
        for inspection in self._inspector.inspect_many(parts):
            summary.count(inspection)
            rows.append(self._row(inspection))
            if inspection.error is not None:
                unreadable.append((inspection.input, inspection.error))
        report = ShardReport(shard.number, summary.verdicts, summary.notes, tuple(unreadable))
        Place(shard.target).write(self._encoded(rows, shard, report))
        return report

    def _row(self, inspection: Inspection) -> dict[str, Any]:
        row = inspection.row()
        if self._classes:
            row.setdefault(PROBABILITIES, {})
        return row

    def _encoded(self, rows: Sequence[dict[str, Any]], shard: Shard, report: ShardReport) -> bytes:
        parquet, table = import_parquet(), parquet_table(rows, self._columns)
        kept = json.dumps({"plan": shard.plan, **asdict(replace(report, unreadable=()))})
        stream = io.BytesIO()
        metadata = {**table.schema.metadata, _SHARD_KEY: kept.encode()}
        parquet.write_table(table.replace_schema_metadata(metadata), stream)
        return stream.getvalue()


def _part(name: str, base: str) -> Part:
    return Part(source=Addressed(name) if is_address(name) else Path(base, name), name=name)


def _report_in(place: Place, plan: str) -> ShardReport | None:
    """Return what a finished shard says of itself; None for a file that is no shard of the plan."""
    parquet = import_parquet()
    try:
        with place.opened() as stream:
            found = parse_json(parquet.read_metadata(stream).metadata[_SHARD_KEY])
    except (InputError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(found, dict) or found.pop("plan", None) != plan:
        return None
    return ShardReport(found["number"], found["verdicts"], found["notes"])


def _listed(given: Sequence[str], kind: FileKind) -> tuple[list[str], int]:
    """Return all inputs by name, those of this machine first, and how many masks were left out."""
    here = [item for item in given if not is_address(item)]
    lists = [item for item in given if kind == PICTURES and item.lower().endswith(_END)]
    named, n_masks = list[str](), 0
    files = [Path(item) for item in here if item not in lists]
    for item in (str(item) for item in here):
        if not item:
            raise InputError("An input is empty. Name a file or a folder; this folder is '.'.")
    if files:
        listed, masks, references = list_inputs(files, kind)
        if references:
            raise ConfigurationError(
                "The manifest names references of parts, which --cluster does not support. Leave "
                "out its column 'reference'."
            )
        named, n_masks = [os.fspath(path) for path, _ in listed], len(masks)
    for item in given:
        if item in lists:
            named += _paths_in(item)
        elif is_address(item):
            if kind != PICTURES:
                raise ConfigurationError(
                    f"{item} is an address, but recordings are read from files only. Copy them to "
                    "this machine first."
                )
            named += Place(item).pictures()
    if not named:
        raise InputError(
            f"There is no {kind.noun} in {', '.join(given) or 'nothing'}. Give {kind.noun} files, "
            "or folders that hold some."
        )
    _check_single(named, kind)
    return named, n_masks


def _check_single(named: Iterable[str], kind: FileKind) -> None:
    """Raise `ConfigurationError` for what would have more than one row."""
    for name in named if kind == PICTURES else ():
        path = Path(name)
        if camera_of(path) is not None or is_film(path) or is_numpy_file(path):
            raise ConfigurationError(
                f"{name} can hold many parts, but --cluster writes one row for each input. Inspect "
                "it without --cluster."
            )


def _paths_in(name: str) -> Iterator[str]:
    """Yield the paths and addresses in the column ``path`` of a Parquet file, as seen from here."""
    parquet, folder = import_parquet(), name.rpartition("/")[0]
    try:
        with Place(name).opened() as stream:
            file = parquet.ParquetFile(stream)
            if "path" not in file.schema_arrow.names:
                columns = ", ".join(file.schema_arrow.names)
                raise InputError(
                    f"{name} has no column 'path'; it has {columns}. Name the column that holds "
                    "the paths 'path'."
                )
            for batch in file.iter_batches(columns=["path"]):
                for path in batch.column(0).to_pylist():
                    if not isinstance(path, str) or not path:
                        raise InputError(
                            f"{name} has a row without a path. Fill it in, or remove it."
                        )
                    inside = is_address(path) or Path(path).is_absolute() or not folder
                    yield path if inside else f"{folder}/{path}"
    except (ValueError, OSError) as error:
        raise InputError(
            f"{name} cannot be read as Parquet: {error}. Write the file again."
        ) from error
