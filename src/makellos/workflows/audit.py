"""Audit: what may be wrong among the good parts, ranked, and what keeping each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.calibration import Calibration, parts_needed
from makellos.calibration.leaving_out import calibration_without, thresholds_without
from makellos.data.array_sets import ArrayKeys
from makellos.data.checks import looked_at
from makellos.data.copies import copies, grouped
from makellos.data.good_labels import GoodLabels
from makellos.data.parts import Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_manifest_target, check_seed, write_manifest
from makellos.data.traits import outline_of, traits_of
from makellos.detectors import Detector, detector_class, make_detector
from makellos.errors import ConfigurationError, InputError
from makellos.evaluation.suspicion import LIMIT, Suspect, suspects
from makellos.inspection import Inspection
from makellos.inspection.oddities import Oddity, oddity
from makellos.inspection.regions import Region
from makellos.inspection.scorer import Scored
from makellos.models.coverage import Coverage, frame_of
from makellos.models.learning import lesson_of
from makellos.models.partition import Partition, split_parts
from makellos.models.release import groups_of, plain
from makellos.models.scoring import score_parts
from makellos.reports.audit import AuditReport, Left, Shown, render_audit
from makellos.reports.pages import write_page
from makellos.reports.thumbnails import draw_crop, draw_thumbnails
from makellos.storage import claim_folder
from makellos.subjects import find_parts

__all__ = ["AuditSummary", "audit"]

PAGE, MANIFEST = "audit.html", "cleaned.csv"
_MOST_SHOWN = 40
_STEPS = (1, 2, 3, 5, 8, 15, 30)  # of the most suspicious parts left out together
_MOST_LEFT_OUT = 4  # at most a quarter of the parts


@dataclass(frozen=True)
class AuditSummary:
    """Hold what may be wrong among the good parts of a set; `dataclasses.asdict` is JSON.

    Each entry of `ranking`, the most suspicious first, has `input`, `suspicion` (spreads off the
    usual part), `is_suspect`, `reason`, `threshold_without`, `score`, `region` (x, y, width, height
    of the oddest place in pixels) and `nearest`, the good part that looks most like it. Where
    labelled damage is there, `missed_without` says how many of `n_defective` are missed at that
    threshold, and `missed` how many are at `threshold`. `leaving_out` says what the most suspicious
    ones cost together. `page` and `manifest` are None where nothing was written.
    """

    data: str
    detector: str
    n_good: int
    n_suspects: int
    n_defective: int
    threshold: float
    false_alarms: float
    missed: int | None
    ranking: list[dict[str, Any]]
    leaving_out: list[dict[str, Any]]
    notes: list[str]
    page: str | None = None
    manifest: str | None = None


@dataclass(frozen=True)
class _Looked:
    """Hold good parts with what is known of each: their scores by models that have not seen them.

    `damaged` are the scores of labelled defective parts.
    """

    parts: list[Part]
    scored: list[Scored]
    suspects: list[Suspect]
    oddities: list[Oddity]
    nearest: list[int]
    calibration: Calibration
    damaged: list[float]

    def missed(self, threshold: float) -> int | None:
        """Return how many labelled defective parts are not above a threshold."""
        return sum(score <= threshold for score in self.damaged) if self.damaged else None


def audit(
    data: Path | str,
    *,
    output: Path | str | None = None,
    detector: str = "patchcore",
    false_alarms: float = 0.01,
    seed: int = 0,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    progress: Progress | None = None,
) -> AuditSummary:
    """Rank what may be wrong among the good parts of `data`, and say what keeping each costs.

    `data` is a folder or CSV manifest of pictures, read by `good` and `keys` as in `find_parts`.
    Each good part that is not for testing is scored by a detector that has not seen it; labelled
    defective parts only say what is missed. With `output`, a page to look at and a manifest without
    the suspects are written to that folder; nothing is removed. Raises `InputError` for data that
    cannot be used, `ConfigurationError` for a detector that learns from labels or trains,
    `StorageError` where nothing can be written.
    """
    report = progress or no_progress
    check_seed(seed)
    parts_needed(false_alarms)
    made = _made(detector, seed)
    found = find_parts(data, good=good, keys=keys)
    found.require_pictures("audit")
    found.require_good()
    if output is not None:
        claim_folder(Path(output))
        source = Path(data) if Path(data).is_file() else None
        check_manifest_target(Path(output) / MANIFEST, source)
    looked, notes = _look(found, made, false_alarms, seed, report)
    order = sorted(range(len(looked.parts)), key=lambda i: -looked.suspects[i].suspicion)
    without = thresholds_without(looked.calibration)
    suspected = [i for i in order if looked.suspects[i].suspicion >= LIMIT]
    threshold = looked.calibration.threshold
    summary = AuditSummary(
        data=plain(Path(data).resolve().name),
        detector=detector,
        n_good=len(looked.parts),
        n_suspects=len(suspected),
        n_defective=len(looked.damaged),
        threshold=threshold,
        false_alarms=looked.calibration.false_alarms,
        missed=looked.missed(threshold),
        ranking=[_entry(looked, i, without[i]) for i in order],
        leaving_out=_leaving_out(looked, order, len(suspected)),
        notes=[*found.remarks(), *notes],
    )
    return summary if output is None else _written(summary, Path(output), found, looked, order)


def _made(name: str, seed: int) -> Detector:
    made = make_detector(name, parameters=detector_class(name).robust, seed=seed)
    if made.trains or made.learns == "labels" or made.takes != "pictures":
        raise ConfigurationError(
            f"audit scores each good part by models that have not seen it, which {name} is not "
            "made for: it trains, needs labels or takes no pictures. Leave --detector out."
        )
    made.require()
    return made


def _look(
    found: PartSet, made: Detector, false_alarms: float, seed: int, progress: Progress
) -> tuple[_Looked, list[str]]:
    """Return what is known of the good parts, and what to say of those that cannot be read."""
    readable, sketches, traits, broken = looked_at(found.parts, traits_of, progress)
    notes = [f"Left out, unreadable: {reason}" for _, reason in broken]
    places = [i for i, p in enumerate(readable) if p.is_good and p.split != "test"]
    known, _, _ = grouped([readable[i] for i in places], [sketches[i] for i in places])
    scored, damaged = _scores(
        known, [p for p in readable if not p.is_good], made, (false_alarms, seed), progress
    )
    scores = np.array([each.score for each in scored])
    good_traits = [traits[i] for i in places]
    oddities = []
    for done, (part, each) in enumerate(zip(known, scored, strict=True), start=1):
        oddities.append(_oddity(part, each))
        progress("naming what is odd", done, len(known))
    sets = _told_copies(readable, copies(sketches))
    ranked = suspects(
        scores, [each.words for each in oddities], good_traits, [sets.get(p.name) for p in known]
    )
    nearest = _nearest(np.array([each.thumbnail for each in good_traits]), ranked)
    calibration = Calibration(scores, false_alarms, groups_of(known))
    looked = _Looked(known, scored, ranked, oddities, nearest, calibration, damaged)
    return looked, notes


def _scores(
    good: Sequence[Part],
    defective: Sequence[Part],
    made: Detector,
    drawn: tuple[float, int],
    progress: Progress,
) -> tuple[list[Scored], list[float]]:
    """Return what each good part has by a model that has not seen it, and scores of damaged ones.

    All good parts are cross-fitted, however many there are.
    """
    false_alarms, seed = drawn
    frame = frame_of(Coverage(), false_alarms, None)
    split_parts(list(good), [], made, false_alarms, seed)  # refuses too few
    partition = Partition(list(good), list(good), "cross-fitted")
    lesson = lesson_of(partition, frame, made.n_folds, seed)
    graphs = made.cross_fit(lesson.parts, lesson.folds, progress=progress)
    found: dict[int, Scored] = {}
    for recipe, inside in lesson.recipes(graphs, frame):
        unseen = score_parts(recipe, recipe.engines()[0], [good[i] for i in inside])
        for i, scored in zip(inside, unseen, strict=True):
            found[i] = scored
            progress("scoring good parts", len(found), len(good))
    final = frame.recipe(made.graph())

    def tell(done: int, total: int) -> None:
        progress("scoring labelled damage", done, total)

    damaged = score_parts(final, final.engines()[0], defective, tell) if defective else ()
    return [found[i] for i in range(len(good))], [each.score for each in damaged]


def _oddity(part: Part, scored: Scored) -> Oddity:
    picture = part.read()
    if scored.anomaly_map is None:
        return oddity(np.ones((1, 1), np.float32), picture, None)
    return oddity(scored.anomaly_map, picture, outline_of(picture))


def _told_copies(parts: Sequence[Part], sets: Sequence[Sequence[int]]) -> dict[str, Suspect]:
    """Return what copies say of good parts: the suspicion and a sentence, by name of the part."""
    told: dict[str, Suspect] = {}
    for alike in sets:
        for i in alike:
            others = [parts[j] for j in alike if j != i]
            bad = [p for p in others if not p.is_good]
            tested = [p for p in others if p.split == "test"]
            if bad:
                said = f"the same picture is labelled {bad[0].label}: {bad[0].name}"
                told[parts[i].name] = Suspect(10 * LIMIT, said)
            elif tested:
                said = f"the same picture is in the test split: {tested[0].name}"
                told[parts[i].name] = Suspect(LIMIT, said)
            else:
                told[parts[i].name] = Suspect(0.0, f"nearly the same picture: {others[0].name}")
    return told


def _nearest(thumbnails: NDArray[np.float32], ranked: Sequence[Suspect]) -> list[int]:
    """Return for each part the good one, and none that is suspect, that looks most like it."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    alike = flat @ flat.T
    np.fill_diagonal(alike, -2.0)
    usual = np.array([each.suspicion < LIMIT for each in ranked])
    if usual.sum() > 1:
        alike[:, ~usual] -= 4.0
    return [int(i) for i in alike.argmax(1)]


