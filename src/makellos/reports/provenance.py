"""Where a model comes from, for the foot of a report."""

from __future__ import annotations

from makellos.inspection import Inspector
from makellos.inspection.manifest import CalibrationRecord, Manifest

__all__ = [
    "calibrated_on",
    "first_of_lot",
    "guarantee_of",
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
        "Guarantee": guarantee_of(manifest.calibration),
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
    unit = "good parts" if record.groups is None else "groups of good parts"
    if manifest.signal is not None:
        unit = {"recordings": "good recordings", "blocks": "blocks of windows of good recordings"}[
            manifest.signal.calibrated_on
        ]
    grouping = manifest.training.grouping
    by = f" by {grouping}" if grouping and record.groups is not None else ""
    counting = ""
    if record.weights is not None:
        counting = f", which count as {record.calibration().n_effective:.0f}"
    return f"{n_groups} {unit}{by}, {record.method}{counting}"


def guarantee_of(record: CalibrationRecord) -> str:
    """Say what the promise of a calibration rests on, and what it does not."""
    if record.method == "cross-fitted":
        return (
            "kept in measurements, but not a theorem: the parts that calibrate were scored by "
            "detectors that had not seen them, while the final one has learned from all"
        )
    if record.method == "first parts of a lot":
        return "a theorem on average over lots, if lots and the parts in each are exchangeable"
    if record.weights is not None:
        old = sum(weight for weight in record.weights if weight < 1) / sum(record.weights)
        if not old:
            return "a theorem if new and earlier parts are alike; all of them count the same"
        return (
            f"a theorem for parts like the newest; earlier ones have {old:.0%} of the weight, and "
            "the further they differ, the more may be rejected"
        )
    unit = "parts of new groups like" if record.groups is not None else "parts like"
    return f"a theorem, on average over calibrations, for {unit} those that calibrated"


def first_of_lot(n_first: int, n_lots: int) -> str:
    """Say of how many parts of a lot, and of how many lots before it, a calibration comes."""
    return f"the first {n_first} good parts of a lot and what it has in common with {n_lots} others"


def learned_from(n_learned: int, n_defective: int) -> str:
    """Say how many good and defective parts were learned from."""
    if not n_defective:
        return f"{n_learned} good parts"
    return f"{n_learned - n_defective} good and {n_defective} defective parts"
