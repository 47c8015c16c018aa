"""Evaluate: metrics of a model on labelled parts, and the report."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.array_sets import ArrayKeys
from makellos.data.good_labels import GoodLabels
from makellos.data.parts import GOOD, Part, PartSet
from makellos.data.pictures import read_mask
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.errors import InputError
from makellos.evaluation import (
    Evaluation,
    Outcome,
    PixelMetrics,
    PromiseCheck,
    UnreadablePart,
    check_promise,
    damage_length,
    defective_from_labels,
    locate,
    overall_figures,
    precision_recall_curve,
    roc_curve,
)
from makellos.inspection import Inspection, Inspector
from makellos.inspection.background import notes_on
from makellos.inspection.regions import resize_map
from makellos.models.provenance import seen_before
from makellos.reports.evaluation import EvaluationReport, render_evaluation
from makellos.reports.gallery import GalleryItem
from makellos.reports.pages import write_page
from makellos.reports.provenance import promised, provenance
from makellos.reports.thumbnails import Thumbnails, draw_thumbnails
from makellos.storage import claim_folder, write_text
from makellos.subjects import Gathered, find_tested, open_inspector, subject_of
from makellos.workflows.labelled_rows import RowFiles
from makellos.workflows.ledger import count_evaluation

__all__ = ["Evaluated", "RowFiles", "TestedPart", "evaluate", "evaluated"]

REPORT, FIGURES, ROWS = "report.html", "figures.json", "tested.csv"
FITTED_ON = "The model was fitted on"  # how a note on known parts begins
_MAX_UNLIKE = 3  # notes on pictures unlike those learned


@dataclass(frozen=True)
class TestedPart:
    """Hold what is kept of a tested part: what was found, and its entry in the gallery.

    Pictures and maps are not, so that memory does not grow with them.
    """

    outcome: Outcome
    item: GalleryItem


@dataclass(frozen=True)
class Evaluated:
    """Hold an evaluation with what it is of: the set, its tested parts, and what inspected them."""

    figures: Evaluation
    tested: list[TestedPart]
    parts: tuple[Part, ...]
    found: PartSet
    inspector: Inspector


def evaluate(
    model: Path | str,
    data: Path | str,
    *,
    output: Path | str | None = None,
    rows: RowFiles | None = None,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Inspect labelled parts, return the figures, and write the report to the folder `output`.

    `rows` say where a row for each part, or recording, is written with its true label; with an
    `output` they are in its ``tested.csv``, too, unless another file is named.

    `good` and `keys` say how a set is read, as in `find_parts`; labels that meant good at the fit
    do so where no tested part is good otherwise.

    An evaluation of a test set that `accept` has locked is counted in its ledger, and says so.

    `data` is a folder or manifest; its split ``test`` is used, or all parts if there are no splits.
    The figures are those of ``makellos evaluate --json``, as attributes and as a dict. Raises
    `InputError` if there is no labelled test part or a mask cannot be used, and the errors of
    `Inspector`. A part that cannot be read is named under ``unreadable`` and counts nowhere else.
    """
    return evaluated(
        model, data, output=output, rows=rows, good=good, keys=keys, seed=seed, progress=progress
    ).figures


def evaluated(
    model: Path | str,
    data: Path | str,
    *,
    output: Path | str | None = None,
    rows: RowFiles | None = None,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    seed: int = 0,
    progress: Progress | None = None,
    counts: bool = True,
) -> Evaluated:
    """Do what `evaluate` does, and return with the figures what they are of.

    Without `counts` an evaluation of a locked test set is not counted as one.
    """
    check_seed(seed)
    report = progress or no_progress
    found = find_tested(model, data, good=good, keys=keys)
    parts = _test_parts(found, data)
    inspector = open_inspector(model, found, len(parts))
    subject, wanted = subject_of(found), rows or RowFiles()
    if output is not None:
        claim_folder(Path(output))
        wanted = replace(wanted, csv=wanted.csv or Path(output) / ROWS)
    wanted.check(subject)
    pixels = PixelMetrics(threshold=inspector.map_threshold)
    gathered = Gathered(
        draws=output is not None,
        rows=[] if wanted.csv or wanted.parquet else None,
        windows=[] if wanted.windows else None,
    )
    tested, odd = [], Counter[str]()
    for part, inspection in subject.tested(inspector, parts, gathered, report):
        tested.append(_test(inspector, part, inspection, pixels))
        aside = notes_on(inspection.beside or ())  # no doubt about the part: in its row
        odd.update(note for note in inspection.notes if note not in aside)
    _require_readable(tested, data)
    wanted.write(gathered, inspector, subject)
    report("computing intervals", 0, 1)
    figures = _figures(inspector, tested, pixels, np.random.default_rng(seed))
    unlike = [f"{n} tested part{'s'[: n > 1]}: {note}" for note, n in odd.most_common(_MAX_UNLIKE)]
    manifest, file = inspector.manifest, inspector.model.path.name
    counted = count_evaluation(parts, manifest, file, datetime.now(UTC)) if counts else ""
    figures["notes"] = [
        *found.remarks(),
        *([counted] if counted else []),
        *_no_good(parts),
        *_notes(found, inspector),
        *unlike,
        *figures["notes"],
    ]
    figures["promise"] = _promise(tested, parts, gathered, inspector.calibration.false_alarms)
    result = Evaluation(**figures, recordings=gathered.entries or None)
    report("computing intervals", 1, 1)
    if output is not None:
        _write_report(Path(output), Path(data), inspector, tested, result, gathered.panels)
    return Evaluated(result, tested, parts, found, inspector)


