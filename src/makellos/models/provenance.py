"""Provenance: what a model was made of and with, and what its budget counts."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from makellos.calibration import Calibration, lots_larger_than
from makellos.data.parts import Part
from makellos.errors import InputError
from makellos.inspection.manifest import CalibrationRecord
from makellos.models.release import plain

__all__ = ["budget_notes", "contents", "fingerprint", "known", "library_versions"]

_SUM_LENGTH = 12  # hexadecimal digits; two of a million files agree by chance once in 500 sets

_FIRST_OF_LOT = 20

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
        held = part.path.read_bytes() if part.element is None else part.element.content()
        digest.update(plain(part.name).encode() + b"\0" + hashlib.sha256(held).digest())
    return digest.hexdigest()


def contents(parts: Sequence[Part]) -> str:
    """Return what the parts' files hold as one text: the beginnings of SHA-256 sums, in order."""
    return "".join(sorted({_content(part) for part in parts}))


def known(parts: Sequence[Part], *recorded: str) -> list[Part]:
    """Return the parts whose files hold what `contents` recorded, whatever they are called now.

    One that cannot be opened is not known.
    """
    sums = {
        text[at : at + _SUM_LENGTH] for text in recorded for at in range(0, len(text), _SUM_LENGTH)
    }
    found = []
    for part in parts if sums else ():
        with suppress(OSError, InputError):
            # A pipe or a device has no end.
            found += [part] if part.path.is_file() and _content(part) in sums else []
    return found


def _content(part: Part) -> str:
    if part.element is not None:
        return hashlib.sha256(part.element.content()).hexdigest()[:_SUM_LENGTH]
    with part.path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    # Pieces of one file are parts of their own.
    digest.update(part.piece.encode(errors="replace"))
    return digest.hexdigest()[:_SUM_LENGTH]


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model depends on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def budget_notes(calibration: Calibration, counted: str, record: CalibrationRecord) -> list[str]:
    """Return a sentence when the budget asked for cannot be promised, and what it takes."""
    if calibration.keeps_budget:
        return []
    if record.n_first:
        n_needed = math.ceil(1 / (calibration.asked * (record.n_lots + 1)) - 1e-9) - 1
        return [
            f"A false-alarm budget of {calibration.asked:g} needs the first {n_needed} good parts "
            f"of a lot and as many of {record.n_lots} earlier lots; {record.n_first} of it can "
            f"promise {calibration.false_alarms:.3g}. The model uses "
            f"{calibration.false_alarms:.3g}. Run 'makellos calibrate' with more good parts of the "
            "lot."
        ]
    unit = {"groups": "groups of good parts"}.get(counted, f"good {counted}")
    return [
        f"A false-alarm budget of {calibration.asked:g} needs {calibration.n_needed} "
        f"{unit} for calibration; there are {calibration.n_groups}, which {_counting(calibration)}"
        "can promise "
        f"{calibration.false_alarms:.3g}. The model uses {calibration.false_alarms:.3g}. Add good "
        f"{'recordings' if counted == 'windows' else 'parts' if counted == 'groups' else counted} "
        "and run 'makellos calibrate', or fit again.",
        *_lot_hints(calibration, counted),
    ]


def _counting(calibration: Calibration) -> str:
    """Say as how many parts all count, where they have weights."""
    if calibration.weights is None:
        return ""
    return f"by their weights count as {calibration.n_effective:.0f} and "


def _lot_hints(calibration: Calibration, counted: str) -> list[str]:
    """Say what the first parts of a lot would buy where groups are large enough for that."""
    n_lots = lots_larger_than(_FIRST_OF_LOT, calibration.groups) if counted == "groups" else 0
    if n_lots < 2:
        return []
    promised = 1 / ((n_lots + 1) * (_FIRST_OF_LOT + 1))
    return [
        f"At the start of a lot, 'makellos calibrate MODEL LOT' with {_FIRST_OF_LOT} good parts of "
        f"it in the folder LOT can promise {promised:.2g} for that lot."
    ]
