"""Provenance: what a model was made of and with, and what its budget counts."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from makellos.calibration import Calibration, lots_larger_than
from makellos.data.parts import Part
from makellos.errors import InputError
from makellos.inspection.manifest import CalibrationRecord, Manifest, TrainingRecord
from makellos.models.release import plain

__all__ = [
    "Contents",
    "budget_notes",
    "contents",
    "contents_of",
    "fingerprint",
    "identity",
    "known",
    "library_versions",
    "seen_before",
]

_SUM_LENGTH = 12  # hexadecimal digits; two of a million files agree by chance once in 500 sets

_FIRST_OF_LOT = 20
_DECIDES = {
    *("detector", "preprocessing", "aggregation", "engine", "calibration", "classes", "signal"),
    *("tiling", "zones", "acceptance", "background"),
}

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
    sums = _split("".join(recorded))
    found = []
    for part in parts if sums else ():
        with suppress(OSError, InputError):
            # A pipe or a device has no end.
            found += [part] if part.path.is_file() and _content(part) in sums else []
    return found


@dataclass(frozen=True)
class Contents:
    """Hold what a set of parts is, whatever they are called and in which order they come.

    `fingerprint` is a SHA-256 over contents and labels, `sums` has the beginning of that of each
    part's content, in order.
    """

    fingerprint: str
    sums: tuple[str, ...]

    def shared(self, recorded: str) -> int:
        """Return how many of the parts are among those that `contents` recorded."""
        known_sums = _split(recorded)
        return sum(each in known_sums for each in self.sums)


def contents_of(parts: Sequence[Part]) -> Contents:
    """Return what a set is by contents and labels; files that cannot be opened are left out."""
    rows = []
    for part in parts:
        with suppress(OSError, InputError):
            if part.element is not None or part.path.is_file():
                rows.append((_whole_sum(part), plain(part.label)))
    digest = hashlib.sha256("".join(f"{sum_} {label}\n" for sum_, label in sorted(rows)).encode())
    return Contents(digest.hexdigest(), tuple(sorted(sum_[:_SUM_LENGTH] for sum_, _ in rows)))


def identity(manifest: Manifest) -> str:
    """Return the SHA-256 of what decides a model's verdicts.

    Two files have the same that give the same verdicts for the same reasons, whatever was noted in
    them and when they were written.
    """
    aside = {each.file for each in manifest.golden} | set(manifest.examples)
    members = {n: each.sha256 for n, each in manifest.members.items() if n not in aside}
    # What a later version adds has a default, with which it changes no verdict.
    decides = manifest.model_dump_json(include=_DECIDES, exclude_defaults=True)
    return hashlib.sha256(f"{decides}{sorted(members.items())}".encode()).hexdigest()


def seen_before(parts: Sequence[Part], training: TrainingRecord) -> tuple[list[Part], list[Part]]:
    """Return the parts that a model learned from, and others that set its threshold."""
    learned, aside = known(parts, training.contents), known(parts, training.set_aside)
    if not training.contents and _fitted_on(parts, training.fingerprint):
        learned = list(parts)
    names = {part.name for part in learned}
    return learned, [part for part in aside if part.name not in names]


def _fitted_on(parts: Sequence[Part], recorded: str) -> bool:
    """Tell whether these are the parts of the fit, where a model keeps one sum of all alone."""
    try:
        return recorded in (fingerprint([p for p in parts if p.is_good]), fingerprint(parts))
    except OSError:
        return False  # a file that cannot be opened is named among the unreadable ones


def _split(recorded: str) -> set[str]:
    return {recorded[at : at + _SUM_LENGTH] for at in range(0, len(recorded), _SUM_LENGTH)}


def _content(part: Part) -> str:
    return _whole_sum(part)[:_SUM_LENGTH]


def _whole_sum(part: Part) -> str:
    if part.element is not None:
        return hashlib.sha256(part.element.content()).hexdigest()
    with part.path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    # Pieces of one file are parts of their own.
    digest.update(part.piece.encode(errors="replace"))
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