def _entry(looked: _Looked, i: int, without: float) -> dict[str, Any]:
    suspect, box = looked.suspects[i], looked.oddities[i].box
    return {
        "input": looked.parts[i].name,
        "suspicion": round(suspect.suspicion, 3),
        "is_suspect": suspect.suspicion >= LIMIT,
        "reason": suspect.reason,
        "threshold_without": without,
        "missed_without": looked.missed(without),
        "score": looked.scored[i].score,
        "region": box._asdict(),
        "nearest": looked.parts[looked.nearest[i]].name,
    }


def _leaving_out(looked: _Looked, order: Sequence[int], n_suspects: int) -> list[dict[str, Any]]:
    """Return what is promised and missed without the most suspicious parts, all at once."""
    found = []
    steps = sorted({0, *_STEPS, n_suspects})
    for n in [n for n in steps if n <= max(n_suspects, len(order) // _MOST_LEFT_OUT)]:
        if len(order) - n < 2:
            break
        kept = calibration_without(looked.calibration, set(order[:n]))
        found.append(
            {
                "n": n,
                "threshold": kept.threshold,
                "false_alarms": kept.false_alarms,
                "missed": looked.missed(kept.threshold),
            }
        )
    return found


def _written(
    summary: AuditSummary, folder: Path, found: PartSet, looked: _Looked, order: Sequence[int]
) -> AuditSummary:
    """Write the page and the manifest, and return the summary that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    left = {entry["input"] for entry in summary.ranking if entry["is_suspect"]}
    kept = [part for part in found.parts if part.name not in left or part.split == "test"]
    write_manifest(folder / MANIFEST, kept)
    shown = order[: min(_MOST_SHOWN, max(12, summary.n_suspects))]
    maxima = [each.anomaly_map.max() for each in looked.scored if each.anomaly_map is not None]
    level = float(np.quantile(maxima, 0.9)) if maxima else 0.0
    now = datetime.now(UTC)
    page = AuditReport(
        title=summary.data,
        created=f"{now.day} {now:%B %Y, %H:%M} UTC",
        detector=summary.detector,
        n_good=summary.n_good,
        n_suspects=summary.n_suspects,
        n_defective=summary.n_defective,
        threshold=summary.threshold,
        false_alarms=summary.false_alarms,
        leaving_out=[Left(**each) for each in summary.leaving_out],
        shown=[
            _shown(looked, i, entry, level)
            for i, entry in zip(shown, summary.ranking, strict=False)
        ],
        notes=summary.notes,
    )
    write_page(folder / PAGE, render_audit(page))
    return replace(summary, page=str(folder / PAGE), manifest=str(folder / MANIFEST))


def _shown(looked: _Looked, i: int, entry: Mapping[str, Any], level: float) -> Shown:
    part, near = looked.parts[i], looked.parts[looked.nearest[i]]
    try:
        picture, other = part.read(), near.read()
    except InputError:  # gone since it was scored
        return Shown(**_figures(entry), picture=b"", crop=b"", nearest_picture=b"")
    box, anomaly_map = looked.oddities[i].box, looked.scored[i].anomaly_map
    area = box.width * box.height
    region = Region(box.x, box.y, box.width, box.height, area, looked.scored[i].score)
    inspection = Inspection(part.name, "ok", regions=(region,), anomaly_map=anomaly_map)
    drawn = draw_thumbnails(picture, inspection, map_threshold=level, white_level=None, plain=False)
    beside = draw_thumbnails(
        other, Inspection(near.name, "ok"), map_threshold=level, white_level=None, plain=False
    )
    return Shown(
        **_figures(entry),
        picture=drawn.overlay,
        crop=draw_crop(picture, box),
        nearest_picture=beside.overlay,
    )


def _figures(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = ("input", "suspicion", "is_suspect", "reason", "threshold_without", "missed_without")
    return {**{name: entry[name] for name in names}, "nearest": entry["nearest"]}
