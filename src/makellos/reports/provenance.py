"""Where a model comes from, for the foot of a report."""

from __future__ import annotations

from makellos.inspection import Inspector
from makellos.inspection.manifest import TrainingRecord

__all__ = ["provenance"]


def provenance(inspector: Inspector) -> dict[str, str]:
    """Return what a model is and was made of, by what it is called."""
    manifest, calibration = inspector.manifest, inspector.calibration
    changed = ", ".join(
        f"{name} {value}" for name, value in manifest.detector.parameters.items() if value != ""
    )
    unit = "good parts" if calibration.groups is None else "groups of good parts"
    covered: dict[str, list[str]] = {}
    for name, text in manifest.covered():
        covered.setdefault(name.capitalize(), []).append(text)
    return {
        "Model": inspector.model.path.name,
        "Detector": f"{manifest.detector.name} ({changed})",
        "Input size": str(manifest.preprocessing),
        **{name: "; ".join(texts) for name, texts in covered.items()},
        "Learned from": f"{_learned_from(manifest.training)} of {manifest.training.data}",
        "Calibrated on": f"{calibration.n_groups} {unit}, {manifest.calibration.method}",
        "Threshold": "conformal, from good parts alone; no defective part was used for it",
        "Engine": str(inspector.engine),
        "Fitted": manifest.created,
        "Version": f"makellos {manifest.versions.get('makellos', 'unknown')}",
    }


def _learned_from(training: TrainingRecord) -> str:
    if not training.n_defective:
        return f"{training.n_learned} good parts"
    n_good = training.n_learned - training.n_defective
    return f"{n_good} good and {training.n_defective} defective parts"
