"""The runtimes of detectors whose score is no graph, looked up when a model asks: torch, PyOD."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import (
    ConfigurationError,
    MakellosError,
    MissingRuntimeError,
    ModelFileError,
    adding,
    suggest,
)
from makellos.inspection.engines import Engine, EngineChoice

__all__ = [
    "ExternalScoring",
    "check_parameters",
    "external_engines",
    "open_external_engine",
    "require_runtime",
]

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
            f"installed. Install it: {adding(_EXTRAS[package])}. Models of other "
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
    machine does not have and a detector that is not installed, `ModelFileError` for parameters and
    weights that are not the detector's.
    """
    known = external_engines(scoring.detector)
    if choice not in known:
        raise ConfigurationError(
            f"This machine has no engine {choice} for {scoring.detector}. "
            f"{suggest(str(choice), [str(engine) for engine in known])}"
        )
    from makellos.detectors import detector_class

    try:
        check_parameters(scoring.detector, scoring.parameters)
        return detector_class(scoring.detector).open_engine(scoring, shape, choice)
    except (ModelFileError, MissingRuntimeError):
        raise
    except Exception as error:
        # What NumPy, torch and PyOD raise of weights that are not theirs has no common base.
        reason = str(error) if isinstance(error, MakellosError) else f"{error!r:.200}"
        raise ModelFileError(
            f"The model's parameters and weights are none of {scoring.detector}: {reason} Fit the "
            "model again."
        ) from error


def check_parameters(detector: str, parameters: Mapping[str, Any]) -> None:
    """Raise `ModelFileError` for parameters that a detector does not take.

    Those of a detector that is not installed are left alone.
    """
    from makellos.detectors import detector_class

    with suppress(ConfigurationError):
        known = detector_class(detector).parameters
        for name, value in parameters.items():
            if name not in known or not known[name].accepts(value):
                raise ModelFileError(
                    f"The model says {name} {value!r:.80} of {detector}, which is not accepted. "
                    "Fit it again."
                )