def _test_parts(found: PartSet, data: Path | str) -> tuple[Part, ...]:
    if parts := found.test():
        return parts
    raise InputError(
        f"{data} has no test parts ({found.layout}). Put them into test/good and "
        "test/<defect>, or give rows of a manifest the split 'test'."
    )


def _require_readable(tested: Sequence[TestedPart], data: Path | str) -> None:
    if all(test.outcome.score is None for test in tested):
        raise InputError(
            f"None of the {len(tested)} test parts of {data} can be read; the first: "
            f"{tested[0].item.error}"
        )


def _promise(
    tested: Sequence[TestedPart], parts: Sequence[Part], gathered: Gathered, budget: float
) -> PromiseCheck | None:
    """Compare the good parts or recordings that were rejected with what was promised of them."""
    good = [
        each.outcome
        for each in tested
        if each.outcome.label == GOOD and each.outcome.score is not None
    ]
    if not gathered.entries:
        rejected = [(each.calibrated_verdict or each.verdict) == "reject" for each in good]
        return check_promise(rejected, [each.group for each in good], budget)
    judged = [part for part in parts if part.is_good and part.name in gathered.entries]
    rejected = [gathered.entries[part.name]["verdict"] == "reject" for part in judged]
    groups = [part.group or part.name for part in judged]
    return check_promise(rejected, groups, budget, unit="recordings")


def _no_good(parts: Sequence[Part]) -> list[str]:
    """Say that no tested part is good where one of several labels may mean it."""
    labels = sorted({part.label for part in parts})
    if GOOD in labels or len(labels) == 1:
        return []
    return [
        f"None of the tested parts is labelled good (labels: {', '.join(labels)}). If a label "
        f"means good, say which, as in --good {labels[0]}."
    ]


def _notes(found: PartSet, inspector: Inspector) -> list[str]:
    """Say what decides beside the threshold, and when the tested parts are known to the model."""
    acceptance = inspector.manifest.acceptance
    if acceptance is None or not acceptance.rules:
        return _known(found, inspector)
    rules = "; ".join(str(rule) for rule in acceptance.rules)
    decide = (
        f"Rules decide {acceptance.how} which parts are rejected: {rules}. The budget's promise, "
        "curves and p-values refer to the scores, without rules."
    )
    return [decide, *_known(found, inspector)]


def _known(found: PartSet, inspector: Inspector) -> list[str]:
    """Say which of the tested parts the model was fitted or calibrated on."""
    parts = found.test()
    n_seen = sum(map(len, seen_before(parts, inspector.manifest.training)))
    if not n_seen:
        return []
    which = "these very parts" if n_seen == len(parts) else f"{n_seen} of these parts"
    return [
        f"{FITTED_ON} {which}, so the figures look better than they are. Keep "
        "parts aside, in test/good or with split 'test' in a manifest."
    ]


