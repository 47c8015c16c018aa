"""Provenance: what a model was made of and with, and what its budget counts."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from makellos.calibration import Calibration
from makellos.data.parts import Part
from makellos.models.release import plain

__all__ = ["budget_notes", "fingerprint", "library_versions"]

_LIBRARIES = (
    "makellos",
    "numpy",
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pyod",
    "scikit-learn",
    "scipy",
    "torch",
    "timm",
)


def fingerprint(parts: Sequence[Part]) -> str:
    """Return the SHA-256 over names and contents of the parts' files, in the order of names."""
    digest = hashlib.sha256()
    for part in sorted(parts, key=lambda part: part.name):
        digest.update(
            plain(part.name).encode() + b"\0" + hashlib.sha256(part.path.read_bytes()).digest()
        )
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model depends on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def budget_notes(calibration: Calibration, counted: str) -> list[str]:
    """Return a sentence when the budget asked for cannot be promised, and what it takes."""
    if calibration.keeps_budget:
        return []
    unit = {"groups": "groups of good parts"}.get(counted, f"good {counted}")
    return [
        f"A false-alarm budget of {calibration.asked:g} needs {calibration.n_needed} "
        f"{unit} for calibration; there are {calibration.n_groups}, which can promise "
        f"{calibration.false_alarms:.3g}. The model uses {calibration.false_alarms:.3g}. Add good "
        f"{'recordings' if counted == 'windows' else 'parts' if counted == 'groups' else counted} "
        "and run 'makellos calibrate', or fit again."
    ]
