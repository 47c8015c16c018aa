"""The registry: every detector by its name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from makellos.detectors.contract import Detector
from makellos.detectors.parameters import Parameter, Value, called_here
from makellos.errors import ConfigurationError, suggest

__all__ = [
    "detector_class",
    "detectors",
    "detectors_giving",
    "make_detector",
    "no_parameter",
    "register",
]

_registry: dict[str, type[Detector]] = {}


def register(name: str) -> Callable[[type[Detector]], type[Detector]]:
    """Register a detector class under `name`.

    Raises `ConfigurationError` when the name is taken, or when the constructor and the declared
    parameters differ.
    """

    def add(cls: type[Detector]) -> type[Detector]:
        if name in _registry:
            raise ConfigurationError(f"Detector {name!r} is registered twice. Choose another name.")
        defaults = {
            key: value.default
            for key, value in inspect.signature(cls).parameters.items()
            if value.kind is inspect.Parameter.KEYWORD_ONLY
        }
        if defaults != {key: value.default for key, value in cls.parameters.items()}:
            raise ConfigurationError(f"{name}: constructor and declared parameters differ.")
        cls.name = name
        _registry[name] = cls
        return cls

    return add


def detectors() -> dict[str, type[Detector]]:
    """Return the registered detector classes by name."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.ispkg:
            importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_registry.items()))


def detector_class(name: str) -> type[Detector]:
    """Return the detector registered as `name`; unknown names get a suggestion."""
    known = detectors()
    if name not in known:
        raise ConfigurationError(f"There is no detector {name!r}. {suggest(name, known)}")
    return known[name]


def detectors_giving(what: str) -> list[str]:
    """Return the names of the detectors that say in `gives` that their graphs hold something."""
    return [name for name, cls in detectors().items() if what in cls.gives]


def make_detector(
    name: str,
    *,
    preset: str = "balanced",
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Detector:
    """Return a detector with a preset's parameters, overridden by `parameters`.

    Values given as text are parsed as declared. Raises `ConfigurationError` for unknown names and
    values that are not accepted.
    """
    cls = detector_class(name)
    if preset != "balanced" and preset not in cls.presets:
        raise ConfigurationError(
            f"There is no preset {preset!r}. {suggest(preset, {'balanced', *cls.presets})}"
        )
    values: dict[str, Any] = dict(cls.presets.get(preset, {}))
    if "seed" in cls.parameters:
        values["seed"] = seed
    for key, value in (parameters or {}).items():
        if key not in cls.parameters:
            raise no_parameter(cls, key)
        values[key] = _value(name, key, value, cls.parameters[key])
    return cls(**values)


def no_parameter(cls: type[Detector], key: str) -> ConfigurationError:
    """Return the error for a parameter that a detector lacks: what it is called, or who has it."""
    said = f"{cls.name} has no parameter {key!r}"
    meant = called_here(key, cls.parameters)
    if len(meant) == 1:
        meaning = cls.parameters[meant[0]].meaning
        return ConfigurationError(
            f"{said}; it is called {meant[0]!r} here: {meaning} "
            f"All of them: makellos detectors {cls.name}"
        )
    if meant:
        *others, last = map(repr, meant)
        return ConfigurationError(
            f"{said}; what comes nearest here is {', '.join(others)} or {last}. "
            f"What they mean: makellos detectors {cls.name}"
        )
    owners = [name for name, other in _registry.items() if key in other.parameters]
    of = f"; it is a parameter of {', '.join(sorted(owners))}" if owners else ""
    return ConfigurationError(f"{said}{of}. {suggest(key, cls.parameters)}")


def _value(detector: str, key: str, value: object, parameter: Parameter) -> Value:
    try:
        parsed = parameter.parse(value) if isinstance(value, str) else value
    except ValueError:
        parsed = value
    if not parameter.accepts(parsed):
        raise ConfigurationError(
            f"{detector}: {key} is {value!r}; expected {parameter.accepted}. {parameter.meaning}"
        )
    return parsed  # type: ignore[return-value]
