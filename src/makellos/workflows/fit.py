"""Fit: from a folder of good parts to a calibrated model file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from makellos.calibration import parts_needed
from makellos.data.parts import PartSet, find_parts, group_names
from makellos.data.pictures import Picture, full_scale
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.detectors import Detector, Graph, make_detector
from makellos.errors import ConfigurationError
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.manifest import (
    AutoRecord,
    CalibrationRecord,
    DetectorRecord,
    EngineRecord,
    GoldenRecord,
    Manifest,
    TrainingRecord,
)
from makellos.models import check_target, encode_pictures, pack_members, write_model
from makellos.models.coverage import Coverage, Surroundings, cut_to_learn, surroundings_of
from makellos.models.partition import Seen, see_pictures
from makellos.models.provenance import budget_notes, counted_in, fingerprint, library_versions
from makellos.models.release import Release, Split, groups_of, plain, release
from makellos.models.white_level import filling_their_depth
from makellos.search.auto import Wish, check_auto, choose
from makellos.training import Training, is_first_process, run_folder
from makellos.vibration.good_spectra import GOOD_SPECTRA, pack_spectra
from makellos.vibration.signals import SignalSettings
from makellos.workflows.signals import see_signals

__all__ = ["FitSummary", "fit"]

_N_EXAMPLES = 64


@dataclass(frozen=True)
class FitSummary:
    """Hold what a fit did: where the model is, what it learned from and what it promises.

    `counted` is what `n_groups` counts: parts, groups, recordings, or windows of signals. `auto`
    says what was tried where the detector was chosen, else None.
    """

    model: str
    detector: str
    n_learned: int
    n_defective: int
    n_calibration: int
    n_groups: int
    method: str
    engine: str
    threshold: float
    false_alarms: float
    false_alarms_asked: float
    skipped: list[str]
    fit_seconds: float
    notes: list[str]
    counted: str = "parts"
    auto: dict[str, Any] | None = None


def fit(
    data: Path | str,
    model: Path | str,
    *,
    detector: str = "patchcore",
    preset: str = "balanced",
    parameters: Mapping[str, Any] | None = None,
    false_alarms: float = 0.01,
    seed: int = 0,
    skip_unreadable: bool = False,
    white_level: int | None = None,
    training: Training | None = None,
    signal: SignalSettings | None = None,
    coverage: Coverage | None = None,
    time_budget: float | None = None,
    progress: Progress | None = None,
) -> FitSummary:
    """Learn from the good parts of `data` and write a calibrated model file.

    `data` is a folder or CSV manifest, `false_alarms` the share of good parts that may be rejected
    by mistake. Raises `InputError` for data that cannot be used (unless `skip_unreadable`, files
    that cannot be decoded among it), `ConfigurationError` for names and values that are not
    accepted, `StorageError` when the model cannot be written. A model file that is there is
    replaced once the new one is whole.

    `training` says where and how a detector that `trains` does so. Its run directory is
    ``MODEL.run`` unless `training` names another; with `training.resume` a run that was broken off
    there goes on. `signal` says how recordings are seen, where `data` holds such, and `coverage`
    in which tiles and zones pictures are, and by which rules they are accepted. The detector
    ``auto`` tries some for `time_budget` minutes (10 unless given) and fits the best.
    """
    started, report = time.perf_counter(), progress or no_progress
    target = Path(model)
    _check_numbers(seed, white_level)
    where = training or Training()
    wish = Wish(parameters or {}, time_budget, seed, white_level, skip_unreadable, where)
    named = _named(detector, preset, wish, signal)
    parts_needed(false_alarms)
    check_target(target)
    parts = find_parts(Path(data))
    around = surroundings_of(coverage or Coverage(), false_alarms, white_level, parts)
    fitted, where, auto = _chosen(named, parts, wish, around, target, report)
    see = see_signals if parts.kind == "signals" else see_pictures
    asked = around.smallest_budget
    seen = see(parts, signal, fitted, asked, seed, skip_unreadable, progress=report)
    fitted, split = _at_size_of(fitted, seen), seen.split
    around.check([part for part in seen.used if part.is_good], split.calibrate)
    with filling_their_depth(split.learn, white_level) as learn:
        folds = _fit(fitted, replace(split, learn=learn), seed, around, where, report)
    if not is_first_process():
        raise SystemExit(0)  # a process that only helped to train ends here
    graph = around.around(fitted.graph())
    released = release(graph, folds, split, around.false_alarms, report)
    record = _record(fitted, parts, data, seen, around, seed=seed, since=started, auto=auto)
    examples = _examples(graph, split)
    manifest = _manifest(fitted, graph, seen, released, record, list(examples), around.acceptance)
    report("writing the model", 0, 1)
    write_model(target, manifest, _members(graph, {**released.golden, **examples}, seen))
    report("writing the model", 1, 1)
    return _summary(target, manifest, time.perf_counter() - started)


def _named(
    detector: str, preset: str, wish: Wish, signal: SignalSettings | None
) -> Detector | None:
    """Return the detector that the user named; None for auto."""
    if check_auto(detector, preset, wish.minutes, wish.training, signal):
        return None
    made = make_detector(detector, preset=preset, parameters=wish.parameters, seed=wish.seed)
    _check_device(made, wish.training)
    return made


def _chosen(
    named: Detector | None,
    parts: PartSet,
    wish: Wish,
    around: Surroundings,
    target: Path,
    progress: Progress,
) -> tuple[Detector, Training, AutoRecord | None]:
    """Return the detector to fit, how to train it, and how it was chosen where none was named."""
    detector, where, auto = named, wish.training, None
    if detector is None:
        on_maps = around.tiling is not None or around.zones is not None
        detector, where, auto = choose(parts, replace(wish, on_maps=on_maps), progress)
    around.check_detector(detector)
    return detector, _where(detector, where, target), auto


def _manifest(
    detector: Detector,
    graph: Graph,
    seen: Seen,
    released: Release,
    training: TrainingRecord,
    examples: list[str],
    acceptance: Acceptance | None,
) -> Manifest:
    choice, parity, calibration = released.choice, released.parity, released.calibration
    reference = np.array(parity.scores[choice])
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        detector=DetectorRecord(
            name=detector.name, parameters=detector.get_parameters(), runtime=detector.runtime
        ),
        preprocessing=graph.preprocessing,
        aggregation=graph.aggregation,
        engine=EngineRecord(runtime=choice.runtime, precision=choice.precision),
        calibration=CalibrationRecord(
            scores=calibration.scores.tolist(),
            map_maxima=released.map_maxima,
            groups=groups_of(seen.split.calibrate, neutral=seen.record is not None),
            asked=calibration.asked,
            tolerance=calibration.tolerance,
            zones=released.zones,
            method=seen.split.method,
        ),
        training=training,
        golden=[
            GoldenRecord(
                file=name,
                score=score,
                verdict=calibration.verdict(score),
                zone_scores=released.golden_zones.get(name, []),
            )
            for name, score in zip(released.golden, parity.scores[choice], strict=True)
        ],
        examples=examples,
        classes=list(graph.classes),
        signal=seen.record,
        tiling=graph.tiling,
        acceptance=acceptance,
        zones=None if graph.zones is None else graph.zones.record,
        parity={
            str(engine): {"max_score_difference": float(np.abs(np.array(scores) - reference).max())}
            for engine, scores in parity.scores.items()
        },
        versions=library_versions(),
        members={},
    )


def _members(graph: Graph, pictures: Mapping[str, Picture], seen: Seen) -> dict[str, bytes]:
    members = {**pack_members(graph), **encode_pictures(pictures)}
    return members | ({GOOD_SPECTRA: pack_spectra(seen.good_spectra)} if seen.good_spectra else {})


def _record(
    detector: Detector,
    parts: PartSet,
    data: Path | str,
    seen: Seen,
    around: Surroundings,
    *,
    seed: int,
    since: float,
    auto: AutoRecord | None,
) -> TrainingRecord:
    used = seen.used
    return TrainingRecord(
        data=plain(Path(data).resolve().name),
        layout=parts.layout,
        n_good=sum(part.is_good for part in used),
        n_defective=sum(not part.is_good for part in used),
        n_learned=len(seen.split.learn),
        fingerprint=fingerprint(used),
        skipped=[plain(name) for name in seen.skipped],
        seed=seed,
        fit_seconds=round(time.perf_counter() - since, 2),
        notes=[
            *seen.notes,
            *around.notes(seen.split.learn),
            *getattr(detector, "notes_", []),
        ],
        auto=auto,
    )


def _summary(target: Path, manifest: Manifest, seconds: float) -> FitSummary:
    calibration, counted = manifest.calibration.calibration(), counted_in(manifest)
    auto = manifest.training.auto
    return FitSummary(
        model=str(target),
        detector=manifest.detector.name,
        n_learned=manifest.training.n_learned,
        n_defective=manifest.training.n_defective,
        n_calibration=calibration.scores.size,
        n_groups=calibration.n_groups,
        method=manifest.calibration.method,
        engine=str(manifest.engine.choice()),
        threshold=calibration.threshold,
        false_alarms=calibration.false_alarms,
        false_alarms_asked=calibration.asked,
        skipped=manifest.training.skipped,
        fit_seconds=round(seconds, 2),
        notes=[*manifest.training.notes, *budget_notes(calibration, counted)],
        counted=counted,
        auto=None if auto is None else auto.model_dump(),
    )


def _check_numbers(seed: int, white_level: int | None) -> None:
    check_seed(seed)
    full_scale(np.zeros((1, 1), np.uint16), white_level)


def _at_size_of(detector: Detector, seen: Seen) -> Detector:
    """Return a detector that takes windows at the size they are drawn, unless told otherwise.

    Networks pretrained on photos see as much at half of it, in a quarter of the time.
    """
    parameters = detector.get_parameters()
    if seen.record is None or parameters.get("image_size") != 0:
        return detector
    view = seen.record.view
    side = max(view.width, view.height * len(view.channels)) // (1 if detector.trains else 2)
    # Networks that halve their maps again and again take powers of two.
    return type(detector)(**{**parameters, "image_size": min(256, 1 << (side - 1).bit_length())})


def _fit(
    detector: Detector,
    split: Split,
    seed: int,
    around: Surroundings,
    training: Training,
    progress: Progress,
) -> list[tuple[Graph, list[int]]]:
    """Fit, and return per fold of a cross-fit its graph and which parts it has not seen."""
    seen, owners = cut_to_learn(split.learn, around.tiling)
    if split.method != "cross-fitted":
        if detector.trains:
            detector.fit(seen, progress=progress, training=training)
        else:
            detector.fit(seen, progress=progress)
        return []
    names = group_names(split.learn)
    good = sorted({name for name, p in zip(names, split.learn, strict=True) if p.is_good})
    groups = np.random.default_rng([seed, 2]).permutation(good)
    fold_of = {str(group): i % detector.n_folds for i, group in enumerate(groups)}
    # Defective parts of a group that has good ones as well are left out with it.
    folds = [fold_of.get(name, -1) for name in names]
    seen_folds = [folds[owner] for owner in owners]
    if detector.trains:
        graphs = detector.cross_fit(seen, seen_folds, progress=progress, training=training)
    else:
        graphs = detector.cross_fit(seen, seen_folds, progress=progress)
    calibrating = folds[: len(split.calibrate)]  # good parts come first
    return [
        (around.around(graph), [i for i, f in enumerate(calibrating) if f == fold])
        for fold, graph in enumerate(graphs)
    ]


def _check_device(detector: Detector, training: Training) -> None:
    if not detector.trains and training.device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"{detector.name} trains nothing; its network runs on the processor by OpenVINO or "
            f"ONNX Runtime. The device is {training.device!r}; accepted are auto and cpu."
        )


def _where(detector: Detector, training: Training, target: Path) -> Training:
    _check_device(detector, training)
    return replace(training, folder=training.folder or run_folder(target))


def _examples(graph: Graph, split: Split) -> dict[str, Picture]:
    """Return good parts to show beside those that a generator makes, none without generator."""
    if graph.generator is None:
        return {}
    seen, _ = cut_to_learn(split.learn, graph.tiling)
    chosen = sorted({i * len(seen) // _N_EXAMPLES for i in range(_N_EXAMPLES)})
    return {
        f"examples/{place:02d}.png": graph.preprocessing.resize(seen[i].read())
        for place, i in enumerate(chosen)
    }
