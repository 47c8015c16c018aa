"""What every detector is: parameters as data, `fit`, a graph; and the registry of detectors."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from makellos.data.parts import Part
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, InputError, NotFittedError, suggest
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing

__all__ = ["Detector", "Graph", "Parameter", "Progress", "detector_class", "detectors", "register"]

Value = int | float | str | bool


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Declare a detector's parameter: default, accepted range or choices, and meaning."""

    default: Value
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        """Return a phrase that says which values are accepted."""
        if self.choices:
            return " or ".join(repr(choice) for choice in self.choices)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        bounds = [f"at least {self.low:g}"] if self.low is not None else []
        bounds += [f"at most {self.high:g}"] if self.high is not None else []
        return ", ".join([kind[type(self.default)], *bounds])

    def accepts(self, value: object) -> bool:
        """Tell whether `value` has the kind of the default and lies in the range."""
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (self.choices and value not in self.choices):
            return False
        if not isinstance(value, int | float):
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def parse(self, text: str) -> Value:
        """Return the value that a user typed; raises `ValueError` when it is of another kind."""
        kind = type(self.default)
        if kind is bool:
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if text.lower() not in words:
                raise ValueError(text)
            return words[text.lower()]
        return kind(text)


@dataclass(frozen=True)
class Graph:
    """Hold a fitted detector as an ONNX graph, and what surrounds it.

    `onnx` maps ``picture`` N×C×H×W float32 in [0, 1] to ``anomaly_map`` N×h×w (or ``score`` N);
    normalisation is inside. Higher is more anomalous.
    """

    onnx: bytes
    preprocessing: Preprocessing
    aggregation: Aggregation


class Detector(ABC):
    """Learn what good parts look like and give a graph that scores new ones.

    Constructors take keyword-only values and only store them; `fit` checks them. Learned
    attributes end in ``_``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    parameters: ClassVar[Mapping[str, Parameter]]
    presets: ClassVar[Mapping[str, Mapping[str, Value]]] = {}
    needs_labels: ClassVar[bool] = False

    def get_parameters(self) -> dict[str, Value]:
        """Return the parameters this detector was made with, by name."""
        return {name: getattr(self, name) for name in self.parameters}

    def fit(self, parts: Sequence[Part], *, progress: Progress | None = None) -> Self:
        """Learn from good parts and return self; what an earlier fit learned is forgotten.

        `progress` is called with what is being done, how much is done and of how much. Raises
        `ConfigurationError` for parameters out of range, `InputError` for too few parts and
        pictures that cannot be read.
        """
        self._begin(parts)
        with self._all_or_nothing():
            self._learn(parts, progress or no_progress)
        return self

    def cross_fit(
        self, parts: Sequence[Part], folds: Sequence[int], *, progress: Progress | None = None
    ) -> list[Graph]:
        """Fit on all parts, and return for each fold a graph that has not seen its parts.

        `folds` (n,) numbers the fold of each part from 0. Detectors that can share work between
        folds override this; here each fold costs a fit of its own. Raises as `fit` does, and
        `InputError` when a fold holds all parts.
        """
        check_folds(parts, folds)
        report = progress or no_progress
        graphs = []
        for fold in range(max(folds) + 1):
            rest = [part for part, number in zip(parts, folds, strict=True) if number != fold]
            label = f"cross-fit {fold + 1}: "
            other = type(self)(**self.get_parameters())
            other.fit(rest, progress=lambda w, d, t, label=label: report(label + w, d, t))  # type: ignore[misc]
            graphs.append(other.graph())
        self.fit(parts, progress=report)
        return graphs

    def graph(self) -> Graph:
        """Return the fitted detector as a graph; raises `NotFittedError` before `fit`."""
        if not any(name.endswith("_") for name in vars(self)):
            raise NotFittedError(
                f"This {self.name} has learned nothing yet. Call fit(parts) first."
            )
        return self._build_graph()

    def _forget(self) -> None:
        for learned in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, learned)

    def _begin(self, parts: Sequence[Part]) -> None:
        """Check parameters and parts, and forget what was learned."""
        for name, parameter in self.parameters.items():
            value = getattr(self, name)
            if not parameter.accepts(value):
                raise ConfigurationError(
                    f"{self.name}: {name} is {value!r}; accepted is {parameter.accepted}."
                )
        if len(parts) < 2:
            raise InputError(
                f"{self.name} learns from at least 2 good parts and received {len(parts)}. "
                "Add pictures of good parts; 100 and more make small false-alarm budgets possible."
            )
        self._forget()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Forget what was learned when learning breaks off: half of it is worse than nothing."""
        try:
            yield
        except BaseException:
            self._forget()
            raise

    @abstractmethod
    def _learn(self, parts: Sequence[Part], progress: Progress) -> None: ...

    @abstractmethod
    def _build_graph(self) -> Graph: ...


def check_folds(parts: Sequence[Part], folds: Sequence[int]) -> None:
    """Raise `InputError` unless each part has a fold and each fold leaves parts outside."""
    if len(folds) != len(parts) or (len(folds) and min(folds) < 0):
        raise InputError(
            f"{len(parts)} parts have {len(folds)} folds; give each part the number of its fold, "
            "from 0."
        )
    if len(set(folds)) < 2:
        raise InputError(
            f"{len(parts)} parts lie in {len(set(folds))} fold; at least 2 are needed, so that "
            "each fold has parts outside of it to learn from."
        )


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
    package = importlib.import_module("makellos.detectors")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg:
            importlib.import_module(f"makellos.detectors.{module.name}")
    return dict(sorted(_registry.items()))


def detector_class(name: str) -> type[Detector]:
    """Return the detector registered as `name`; unknown names get a suggestion."""
    known = detectors()
    if name not in known:
        raise ConfigurationError(f"There is no detector {name!r}. {suggest(name, known)}")
    return known[name]


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
            raise ConfigurationError(
                f"{name} has no parameter {key!r}. {suggest(key, cls.parameters)}"
            )
        values[key] = _value(name, key, value, cls.parameters[key])
    return cls(**values)


def _value(detector: str, key: str, value: object, parameter: Parameter) -> Value:
    try:
        parsed = parameter.parse(value) if isinstance(value, str) else value
    except ValueError:
        parsed = value
    if not parameter.accepts(parsed):
        raise ConfigurationError(
            f"{detector}: {key} is {value!r}; accepted is {parameter.accepted}. {parameter.meaning}"
        )
    return parsed  # type: ignore[return-value]
