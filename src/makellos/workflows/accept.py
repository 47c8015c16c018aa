"""Accept: the report that an auditor reads, on a test set that is locked."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from makellos.calibration import ZonedCalibration
from makellos.data.array_sets import ArrayKeys
from makellos.data.good_labels import GoodLabels
from makellos.data.parts import GOOD, Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError
from makellos.evaluation.acceptance import (
    Judged,
    Promise,
    acceptance_figures,
    promise_figures,
)
from makellos.evaluation.acceptance_record import (
    AcceptanceRecord,
    JudgedModel,
    KnownParts,
    Machine,
    TestSet,
    Verified,
)
from makellos.inspection import Inspector
from makellos.inspection.manifest import VerificationRecord
from makellos.models.provenance import (
    Contents,
    contents_of,
    identity,
    library_versions,
    seen_before,
)
from makellos.models.release import plain
from makellos.reports.acceptance import render_acceptance
from makellos.reports.acceptance_words import not_tested, reservations
from makellos.reports.pages import write_page
from makellos.reports.provenance import calibrated_on, learned_by
from makellos.storage import claim_folder, write_text
from makellos.workflows.evaluate import FITTED_ON, Evaluated, RowFiles, evaluated
from makellos.workflows.ledger import claim_ledger, default_ledger, enter, history

__all__ = ["PAGE", "RECORD", "accept"]

PAGE, RECORD, ROWS = "acceptance.html", "acceptance.json", "tested.csv"


def accept(
    model: Path | str,
    data: Path | str,
    *,
    output: Path | str | None = None,
    mm_per_pixel: float | None = None,
    ledger: Path | str | None = None,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> AcceptanceRecord:
    """Judge a model on a locked test set, and return what an auditor reads of it.

    With `output`, ``acceptance.html``, ``acceptance.json`` and ``tested.csv`` (a row per part) are
    written to that folder. `mm_per_pixel` is the size of a pixel, in place of the model's own;
    sizes of damage are in pixels where neither is known. `ledger` is the file that says which
    models were judged on which parts: where it is None the one that MAKELLOS_LEDGER names, or that
    of the user. This judgement is entered there. The other arguments and the errors are those of
    `evaluate`; raises `StorageError` for a ledger that cannot be read or written,
    `ConfigurationError` for a size of a pixel that is none.
    """
    if mm_per_pixel is not None and not 0 < mm_per_pixel < float("inf"):
        raise ConfigurationError(
            f"A pixel is {mm_per_pixel:g} mm wide; expected a number above 0, such as 0.02."
        )
    report = progress or no_progress
    place = default_ledger() if ledger is None else Path(ledger)
    claim_ledger(place)
    rows = None
    if output is not None:
        claim_folder(Path(output))
        rows = RowFiles(csv=Path(output) / ROWS)
    done = evaluated(
        model, data, rows=rows, good=good, keys=keys, seed=seed, progress=report, counts=False
    )
    record = _record(done, Path(data), mm_per_pixel, place, report)
    if output is not None:
        text = json.dumps(asdict(record), indent=1, allow_nan=False)
        write_text(Path(output) / RECORD, f"{text}\n")
        write_page(Path(output) / PAGE, render_acceptance(record))
    return record


def _record(
    done: Evaluated, data: Path, mm_per_pixel: float | None, ledger: Path, progress: Progress
) -> AcceptanceRecord:
    inspector, parts = done.inspector, done.parts
    manifest, now = inspector.manifest, datetime.now(UTC).replace(microsecond=0)
    progress("looking for parts that are known", 0, 1)
    tested = contents_of(parts)
    own = None if inspector.acceptance is None else inspector.acceptance.mm_per_pixel
    figures = acceptance_figures(_judged(done), mm_per_pixel=mm_per_pixel or own)
    promise = _promise(done)
    learned, calibrated = seen_before(parts, manifest.training)
    seen = KnownParts(tuple(p.name for p in learned), tuple(p.name for p in calibrated))
    described = _described(done, data, tested)
    before = history(ledger, tested, manifest)
    enter(ledger, tested, manifest, file=inspector.model.path.name, at=now)
    progress("looking for parts that are known", 1, 1)
    return AcceptanceRecord(
        created=now.isoformat(),
        model=_model(inspector),
        data=described,
        history=before,
        known=seen,
        figures=figures,
        promise=promise,
        image_auroc=done.figures.image_auroc,
        image_auroc_interval=done.figures.intervals.get("image_auroc"),
        parity=manifest.parity,
        verified=_verified(manifest.verification),
        machine=Machine(str(inspector.engine), platform.platform(), library_versions()),
        not_tested=tuple(
            not_tested(
                figures, described, manifest, str(inspector.engine), [p.details for p in parts]
            )
        ),
        reservations=tuple(
            reservations(
                figures,
                described,
                seen,
                before,
                promise,
                len(done.figures.unreadable),
                manifest.verification,
            )
        ),
        notes=tuple(note for note in done.figures.notes if not note.startswith(FITTED_ON)),
        unreadable=tuple(done.figures.unreadable),
    )


def _judged(done: Evaluated) -> list[Judged]:
    """Return the parts that could be read, or the recordings, with what judges say of them."""
    recordings = done.figures.recordings
    if recordings is not None:
        return [
            _of_part(part, recordings[part.name]["verdict"])
            for part in done.parts
            if part.name in recordings
        ]
    return [
        replace(_of_part(part, test.outcome.verdict), length=test.outcome.damage_length)
        for part, test in zip(done.parts, done.tested, strict=True)
        if test.outcome.score is not None
    ]


def _of_part(part: Part, verdict: str) -> Judged:
    return Judged(
        name=part.name,
        label=part.label,
        group=part.group,
        verdict=verdict,
        judgements={
            name: [label != GOOD for label in labels] for name, labels in part.judgements.items()
        },
        by_majority=part.by_majority,
    )


def _promise(done: Evaluated) -> Promise | None:
    check, calibration = done.figures.promise, done.inspector.calibration
    if check is None:
        return None
    manifest, size = done.inspector.manifest, calibration.scores.size
    # Only there is the threshold the score of one good part, whatever a few copies count as.
    of_parts = manifest.signal is None and calibration.weights is None
    of_parts &= not isinstance(calibration, ZonedCalibration)
    is_plain = of_parts and not manifest.calibration.n_first and 2 * calibration.n_groups > size
    n_calibrated = calibration.n_groups if is_plain else None
    return promise_figures(check, calibration.false_alarms, calibration.asked, n_calibrated)


def _model(inspector: Inspector) -> JudgedModel:
    manifest, calibration = inspector.manifest, inspector.calibration
    training = manifest.training
    return JudgedModel(
        file=plain(inspector.model.path.name),
        identity=identity(manifest),
        fitted=manifest.created,
        detector=manifest.detector.name,
        parameters={
            name: str(value) for name, value in manifest.detector.parameters.items() if value != ""
        },
        learned_from=f"{learned_by(manifest)} of {training.data}",
        calibrated_on=calibrated_on(manifest, calibration.n_groups),
        promise=manifest.promise(),
        threshold=inspector.threshold,
        versions=dict(manifest.versions),
    )


def _verified(record: VerificationRecord | None) -> Verified | None:
    if record is None:
        return None
    return Verified(**record.model_dump(exclude={"versions"}))


def _described(done: Evaluated, data: Path, tested: Contents) -> TestSet:
    found: PartSet = done.found
    groups = {part.group for part in done.parts if part.group is not None}
    n_good = sum(part.is_good for part in done.parts)
    return TestSet(
        name=plain(data.stem if data.is_file() else data.resolve().name),
        layout=found.layout,
        unit="parts" if done.figures.recordings is None else "recordings",
        fingerprint=tested.fingerprint,
        n_parts=len(done.parts),
        n_good=n_good,
        n_defective=len(done.parts) - n_good,
        n_groups=len(groups) or None,
    )
