"""Importing the runtimes, which would otherwise report what they do to those who make them."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["import_onnxruntime", "import_openvino"]

_REPORTER, _SWITCH = "openvino_telemetry", "ORT_DISABLE_TELEMETRY"
_CONVERTER = "openvino.tools.ovc"
_importing = threading.RLock()


def import_openvino() -> Any:
    """Import OpenVINO without the package that it would report itself with.

    Who needs that package can import it before and afterwards. What converts models of other
    frameworks takes as long to import as all the rest, so it comes when it is first called.
    """
    with _importing:
        with _hidden(_REPORTER, _CONVERTER):
            openvino: Any = importlib.import_module("openvino")
        if not hasattr(openvino, "convert_model"):
            openvino.convert_model = _convert_model
        return openvino


def _convert_model(*given: Any, **named: Any) -> Any:
    """Convert a model as `openvino.convert_model` does, which this stands for."""
    with _importing, _hidden(_REPORTER):
        converter = importlib.import_module(_CONVERTER)
    return converter.convert_model(*given, **named)


@contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Make imports of modules fail inside the block, and have all as it was afterwards."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its reports switched off.

    Their switch is read at the import alone. Where another has imported it before, no report of
    what is done from here on is made.
    """
    with _importing:
        before = os.environ.get(_SWITCH)
        os.environ[_SWITCH] = "1"
        try:
            runtime = importlib.import_module("onnxruntime")
        finally:
            if before is None:
                del os.environ[_SWITCH]
            else:
                os.environ[_SWITCH] = before
    getattr(runtime, "disable_telemetry_events", lambda: None)()
    return runtime
