"""Where a model comes from, for the foot of a report."""

from __future__ import annotations

from makellos.inspection import Inspector
from makellos.inspection.manifest import Manifest

__all__ = [
    "calibrated_on",
    "first_of_lot",
    "learned_by",
    "learned_from",
    "promised",
    "provenance",
]


def provenance(inspector: Inspector) -> dict[str, str]:
    """Return what a model is and was made of, by what it is called."""
    manifest, calibration = inspector.manifest, inspector.calibration
    training = manifest.training
    changed = ", ".join(
        f"{name} {value}" for name, value in manifest.detector.parameters.items() if value != ""
    )
    covered: dict[str, list[str]] = {}
    for name, text in manifest.covered():
        covered.setdefault(name.capitalize(), []).append(text)
    return {
        "Model": inspector.model.path.name,
        "Detector": f"{manifest.detector.name} ({changed})",
        "Input size": str(manifest.preprocessing),
        **{name: "; ".join(texts) for name, texts in covered.items()},
        "Learned from": f"{learned_by(manifest)} of {training.data}",
        "Calibrated on": calibrated_on(manifest, calibration.n_groups),
        "Promise": manifest.promise(),
        "Threshold": "conformal, from good parts alone; no defective part was used",
        "Engine": str(inspector.engine),
        "Fitted": manifest.created,
        "Version": f"makellos {manifest.versions.get('makellos', 'unknown')}",
    }


def promised(inspector: Inspector) -> tuple[int, float, str] | None:
    """Return how many good parts or groups set the threshold, for which budget, and their name.

    None where recordings are judged, whose windows are counted, and where a lot is calibrated by
    its first good parts.
    """
    manifest = inspector.manifest
    if manifest.signal is not None or manifest.calibration.n_first:
        return None
    calibration = inspector.calibration
    unit = "good parts" if calibration.groups is None else "groups of good parts"
    return calibration.n_groups, calibration.false_alarms, unit


def learned_by(manifest: Manifest) -> str:
    """Say what a model learned from."""
    training = manifest.training
    if manifest.signal is not None:
        return f"{training.n_learned} windows of good recordings"
    return learned_from(training.n_learned, training.n_defective)


def calibrated_on(manifest: Manifest, n_groups: int) -> str:
    """Say what the calibration of a model counted, how many and how they were set aside."""
    record = manifest.calibration
    if record.n_first:
        name = f" {record.lot!r}" if record.lot else ""
        return f"{first_of_lot(record.n_first, record.n_lots)}: lot{name}"
    unit = "good parts" if manifest.calibration.groups is None else "groups of good parts"
    if manifest.signal is not None:
        unit = {"recordings": "good recordings", "blocks": "blocks of windows of good recordings"}[
            manifest.signal.calibrated_on
        ]
    grouping = manifest.training.grouping
    by = f" by {grouping}" if grouping and manifest.calibration.groups is not None else ""
    return f"{n_groups} {unit}{by}, {manifest.calibration.method}"


def first_of_lot(n_first: int, n_lots: int) -> str:
    """Say of how many parts of a lot, and of how many lots before it, a calibration comes."""
    return f"the first {n_first} good parts of a lot and what it has in common with {n_lots} others"


def learned_from(n_learned: int, n_defective: int) -> str:
    """Say how many good and defective parts were learned from."""
    if not n_defective:
        return f"{n_learned} good parts"
    return f"{n_learned - n_defective} good and {n_defective} defective parts"
