"""The runtime of detectors whose score is no graph: torch, looked up when a model asks for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, MissingRuntimeError, suggest
from makellos.inspection.engines import Engine, EngineChoice

__all__ = ["open_torch_engine", "torch_engines"]


def torch_engines(detector: str) -> tuple[EngineChoice, ...]:
    """Return the precisions that torch computes in here, the fastest first.

    Raises `MissingRuntimeError` where torch is not installed; `detector` is named in it.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingRuntimeError(
            f"A model of the detector {detector} is inspected with torch, which is not installed. "
            "Install it: pip install 'makellos[train]'. Models of other detectors work without."
        )
    from makellos.detectors import detector_class

    return detector_class(detector).engines()


def open_torch_engine(
    detector: str,
    parameters: Mapping[str, Any],
    weights: Mapping[str, NDArray[np.float32]],
    shape: tuple[int, ...],
    choice: EngineChoice,
) -> Engine:
    """Return what scores parts of C, H, W by a detector's own search.

    Raises `MissingRuntimeError` without torch, `ConfigurationError` for an engine that this
    machine does not have and a detector that is not installed.
    """
    known = torch_engines(detector)
    if choice not in known:
        raise ConfigurationError(
            f"This machine has no engine {choice} for {detector}. "
            f"{suggest(str(choice), [str(engine) for engine in known])}"
        )
    from makellos.detectors import detector_class

    return detector_class(detector).open_engine(parameters, weights, shape, choice)
