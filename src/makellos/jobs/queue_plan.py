"""The plan of a queue: every run checked before the first one starts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from makellos.calibration import parts_needed
from makellos.data.parts import PartSet
from makellos.data.pictures import full_scale
from makellos.data.splits import check_seed
from makellos.detectors import detector_class, make_detector
from makellos.detectors.parameters import read_parameters
from makellos.errors import ConfigurationError, InputError, MakellosError
from makellos.jobs.queue_file import Entry, Mistake, mistakes_text, read_queue_file
from makellos.jobs.records import ResultsFolder
from makellos.subjects import find_parts
from makellos.training import Training

__all__ = ["PAGE", "RESULTS", "Job", "Plan", "QueuedRun", "read_plan"]

RESULTS, PAGE = "results.json", "queue.html"
_FORBIDDEN = frozenset('<>:"/\\|?*')
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", RESULTS, PAGE}
    | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
)
_LONGEST = 100


@dataclass(frozen=True, kw_only=True)
class Job:
    """Hold what a run takes to be carried out, checked.

    `digest` is the same for entries that ask for the same model.
    """

    data: Path
    preset: str
    settings: Mapping[str, str]
    config: Path | None
    false_alarms: float
    seed: int
    device: str
    white_level: int | None
    skip_unreadable: bool
    evaluate: bool
    trains: bool
    digest: str


@dataclass(frozen=True, kw_only=True)
class QueuedRun:
    """Hold one run of a queue; `job` is None where the entry has mistakes."""

    name: str
    line: int
    data: str
    detector: str
    mistakes: tuple[Mistake, ...]
    job: Job | None


@dataclass(frozen=True)
class Plan:
    """Hold a checked queue: its file, the folder of its results, its runs in their order."""

    file: Path
    output: Path
    runs: tuple[QueuedRun, ...]

    @property
    def folder(self) -> ResultsFolder:
        """Return the folder as one that a single queue works in."""
        return ResultsFolder(self.output, "queue", "another 'output'")


def read_plan(file: Path | str, *, keep_going: bool = False) -> Plan:
    """Read and check a queue's file whole.

    Raises `ConfigurationError` that names every mistake with its line. With `keep_going` mistakes
    of single runs are left to these runs; one run at least must be without. Data are listed, no
    picture is opened.
    """
    path = Path(file)
    found = read_queue_file(path)
    output = _place(path.parent, found.output.value if found.output else path.stem)
    line = found.output.line if found.output else 1
    with _noting(found.mistakes, line):
        _check_output(output)
    data: dict[Path, PartSet | str] = {}
    taken: dict[str, int] = {}
    runs = tuple(_check(entry, path.parent, data, taken) for entry in found.entries)
    own = [mistake for run in runs for mistake in run.mistakes]
    startable = any(run.job for run in runs)
    if found.mistakes or (own and not (keep_going and startable)):
        text = mistakes_text(path, [*found.mistakes, *own])
        if startable and not found.mistakes:
            text += "\nNothing was started. Add --keep-going to run the others anyway."
        raise ConfigurationError(text)
    return Plan(path, output, runs)


@contextmanager
def _noting(mistakes: list[Mistake], line: int) -> Iterator[None]:
    """Take an error for a mistake in a line of the file."""
    try:
        yield
    except MakellosError as error:
        mistakes.append(Mistake(line, str(error)))


def _place(root: Path, written: str) -> Path:
    """Return a path that a file below `root` names; ``~`` is the home folder."""
    return root / os.path.expanduser(written)  # noqa: PTH111 -- a Path raises for unknown users


def _check_output(output: Path) -> None:
    try:
        found = next(place for place in (output, *output.parents) if place.exists())
        is_folder = found.is_dir()
    except (OSError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "there is no such drive"
        raise ConfigurationError(f"the output {output} cannot be used: {reason}.") from error
    if not is_folder:
        raise ConfigurationError(
            f"the output {output} cannot be a folder, because {found} is a file. Choose another."
        )


def _check(
    entry: Entry, root: Path, data: dict[Path, PartSet | str], taken: dict[str, int]
) -> QueuedRun:
    mistakes, detector = entry.mistakes, str(entry.get("detector", "patchcore"))
    written = str(entry.get("data", ""))
    parts = _check_data(entry, _place(root, written), data)
    parameters, trains = _check_detector(entry, detector, root)
    _check_numbers(entry, detector, trains=trains)
    name = _check_name(entry, _place(root, written), detector, taken)
    job = None
    if not mistakes and parts is not None and parameters is not None:
        job = _job(entry, root, parts, parameters, trains=bool(trains))
    return QueuedRun(
        name=name,
        line=entry.line,
        data=Path(written).as_posix() if written else "",
        detector=detector,
        mistakes=tuple(sorted(set(mistakes))),
        job=job,
    )


def _check_data(entry: Entry, folder: Path, data: dict[Path, PartSet | str]) -> PartSet | None:
    """Return the parts of a run's data, listed once for all runs that name them."""
    if "data" not in entry.cells:
        told = ("data is ", "a run is ")
        if not any(mistake.text.startswith(told) for mistake in entry.mistakes):
            text = "the run has no data. Give a folder of pictures, or a CSV manifest."
            entry.mistakes.append(Mistake(entry.line, text))
        return None
    if folder not in data:
        try:
            data[folder] = find_parts(folder)
        except InputError as error:
            data[folder] = str(error)
    found, line = data[folder], entry.line_of("data")
    if isinstance(found, str):
        entry.mistakes.append(Mistake(line, found))
        return None
    if not found.good():
        text = (
            f"{folder} has no good parts to learn from ({found.layout}). Put them into train/good."
        )
        entry.mistakes.append(Mistake(line, text))
    if entry.get("evaluate") and not found.test():
        text = f"{folder} has no test parts ({found.layout}). Add test/good and test/<defect>."
        entry.mistakes.append(Mistake(entry.line_of("evaluate"), text))
    return found


