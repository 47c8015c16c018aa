"""Importing the runtimes, which would otherwise report what they do to those who make them."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

__all__ = ["import_onnxruntime", "import_openvino"]

_REPORTER, _SWITCH = "openvino_telemetry", "ORT_DISABLE_TELEMETRY"
_importing = threading.RLock()


def import_openvino() -> Any:
    """Import OpenVINO without the package that it would report itself with.

    Who needs that package can import it before and afterwards.
    """
    with _importing:
        before = sys.modules.get(_REPORTER)
        sys.modules[_REPORTER] = None  # type: ignore[assignment]  # its import fails
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[_REPORTER]
            if before is not None:
                sys.modules[_REPORTER] = before


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
