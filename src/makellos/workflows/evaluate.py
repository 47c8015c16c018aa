"""Evaluate: metrics of a model on labelled parts, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, PartSet
from makellos.data.pictures import read_mask
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.drawing import DAMAGE, NEAREST, PART, draw_overlay, draw_tiles
from makellos.errors import InputError
from makellos.evaluation import (
    Located,
    PixelMetrics,
    Resampling,
    auroc,
    average_precision,
    best_accuracy,
    by_defect,
    class_figures,
    class_intervals,
    f1_max,
    image_intervals,
    localisation,
    localisation_by_defect,
    locate,
    misses_by_size,
    precision_recall_curve,
    roc_curve,
    verdict_rates,
)
from makellos.inspection import Inspection, Inspector
from makellos.inspection.regions import resize_map
from makellos.models.provenance import fingerprint
from makellos.reports import EvaluationReport, GalleryItem, render_evaluation, write_page
from makellos.storage import write_text
from makellos.subjects import Gathered, find_parts, open_inspector, subject_of

__all__ = ["TestedPart", "evaluate", "evaluate_parts"]

REPORT, FIGURES = "report.html", "figures.json"
_THUMBNAIL = 320


@dataclass(frozen=True, eq=False)
class TestedPart:
    """Hold one labelled part with its inspection, the area of its damage and its gallery entry.

    `measured` says that the figures of pixels count it.
    """

    part: Part
    inspection: Inspection
    damaged_area: int | None
    located: Located | None
    item: GalleryItem
    measured: bool


def evaluate(
    model: Path | str,
    data: Path | str,
    *,
    output: Path | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Inspect labelled parts, return the figures, and write the report to the folder `output`.

    `data` is a folder or manifest; its split ``test`` is used, or all parts where there are no
    splits. The figures are those of ``makellos evaluate --json``. Raises `InputError` when there
    is no labelled test part or a mask cannot be used, and as `Inspector` does. A part that cannot
    be read is named under ``unreadable`` and counts nowhere else.
    """
    return evaluate_parts(model, data, output=output, seed=seed, progress=progress)[0]


def evaluate_parts(
    model: Path | str,
    data: Path | str,
    *,
    output: Path | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[TestedPart]]:
    """Do what `evaluate` does, and return every tested part beside the figures."""
    check_seed(seed)
    report = progress or no_progress
    found = find_parts(data)
    parts = found.test()
    if not parts:
        raise InputError(
            f"{data} has no test parts ({found.layout}). Put them into test/good and "
            "test/<defect>, or give rows of a manifest the split 'test'."
        )
    inspector = open_inspector(model, found, len(parts))
    pixels = PixelMetrics(threshold=inspector.map_threshold)
    gathered = Gathered(draws=output is not None)
    tested: list[TestedPart] = []
    for part, inspection in subject_of(found).tested(inspector, parts, gathered, report):
        tested.append(_test(inspector, part, inspection, pixels, thumbnails=output is not None))
    read = [test for test in tested if test.inspection.score is not None]
    if not read:
        raise InputError(
            f"None of the {len(parts)} test parts of {data} can be read; the first: "
            f"{tested[0].inspection.error}"
        )
    report("computing intervals", 0, 1)
    figures = _figures(inspector, read, pixels, np.random.default_rng(seed))
    figures["unreadable"] = [
        {"input": test.item.input, "error": test.item.error}
        for test in tested
        if test.inspection.score is None
    ]
    if gathered.entries:
        figures["recordings"] = gathered.entries
    figures["notes"] = [*_notes(found, inspector), *figures.pop("class_notes", [])]
    report("computing intervals", 1, 1)
    if output is not None:
        _write_report(Path(output), Path(data), inspector, tested, figures, gathered.panels)
    return figures, tested


def _notes(found: PartSet, inspector: Inspector) -> list[str]:
    """Say what decides beside the threshold, and when the tested parts are known to the model."""
    acceptance = inspector.manifest.acceptance
    if acceptance is None or not acceptance.rules:
        return _known(found, inspector)
    rules = "; ".join(str(rule) for rule in acceptance.rules)
    decide = (
        f"Rules decide {acceptance.how} which parts are rejected: {rules}. What the budget "
        "promises, curves and p-values are of the scores, without rules."
    )
    return [decide, *_known(found, inspector)]


def _known(found: PartSet, inspector: Inspector) -> list[str]:
    if any(part.split for part in found) or not found.good():
        return []
    used = found.good() if not inspector.manifest.training.n_defective else found.parts
    try:
        if fingerprint(used) != inspector.manifest.training.fingerprint:
            return []
    except OSError:
        return []  # a file that cannot be opened is named among the unreadable ones
    return [
        "These are the parts that the model was fitted on, and it knows them: the figures look "
        "better than they are. Keep parts apart, in test/good or with split 'test' in a manifest."
    ]


