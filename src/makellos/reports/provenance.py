"""Where a model comes from, for the foot of a report."""

from __future__ import annotations

from makellos.inspection import Inspector

__all__ = ["learned_from", "provenance"]


def provenance(inspector: Inspector) -> dict[str, str]:
    """Return what a model is and was made of, by what it is called."""
    manifest, calibration = inspector.manifest, inspector.calibration
    training = manifest.training
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
        "Learned from": f"{learned_from(training.n_learned, training.n_defective)} of "
        f"{training.data}",
        "Calibrated on": f"{calibration.n_groups} {unit}, {manifest.calibration.method}",
        "Threshold": "conformal, from good parts alone; no defective part was used",
        "Engine": str(inspector.engine),
        "Fitted": manifest.created,
        "Version": f"makellos {manifest.versions.get('makellos', 'unknown')}",
    }


def learned_from(n_learned: int, n_defective: int) -> str:
    """Say how many good and defective parts were learned from."""
    if not n_defective:
        return f"{n_learned} good parts"
    return f"{n_learned - n_defective} good and {n_defective} defective parts"
