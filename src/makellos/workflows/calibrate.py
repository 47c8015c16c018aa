"""Calibrate: another false-alarm budget, or new good parts, without fitting again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from makellos.calibration import Calibration
from makellos.data.parts import Part, find_parts, group_names
from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError
from makellos.inspection import Inspection, Inspector
from makellos.inspection.engines import default_workers
from makellos.inspection.manifest import CalibrationRecord, GoldenRecord
from makellos.inspection.model_file import read_model
from makellos.models.writing import rewrite_manifest
from makellos.workflows.fit import budget_notes

__all__ = ["CalibrationSummary", "calibrate"]


@dataclass(frozen=True)
class CalibrationSummary:
    """Hold what a model promises after calibration."""

    model: str
    n_calibration: int
    n_groups: int
    threshold: float
    false_alarms: float
    false_alarms_asked: float
    notes: list[str]


def calibrate(
    model: Path | str,
    data: Path | str | None = None,
    *,
    false_alarms: float | None = None,
    output: Path | str | None = None,
    progress: Progress | None = None,
) -> CalibrationSummary:
    """Give a model another budget, or the scores of new good parts, and write it back.

    `data` holds good parts that the detector did not learn from: a manifest's or folder's split
    ``val`` where it has one, else its good parts. None keeps the calibration parts. `output`
    leaves the model as it is and writes another. Raises `InputError` for parts that cannot be read.
    """
    report = progress or no_progress
    read = read_model(Path(model))
    record = read.manifest.calibration
    asked = record.asked if false_alarms is None else false_alarms
    if data is not None:
        record = _measure(Path(model), Path(data), record, report)
    Calibration(scores=record.calibration().scores, asked=asked)
    record = record.model_copy(update={"asked": asked})
    calibration = record.calibration()
    golden = [
        GoldenRecord(file=part.file, score=part.score, verdict=calibration.verdict(part.score))
        for part in read.manifest.golden
    ]
    manifest = read.manifest.model_copy(update={"calibration": record, "golden": golden})
    target = Path(output) if output is not None else Path(model)
    rewrite_manifest(read, manifest, target)
    return CalibrationSummary(
        model=str(target),
        n_calibration=calibration.scores.size,
        n_groups=calibration.n_groups,
        threshold=calibration.threshold,
        false_alarms=calibration.false_alarms,
        false_alarms_asked=asked,
        notes=budget_notes(calibration),
    )


def _measure(
    model: Path, data: Path, record: CalibrationRecord, progress: Progress
) -> CalibrationRecord:
    found = find_parts(data)
    parts: tuple[Part, ...] = found.calibration() or found.good()
    if not parts:
        raise InputError(f"{data} has no good parts to calibrate with ({found.layout}).")
    inspector = Inspector(model, workers=min(default_workers(), len(parts)))
    inspections: list[Inspection] = []
    for inspection in inspector.inspect_many([part.path for part in parts]):
        inspections.append(inspection)
        progress("scoring calibration parts", len(inspections), len(parts))
    broken = [found.error for found in inspections if found.error is not None]
    if broken:
        raise InputError(
            f"{len(broken)} of {len(parts)} calibration parts cannot be read:\n  "
            + "\n  ".join(broken)
            + "\nMend or remove them."
        )
    maps = [found.anomaly_map for found in inspections if found.anomaly_map is not None]
    return record.model_copy(
        update={
            "scores": [found.score for found in inspections],
            "map_maxima": [float(anomaly_map.max()) for anomaly_map in maps] or None,
            "groups": group_names(parts) if any(part.group for part in parts) else None,
            "method": "new good parts",
        }
    )