def _test(
    inspector: Inspector,
    part: Part,
    inspection: Inspection,
    pixels: PixelMetrics,
    *,
    thumbnails: bool,
) -> TestedPart:
    area, located, measured = None, None, False
    if inspection.size is not None and inspection.anomaly_map is not None:
        mask = _read_mask(part, inspection.size)
        if part.is_good or mask is not None:
            full = resize_map(inspection.anomaly_map, *inspection.size)
            pixels.update(full, mask)
            measured = True
            if mask is not None:
                area = int(mask.sum())
                if inspection.verdict == "reject":
                    located = locate(part.label, full, mask)
    pictures: dict[str, bytes] = {}
    if thumbnails and inspection.size is not None:
        pictures = _thumbnails(inspector, part, inspection)
    item = GalleryItem(
        input=part.name,
        label=part.label,
        verdict=inspection.verdict,
        score=inspection.score,
        p_value=inspection.p_value,
        n_regions=len(inspection.regions),
        damage_area=area,
        picture=pictures.get(PART, b""),
        overlay=pictures.get(DAMAGE, b""),
        error=inspection.error,
        reconstruction=pictures.get(NEAREST, b""),
    )
    return TestedPart(part, inspection, area, located, item, measured)


def _read_mask(part: Part, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    if part.mask is None or part.is_good:
        return None
    return read_mask(part.mask, size, "'makellos data check' lists all such masks.")


def _thumbnails(inspector: Inspector, part: Part, inspection: Inspection) -> dict[str, bytes]:
    picture = part.read() if inspection.picture is None else inspection.picture
    threshold = inspector.map_threshold
    white = inspector.manifest.preprocessing.white_level
    if inspection.reconstruction is not None:
        tiles = draw_tiles(picture, inspection, map_threshold=threshold, white_level=white)
        return {label: _encode(tiles[label]) for label in (PART, NEAREST, DAMAGE)}
    plain = Inspection(part.name, inspection.verdict)
    drawn = [
        draw_overlay(picture, shown, map_threshold=threshold, caption=False, white_level=white)
        for shown in (plain, inspection)
    ]
    return {PART: _encode(drawn[0]), DAMAGE: _encode(drawn[1])}


def _encode(image: NDArray[np.uint8]) -> bytes:
    scale = _THUMBNAIL / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 82])
    raw: bytes = encoded.tobytes()
    return raw


def _figures(
    inspector: Inspector,
    tested: Sequence[TestedPart],
    pixels: PixelMetrics,
    rng: np.random.Generator,
) -> dict[str, Any]:
    scores = np.array([test.inspection.score for test in tested], dtype=np.float64)
    labels = [test.part.label for test in tested]
    verdicts = [test.inspection.verdict for test in tested]
    resampling = Resampling(rng, groups=[test.part.group for test in tested])
    defective = np.array([not test.part.is_good for test in tested])
    rejected = np.array([verdict == "reject" for verdict in verdicts])
    best, optimistic = f1_max(scores, defective), best_accuracy(scores, defective)
    rates = verdict_rates(verdicts, labels)
    pixel = pixels.compute()
    defects = by_defect(scores, verdicts, labels)
    intervals = asdict(image_intervals(scores, defective, rejected, resampling))
    mapped = [test.part.group for test in tested if test.measured]
    intervals.update(asdict(pixels.intervals(Resampling(rng, groups=mapped))))
    intervals["optimistic_accuracy"] = None  # new parts would not reach it, whatever the interval
    classes = _class_figures(inspector, tested, rejected, resampling)
    intervals.update(classes.pop("intervals", {}))
    calibration = inspector.calibration
    again = np.array([verdict == "look_again" for verdict in verdicts])
    return {
        "detector": inspector.manifest.detector.name,
        "n_good": rates.n_good,
        "n_defective": rates.n_defective,
        "image_auroc": auroc(scores, defective),
        "image_ap": average_precision(scores, defective),
        "f1_max": None if best is None else best.value,
        "pixel_auroc": pixel.pixel_auroc,
        "pixel_ap": pixel.pixel_ap,
        "aupro": pixel.aupro,
        "aupro_5": pixel.aupro_5,
        "pixel_f1_max": pixel.pixel_f1_max,
        "seg_f1": pixel.seg_f1,
        "map_threshold": _finite(inspector.map_threshold),
        "threshold": inspector.threshold,
        "look_again_threshold": _finite(calibration.look_again_threshold),
        "false_alarm_rate": rates.false_alarm_rate,
        "miss_rate": rates.miss_rate,
        "accuracy": rates.accuracy,
        "optimistic_accuracy": None if optimistic is None else optimistic.value,
        "look_again_rate": rates.look_again_rate,
        "n_look_again_good": int((again & ~defective).sum()),
        "n_look_again_defective": int((again & defective).sum()),
        "by_defect": {name: asdict(found) for name, found in defects.items()},
        "by_size": _by_size(tested, verdicts),
        "localisation": _localisation(tested),
        "intervals": intervals,
        "false_alarms": calibration.false_alarms,
        "false_alarms_asked": calibration.asked,
        "fit_seconds": inspector.manifest.training.fit_seconds,
        "inspect_ms_per_part": float(
            np.mean([test.inspection.milliseconds for test in tested]) / inspector.concurrency
        ),
        **classes,
    }


