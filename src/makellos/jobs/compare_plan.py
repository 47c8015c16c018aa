"""The plan of a comparison: detectors to fit and models to take, checked before the first fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from makellos.calibration import parts_needed
from makellos.data.parts import PartSet
from makellos.data.splits import check_seed
from makellos.detectors import make_detector
from makellos.detectors.loading import require_packages
from makellos.errors import ConfigurationError, InputError, suggest
from makellos.subjects import find_parts

__all__ = ["Entry", "Plan", "make_plan"]

MODEL_SUFFIX = ".makellos"
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Hold one that is compared: a detector to fit, or the model file in `model`.

    `name` is what tables call it, `folder` the name of its folder in the output.
    """

    name: str
    folder: str
    detector: str = ""
    preset: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Hold a checked comparison."""

    data: Path
    entries: tuple[Entry, ...]
    false_alarms: float
    seed: int
    against: str | None


def make_plan(
    data: Path | str,
    detectors: Sequence[str],
    *,
    models: Sequence[Path | str] = (),
    preset: str = "balanced",
    parameters: Settings | None = None,
    false_alarms: float = 0.01,
    seed: int = 0,
    against: str | None = None,
) -> Plan:
    """Check what is to be compared; nothing is fitted and no picture opened.

    `detectors` are names, ``NAME:PRESET`` or model files; `parameters` go by detector or by
    ``NAME:PRESET``. Raises `ConfigurationError` for names and values that are not accepted or fewer
    than two to compare, `InputError` for data without test parts, or without good parts to learn
    from.
    """
    check_seed(seed)
    parts_needed(false_alarms)
    given = [str(name) for name in (*detectors, *models)]
    is_model = [_is_model(name) for name in given[: len(detectors)]] + [True] * len(models)
    settings = parameters or {}
    _check_settings(settings, [n for n, model in zip(given, is_model, strict=True) if not model])
    entries: list[Entry] = []
    for name, model in zip(given, is_model, strict=True):
        entry = _model_entry(name) if model else _entry(name, preset, settings, seed)
        entries.append(_with_own_name(entry, entries))
    if len(entries) < 2:
        named = f"{given[0]!r} alone" if given else "none"
        raise ConfigurationError(
            f"A comparison takes at least two; received {named}. Name detectors or model files, "
            "such as --detectors patchcore,padim. 'makellos detectors' lists the detectors."
        )
    names = [entry.name for entry in entries]
    if against is not None and against not in names:
        raise ConfigurationError(f"{against!r} is not compared. {suggest(against, names)}")
    _check_parts(find_parts(data), data, fits=any(entry.model is None for entry in entries))
    return Plan(
        data=Path(data),
        entries=tuple(entries),
        false_alarms=false_alarms,
        seed=seed,
        against=against,
    )


def _is_model(name: str) -> bool:
    return name.endswith(MODEL_SUFFIX) or Path(name).is_file()


def _model_entry(name: str) -> Entry:
    path = Path(name)
    if not path.is_file():
        raise InputError(f"The model {name} does not exist. Give a file that 'makellos fit' wrote.")
    return Entry(name=path.stem, folder=path.stem, model=path)


def _entry(name: str, preset: str, settings: Settings, seed: int) -> Entry:
    detector, colon, own = name.partition(":")
    chosen = own if colon else preset
    parameters = {**settings.get(detector, {}), **(settings.get(name, {}) if colon else {})}
    made = make_detector(detector, preset=chosen, parameters=parameters, seed=seed)
    require_packages(*made.packages())
    return Entry(
        name=name,
        folder=name.replace(":", "-"),
        detector=detector,
        preset=chosen,
        parameters=parameters,
    )


def _with_own_name(entry: Entry, before: Sequence[Entry]) -> Entry:
    """Return an entry whose name and folder no other has; the same detector twice is refused."""
    # Some file systems do not tell upper from lower case.
    taken = {other.folder.casefold() for other in before}
    if entry.folder.casefold() not in taken:
        return entry
    if entry.model is None or any(other.model == entry.model for other in before):
        raise ConfigurationError(
            f"{entry.name} is named twice. Name each once; presets tell them apart, such as "
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
                f"A parameter is set for {name!r}, which is not compared. {suggest(name, known)}"
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