def _check_detector(
    entry: Entry, name: str, root: Path
) -> tuple[dict[str, Any] | None, bool | None]:
    """Return the parameters in full and whether the detector trains; None where that is wrong."""
    try:
        trains = detector_class(name).trains
    except ConfigurationError as error:
        entry.mistakes.append(Mistake(entry.line_of("detector"), str(error)))
        return None, None
    n_before, preset = len(entry.mistakes), str(entry.get("preset", "balanced"))
    with _noting(entry.mistakes, entry.line_of("preset")):
        make_detector(name, preset=preset)
    if len(entry.mistakes) > n_before:
        preset = "balanced"  # the parameters are checked all the same
    given: dict[str, Any] = {}
    if "config" in entry.cells:
        with _noting(entry.mistakes, entry.line_of("config")):
            given = read_parameters(_place(root, entry.get("config")))
    lines = dict.fromkeys(given, entry.line_of("config"))
    given |= {key: cell.value for key, cell in entry.settings.items()}
    lines |= {key: cell.line for key, cell in entry.settings.items()}
    for key, value in given.items():
        with _noting(entry.mistakes, lines[key]):
            make_detector(name, preset=preset, parameters={key: value})
    seed = entry.get("seed", 0)
    if len(entry.mistakes) > n_before or seed < 0:
        return None, trains
    made = make_detector(name, preset=preset, parameters=given, seed=seed)
    with _noting(entry.mistakes, entry.line_of("detector")):
        made.require()
    return dict(made.get_parameters()), trains


def _check_numbers(entry: Entry, detector: str, *, trains: bool | None) -> None:
    with _noting(entry.mistakes, entry.line_of("false_alarms")):
        parts_needed(entry.get("false_alarms", 0.01))
    with _noting(entry.mistakes, entry.line_of("seed")):
        check_seed(entry.get("seed", 0))
    with _noting(entry.mistakes, entry.line_of("white_level")):
        full_scale(np.zeros((1, 1), np.uint16), entry.get("white_level"))
    device = entry.get("device", "auto")
    with _noting(entry.mistakes, entry.line_of("device")):
        Training(device=device)
        if trains is False and device not in ("auto", "cpu"):
            raise ConfigurationError(
                f"{detector} trains no network; the device is {device!r}; expected auto or cpu."
            )


def _check_name(entry: Entry, folder: Path, detector: str, taken: dict[str, int]) -> str:
    """Return a run's name, which no other run of the queue has."""
    given = entry.get("name")
    if given is None and "data" not in entry.cells:
        return f"line {entry.line}"
    stem = folder.stem if folder.suffix.lower() in {".csv", ".tsv"} else folder.resolve().name
    name = str(given or f"{stem or 'data'}-{detector}")
    line, how = entry.line_of("name"), "Choose another." if given else "Give the run a name."
    if problem := _not_plain(name):
        text = f"the name {name!r} cannot be used for a folder: {problem}. {how}"
        entry.mistakes.append(Mistake(line, text))
        return f"{name} (line {entry.line})"
    # Some file systems do not tell upper from lower case.
    before = taken.get(name.casefold())
    if before is not None:
        text = f"the run in line {before} has the name {name!r} too. {how}"
        entry.mistakes.append(Mistake(line, text))
        return f"{name} (line {entry.line})"
    taken[name.casefold()] = line
    return name


def _not_plain(name: str) -> str | None:
    wrong = sorted(set(name) & _FORBIDDEN) or [c for c in name if not c.isprintable()]
    if wrong:
        return f"it contains {wrong[0]!r}"
    if name[0] in ".-" or name[-1] in ". ":
        return "it begins with a dot or a dash, or ends with a dot"
    if name.casefold().partition(".")[0] in _RESERVED or name.casefold() in _RESERVED:
        return "the name is reserved"
    return f"it is longer than {_LONGEST} characters" if len(name) > _LONGEST else None


def _job(
    entry: Entry, root: Path, parts: PartSet, parameters: Mapping[str, Any], *, trains: bool
) -> Job:
    config, evaluate = entry.get("config"), entry.get("evaluate")
    asked: dict[str, Any] = {
        "false_alarms": entry.get("false_alarms", 0.01),
        "seed": entry.get("seed", 0),
        "device": entry.get("device", "auto"),
        "white_level": entry.get("white_level"),
        "skip_unreadable": entry.get("skip_unreadable", False),
    }
    # What defines a model, with defaults spelled out: preset and config file are in `parameters`.
    identity = {
        "data": os.path.normpath(entry.get("data")).replace(os.sep, "/"),
        "detector": entry.get("detector", "patchcore"),
        "parameters": dict(parameters),
        **asked,
    }
    text = json.dumps(identity, sort_keys=True, default=str)
    # Parts to evaluate on are a split test, or defective ones.
    is_labelled = any(part.split == "test" or not part.is_good for part in parts.test())
    return Job(
        data=_place(root, entry.get("data")).resolve(),
        preset=entry.get("preset", "balanced"),
        settings={key: cell.value for key, cell in entry.settings.items()},
        config=None if config is None else _place(root, config).resolve(),
        evaluate=is_labelled if evaluate is None else evaluate,
        trains=trains,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        **asked,
    )
