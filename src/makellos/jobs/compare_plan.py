"""The plan of a comparison: detectors to fit and models to take, checked before the first fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from makellos.calibration import parts_needed
from makellos.data.array_sets import Keys
from makellos.data.few import check_n_good
from makellos.data.parts import PartSet
from makellos.data.splits import check_seed
from makellos.detectors import detector_class, make_detector
from makellos.errors import ConfigurationError, InputError, suggest
from makellos.subjects import find_parts

__all__ = ["Asked", "Entry", "Plan", "Settings", "make_plan"]

MODEL_SUFFIX = ".makellos"
_MOST_DRAWS = 100
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Hold one that is compared: a detector to fit, or the model file in `model`.

    `name` is what tables call it, `folder` the name of its folder in the output. `n_good` good
    parts are drawn for the fit, for the `draw`-th time from 0; None where all are learned from.
    """

    name: str
    folder: str
    detector: str = ""
    preset: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: Path | None = None
    n_good: int | None = None
    draw: int = 0

    @property
    def ranks_only(self) -> bool:
        """Tell whether it learns from too few parts to be calibrated."""
        if self.n_good is None:
            return False
        return self.n_good <= detector_class(self.detector).least_parts


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Say how detectors are fitted; `parameters` go by detector or by ``NAME:PRESET``.

    With `n_good` each is fitted from so many good parts, `draws` times for each number.
    `good` and `keys` say how the data are read, as in `find_parts`.
    """

    preset: str = "balanced"
    parameters: Settings = field(default_factory=dict)
    false_alarms: float = 0.01
    seed: int = 0
    n_good: tuple[int, ...] = ()
    draws: int = 3
    good: tuple[str, ...] = ()
    keys: Keys = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold a checked comparison."""

    data: Path
    entries: tuple[Entry, ...]
    asked: Asked
    against: str | None


def make_plan(
    data: Path | str,
    detectors: Sequence[str],
    models: Sequence[Path | str],
    asked: Asked,
    against: str | None,
) -> Plan:
    """Check what is to be compared; nothing is fitted and no picture opened.

    `detectors` are names, ``NAME:PRESET`` or model files. Raises `ConfigurationError` for names and
    values that are not accepted or fewer than two to compare, `InputError` for data without test
    parts, or without good parts to learn from.
    """
    check_seed(asked.seed)
    parts_needed(asked.false_alarms)
    given = [str(name) for name in (*detectors, *models)]
    is_model = [
        name.endswith(MODEL_SUFFIX) or Path(name).is_file() for name in given[: len(detectors)]
    ] + [True] * len(models)
    fitted = [name for name, model in zip(given, is_model, strict=True) if not model]
    _check_settings(asked.parameters, fitted)
    entries: list[Entry] = []
    for name, model in zip(given, is_model, strict=True):
        entry = _model_entry(name) if model else _entry(name, asked)
        entries.append(_with_own_name(entry, entries))
    parts = find_parts(data, good=asked.good, keys=asked.keys)
    if asked.n_good:
        entries = _few(entries, asked, parts)
    if len(entries) < 2:
        named = f"only {given[0]!r}" if given else "none"
        raise ConfigurationError(
            f"A comparison needs at least two; received {named}. Name detectors or model files, "
            "such as --detectors patchcore,padim. 'makellos detectors' lists the detectors."
        )
    names = [entry.name for entry in entries]
    if against is not None and against not in names:
        raise ConfigurationError(f"{against!r} is not in the comparison. {suggest(against, names)}")
    _check_parts(parts, data, fits=bool(fitted))
    return Plan(data=Path(data), entries=tuple(entries), asked=asked, against=against)


def _model_entry(name: str) -> Entry:
    path = Path(name)
    if not path.is_file():
        raise InputError(f"The model {name} does not exist. Give a file that 'makellos fit' wrote.")
    return Entry(name=path.stem, folder=path.stem, model=path)


def _entry(name: str, asked: Asked) -> Entry:
    detector, colon, own = name.partition(":")
    chosen = own if colon else asked.preset
    parameters = {**asked.parameters.get(detector, {}), **asked.parameters.get(name, {})}
    made = make_detector(detector, preset=chosen, parameters=parameters, seed=asked.seed)
    made.require()
    return Entry(
        name=name,
        folder=name.replace(":", "-"),
        detector=detector,
        preset=chosen,
        parameters=parameters,
    )


def _few(entries: Sequence[Entry], asked: Asked, parts: PartSet) -> list[Entry]:
    """Return an entry for each number of good parts and each draw; model files stay as they are."""
    if not 1 <= asked.draws <= _MOST_DRAWS:
        raise ConfigurationError(
            f"The number of draws is {asked.draws}; expected 1 to {_MOST_DRAWS}."
        )
    n_known = sum(part.is_good and part.split != "test" for part in parts)
    for n_good in asked.n_good:
        check_n_good(n_good, n_known, parts.root)
    found = [entry for entry in entries if entry.model is not None]
    for entry in entries:
        for n_good in () if entry.model else sorted(set(asked.n_good)):
            for draw in range(asked.draws):
                name = f"{entry.name}, {n_good} good, draw {draw + 1}"
                folder = f"{entry.folder}-{n_good}-good-{draw + 1}"
                found.append(replace(entry, name=name, folder=folder, n_good=n_good, draw=draw))
    return found


def _with_own_name(entry: Entry, before: Sequence[Entry]) -> Entry:
    """Return an entry whose name and folder no other has; the same detector twice is refused."""
    # Some file systems do not tell upper from lower case.
    taken = {other.folder.casefold() for other in before}
    if entry.folder.casefold() not in taken:
        return entry
    if entry.model is None or any(other.model == entry.model for other in before):
        raise ConfigurationError(
            f"{entry.name} is named twice. Name each once; presets can tell them apart, such as "
            "patchcore:fast,patchcore:accurate."
        )
    names = (f"{entry.name}-{n}" for n in range(2, len(before) + 3))
    name = next(name for name in names if name.casefold() not in taken)
    return Entry(name=name, folder=name, model=entry.model)


def _check_settings(settings: Settings, names: Sequence[str]) -> None:
    known = {*names, *(name.partition(":")[0] for name in names)}
    for name in settings:
        if name not in known:
            raise ConfigurationError(
                f"A parameter is set for {name!r}, which is not in the comparison. "
                f"{suggest(name, known)}"
            )


def _check_parts(parts: PartSet, data: Path | str, *, fits: bool) -> None:
    if not parts.test():
        raise InputError(
            f"{data} has no test parts ({parts.layout}). Put them into test/good and "
            "test/<defect>, or give rows of a manifest the split 'test'."
        )
    if fits and not parts.good():
        raise InputError(
            f"{data} has no good parts to learn from ({parts.layout}). Put them into train/good."
        )