def _localisation(tested: Sequence[TestedPart]) -> dict[str, Any] | None:
    """Return how the maps of rejected defective parts lie on their masks; None without masks."""
    found = [test.located for test in tested if test.located is not None]
    together = localisation(found)
    if together is None:
        return None
    by_kind = {name: asdict(each) for name, each in localisation_by_defect(found).items()}
    return {**asdict(together), "by_defect": by_kind}


def _class_figures(
    inspector: Inspector,
    tested: Sequence[TestedPart],
    rejected: NDArray[np.bool_],
    resampling: Resampling,
) -> dict[str, Any]:
    """Return the figures of a classifier's classes; none for other detectors."""
    classes = inspector.manifest.classes
    if not classes:
        return {}
    known = [test.inspection.probabilities for test in tested]
    probabilities = np.array([[found[name] for name in classes] for found in known])
    truth = [test.part.label for test in tested]
    found = class_figures(probabilities, truth, classes, rejected)
    intervals = class_intervals(probabilities, truth, classes, rejected, resampling)
    notes = [] if found.note is None else [found.note]
    return {**asdict(found), "intervals": asdict(intervals), "class_notes": notes}


def _by_size(tested: Sequence[TestedPart], verdicts: Sequence[str]) -> list[dict[str, Any]]:
    sizes = [test.inspection.size or (0, 0) for test in tested]
    found = misses_by_size(
        verdicts,
        [test.damaged_area for test in tested],
        [height * width for height, width in sizes],
    )
    return [
        {
            "name": name,
            "low": figures.pixels[0],
            "high": figures.pixels[1],
            "n": figures.n,
            "n_missed": figures.n_missed,
            "n_look_again": round(figures.look_again_rate * figures.n),
            "percent": list(figures.percent),
        }
        for name, figures in found.items()
    ]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _write_report(
    folder: Path,
    data: Path,
    inspector: Inspector,
    tested: Sequence[TestedPart],
    figures: Mapping[str, Any],
    panels: Sequence[tuple[str, bytes]],
) -> None:
    read = [test for test in tested if test.inspection.score is not None]
    scores = np.array([test.inspection.score for test in read], dtype=np.float64)
    defective = np.array([not test.part.is_good for test in read])
    now = datetime.now(UTC)
    roc, curve = roc_curve(scores, defective), precision_recall_curve(scores, defective)
    report = EvaluationReport(
        title=data.stem if data.is_file() else data.resolve().name,
        data=data.name or str(data),
        created=f"{now.day} {now:%B %Y, %H:%M} UTC",
        figures=figures,
        items=[test.item for test in tested],
        roc=None
        if roc is None
        else (roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist()),
        precision_recall=None
        if curve is None
        else (curve.recall.tolist(), curve.precision.tolist()),
        provenance=_provenance(inspector),
        notes=figures["notes"],
        panels=panels,
    )
    write_page(folder / REPORT, render_evaluation(report))
    write_text(folder / FIGURES, json.dumps(figures, indent=1, allow_nan=False) + "\n")


def _learned_from(inspector: Inspector) -> str:
    training = inspector.manifest.training
    if not training.n_defective:
        return f"{training.n_learned} good parts"
    n_good = training.n_learned - training.n_defective
    return f"{n_good} good and {training.n_defective} defective parts"


def _provenance(inspector: Inspector) -> dict[str, str]:
    manifest = inspector.manifest
    changed = ", ".join(
        f"{name} {value}" for name, value in manifest.detector.parameters.items() if value != ""
    )
    calibration = inspector.calibration
    unit = "good parts" if calibration.groups is None else "groups of good parts"
    covered: dict[str, list[str]] = {}
    for name, text in manifest.covered():
        covered.setdefault(name.capitalize(), []).append(text)
    return {
        "Model": inspector.model.path.name,
        "Detector": f"{manifest.detector.name} ({changed})",
        "Input size": str(manifest.preprocessing),
        **{name: "; ".join(texts) for name, texts in covered.items()},
        "Learned from": f"{_learned_from(inspector)} of {manifest.training.data}",
        "Calibrated on": f"{calibration.n_groups} {unit}, {manifest.calibration.method}",
        "Threshold": "conformal, from good parts alone; no defective part was used for it",
        "Engine": str(inspector.engine),
        "Fitted": manifest.created,
        "Version": f"makellos {manifest.versions.get('makellos', 'unknown')}",
    }