def _test(
    inspector: Inspector, part: Part, inspection: Inspection, pixels: PixelMetrics
) -> TestedPart:
    outcome = _outcome(part, inspection, pixels)
    pictures = Thumbnails()
    if inspection.picture is not None and inspection.size is not None:
        pictures = draw_thumbnails(
            inspection.picture,
            inspection,
            map_threshold=inspector.map_threshold,
            white_level=inspector.manifest.preprocessing.white_level,
            plain=inspector.manifest.signal is None,  # of a window what is marked says it all
        )
    item = GalleryItem(
        input=part.name,
        label=part.label,
        verdict=inspection.verdict,
        score=inspection.score,
        p_value=inspection.p_value,
        n_regions=len(inspection.regions),
        damage_area=outcome.damaged_area,
        error=inspection.error,
        map_name=inspection.map_name,
        named=_named(part, inspection),
        **pictures._asdict(),
    )
    return TestedPart(outcome, item)


def _named(part: Part, inspection: Inspection) -> str:
    """Return the class where a classifier knows kinds of damage, and the part's own.

    It is that which rejects the part by its own budget, else the likeliest.
    """
    shares = inspection.probabilities
    known = len(shares) > 2 and part.label in shares
    likeliest = max(reversed(shares), key=shares.__getitem__) if known else ""
    return (known and inspection.rejected_as) or likeliest


def _outcome(part: Part, inspection: Inspection, pixels: PixelMetrics) -> Outcome:
    """Return what was found on a part, and let `pixels` take in its map where damage is known."""
    outcome = Outcome(
        label=part.label,
        group=part.group,
        verdict=inspection.verdict,
        score=inspection.score,
        milliseconds=inspection.milliseconds,
        picture_area=math.prod(inspection.size or (0,)),
        probabilities=inspection.probabilities,
        calibrated_verdict=inspection.calibrated_verdict,
    )
    mask = None if inspection.size is None else _read_mask(part, inspection.size)
    if mask is not None:
        outcome = replace(outcome, damaged_area=int(mask.sum()), damage_length=damage_length(mask))
    if inspection.size is None or inspection.anomaly_map is None:
        return outcome
    if mask is None and not part.is_good:
        return outcome
    full = resize_map(inspection.anomaly_map, *inspection.size)
    pixels.update(full, mask)
    if mask is None or inspection.verdict != "reject":
        return replace(outcome, mapped=True)
    return replace(outcome, mapped=True, located=locate(part.label, full, mask))


def _read_mask(part: Part, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    if part.mask is None or part.is_good:
        return None
    return read_mask(part.mask, size, "'makellos data check' lists all such masks.")


def _figures(
    inspector: Inspector,
    tested: Sequence[TestedPart],
    pixels: PixelMetrics,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the figures of the parts and those of the model."""
    read = [test.outcome for test in tested if test.outcome.score is not None]
    manifest, calibration = inspector.manifest, inspector.calibration
    milliseconds = float(np.mean([each.milliseconds for each in read]))
    return {
        **overall_figures(read, pixels, manifest.classes, rng),
        "detector": manifest.detector.name,
        "map_threshold": _finite(inspector.map_threshold),
        "threshold": inspector.threshold,
        "look_again_threshold": _finite(calibration.look_again_threshold),
        "false_alarms": calibration.false_alarms,
        "false_alarms_asked": calibration.asked,
        "fit_seconds": manifest.training.fit_seconds,
        "inspect_ms_per_part": milliseconds / inspector.concurrency,
        "unreadable": [
            UnreadablePart(test.item.input, test.item.error)
            for test in tested
            if test.outcome.score is None
        ],
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _write_report(
    folder: Path,
    data: Path,
    inspector: Inspector,
    tested: Sequence[TestedPart],
    result: Evaluation,
    panels: Sequence[tuple[str, bytes]],
) -> None:
    read = [test.outcome for test in tested if test.outcome.score is not None]
    scores = np.array([each.score for each in read], dtype=np.float64)
    defective = defective_from_labels([each.label for each in read])
    now = datetime.now(UTC)
    roc, curve = roc_curve(scores, defective), precision_recall_curve(scores, defective)
    report = EvaluationReport(
        title=data.stem if data.is_file() else data.resolve().name,
        data=data.name or str(data),
        created=f"{now.day} {now:%B %Y, %H:%M} UTC",
        figures=result,
        items=[test.item for test in tested],
        roc=None
        if roc is None
        else (roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist()),
        precision_recall=None
        if curve is None
        else (curve.recall.tolist(), curve.precision.tolist()),
        provenance=provenance(inspector),
        notes=result.notes,
        panels=panels,
        promised=promised(inspector),
    )
    write_page(folder / REPORT, render_evaluation(report))
    write_text(folder / FIGURES, json.dumps(result, indent=1, allow_nan=False) + "\n")
