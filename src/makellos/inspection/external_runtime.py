"""The runtimes of detectors whose score is no graph, looked up when a model asks: torch, PyOD."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, MissingRuntimeError, suggest
from makellos.inspection.engines import Engine, EngineChoice

__all__ = ["ExternalScoring", "external_engines", "open_external_engine", "require_runtime"]

_EXTRAS = {"torch": "train", "pyod": "signals"}


@dataclass(frozen=True)
class ExternalScoring:
    """Hold what scores parts where a score is no graph: AnoGAN's search with torch, PyOD.

    `weights` are float32 arrays by name; the detector's `open_engine` takes it back.
    """

    detector: str
    parameters: Mapping[str, Any]
    weights: Mapping[str, NDArray[np.float32]]


def require_runtime(detector: str, package: str) -> None:
    """Raise `MissingRuntimeError` where a package is not installed that `detector` scores with."""
    if importlib.util.find_spec(package) is None:
        raise MissingRuntimeError(
            f"A model of the detector {detector} needs {package} to inspect, and that is not "
            f"installed. Install it: pip install 'makellos[{_EXTRAS[package]}]'. Models of other "
            "detectors work without it."
        )


def external_engines(detector: str) -> tuple[EngineChoice, ...]:
    """Return the precisions that a detector's own runtime computes in here, the fastest first.

    Raises `MissingRuntimeError` where torch, or PyOD, is not installed; `detector` is named in it.
    """
    from makellos.detectors import detector_class

    found = detector_class(detector)
    if found.runtime != "graph":
        require_runtime(detector, found.runtime)
    return found.engines()


def open_external_engine(
    scoring: ExternalScoring, shape: tuple[int, ...], choice: EngineChoice
) -> Engine:
    """Return what scores parts of C, H, W, or of F features, by a detector's own means.

    Raises `MissingRuntimeError` without its runtime, `ConfigurationError` for an engine that this
    machine does not have and a detector that is not installed.
    """
    known = external_engines(scoring.detector)
    if choice not in known:
        raise ConfigurationError(
            f"This machine has no engine {choice} for {scoring.detector}. "
            f"{suggest(str(choice), [str(engine) for engine in known])}"
        )
    from makellos.detectors import detector_class

    return detector_class(scoring.detector).open_engine(scoring, shape, choice)
