"""Fit: from a folder of good parts to a calibrated model file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from makellos.calibration import check_look_again, parts_needed
from makellos.calibration.leaving_out import setters
from makellos.data.array_sets import ArrayKeys
from makellos.data.few import drawn_good
from makellos.data.good_labels import GoodLabels, parse_good
from makellos.data.groups import AUTO
from makellos.data.memory import Means
from makellos.data.parts import PICTURES, PartSet
from makellos.data.pictures import full_scale
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.detectors import Detector, make_detector
from makellos.errors import ConfigurationError
from makellos.inspection.manifest import Manifest
from makellos.models import check_target
from makellos.models.alignment import choose_pose
from makellos.models.coverage import Coverage, Frame, class_shares, frame_of
from makellos.models.forecast import Forecast, forecast_of
from makellos.models.learning import lesson_of
from makellos.models.partition import Partition, PartitionRequest
from makellos.models.provenance import budget_notes
from makellos.models.release import Folds, plain, release
from makellos.models.released_model import ReleasedModel
from makellos.search.auto import AutoSettings, Choice, check_auto, choose
from makellos.subjects import Subject, find_parts, subject_of, subject_of_model
from makellos.training import Training, run_folder
from makellos.vibration.signals import SignalSettings

__all__ = ["FitSummary", "fit"]


@dataclass(frozen=True)
class FitSummary:
    """Hold what a fit did: where the model is, what it learned from and what it promises.

    `counted` is what `n_groups` counts: parts, groups, recordings, or windows of signals, and
    `promise` says what is promised of which good parts. `auto` says what was tried where the
    detector was chosen, else None. `threshold_set_by` names the good parts that reach the
    threshold, the oddest first; empty for recordings. `good` are the labels that meant good.
    `forecast` is what was told beforehand, None where nothing was.
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
    promise: str = ""
    auto: dict[str, Any] | None = None
    threshold_set_by: list[str] = field(default_factory=list)
    data: str = ""
    good: list[str] = field(default_factory=list)
    forecast: dict[str, Any] | None = None


def fit(
    data: Path | str,
    model: Path | str,
    *,
    detector: str = "patchcore",
    preset: str = "balanced",
    parameters: Mapping[str, Any] | None = None,
    false_alarms: float = 0.01,
    look_again: float | None = None,
    class_budgets: Mapping[str, float] | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    white_level: int | None = None,
    training: Training | None = None,
    signal: SignalSettings | None = None,
    coverage: Coverage | None = None,
    groups: str | None = None,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    n_good: int | None = None,
    time_budget: float | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
    on_note: Callable[[str], None] | None = None,
    on_forecast: Callable[[Forecast], None] | None = None,
) -> FitSummary:
    """Learn from the good parts of `data` and write a calibrated model file.

    `data` is what `find_parts` takes, `false_alarms` the share of good parts that may be rejected
    by mistake (`class_budgets`: as some kind of defect; the others share the rest), `look_again`
    that looked at again (default: twice as large). Raises `InputError` for data that cannot be used
    or decoded, `ConfigurationError` for what is not accepted, `StorageError` for no place to write.

    `training` says where and how a detector that `trains` does so, by default in ``MODEL.run``;
    with `training.resume` an interrupted run there goes on. `signal` says how recordings are seen,
    `coverage` how pictures are turned, cut and judged. `groups`, `good` and `keys` are those of
    `find_parts`. Only `n_good` good parts, drawn by the seed, are learned from. ``auto`` finds
    groups, or tries detectors for `time_budget` minutes. At most `memory` bytes are taken.
    `on_note` gets notes beforehand, `on_forecast` the time and memory it takes, if these are known.
    """
    started, report, target = time.perf_counter(), progress or no_progress, Path(model)
    asked = _asked(parameters, time_budget, seed, white_level, skip_unreadable, training)
    named = _named(detector, preset, asked, signal)
    _check_promise(false_alarms, look_again, target)
    parts = drawn_good(find_parts(data, groups, good=good, keys=keys), n_good, seed)
    subject, covers = _subject(parts, signal, coverage, white_level)
    frame = frame_of(covers, false_alarms, white_level)
    choice, frame = _chosen(named, parts, asked, frame, class_budgets or {}, report)
    means, told = _foreseen(parts, choice.detector, frame, seed, memory, on_forecast)
    asks = (choice.detector, frame.smallest_budget, seed, skip_unreadable, signal, groups == AUTO)
    partition = subject.partition(parts, PartitionRequest(*asks, means.workers), report)
    partition, frame = _posed(partition, frame, covers.align, choice.detector, report, on_note)
    fitted = subject.sized(choice.detector, partition)
    lesson, where = lesson_of(partition, frame, fitted.n_folds, seed), _where(choice, target, means)
    graphs = fitted.cross_fit(lesson.parts, lesson.folds, progress=report, training=where)
    made = _released(fitted, frame, partition, lesson.recipes(graphs, frame), look_again, report)
    record = made.training(Path(data).resolve().name, parts.layout, seed, choice.record)
    known = {"fit_seconds": round(time.perf_counter() - started, 2), "good": [*parse_good(good)]}
    manifest = made.write(target, record.model_copy(update=known), report)
    return _summary(target, manifest, started, _set_by(partition, manifest), str(data), told)


def _foreseen(
    parts: PartSet,
    detector: Detector,
    frame: Frame,
    seed: int,
    memory: int | None,
    on_forecast: Callable[[Forecast], None] | None,
) -> tuple[Means, dict[str, Any] | None]:
    """Return what a fit may use, and what it will take: if one wants to know, or it is bounded."""
    if memory is None and on_forecast is None:
        return Means(), None
    found = forecast_of(parts, detector, frame, seed, memory or 0)
    if found is None:
        return Means(), None
    if on_forecast is not None:
        on_forecast(found)
    return found.means, found.row()


def _subject(
    parts: PartSet,
    signal: SignalSettings | None,
    coverage: Coverage | None,
    white_level: int | None,
) -> tuple[Subject, Coverage]:
    """Return the subject of parts, which accepts these options, and what a fit covers."""
    subject, covers = subject_of(parts), coverage or Coverage()
    subject.check_options(parts, signal, covers, white_level)
    return subject, covers


def _check_promise(false_alarms: float, look_again: float | None, target: Path) -> None:
    parts_needed(false_alarms)  # refuses what is no budget
    check_look_again(look_again)
    check_target(target)


def _by_class(
    frame: Frame, budgets: Mapping[str, float], detector: Detector, parts: PartSet
) -> Frame:
    """Return a frame with the budgets of a classifier's kinds of damage, if any were given."""
    if not budgets:
        return frame
    if parts.kind is not PICTURES:
        raise ConfigurationError(
            f"{parts.root} holds {parts.kind.name}, but --class-budget is for pictures. Leave it "
            "out."
        )
    known = detector.tells_apart(parts.labelled())
    whole, shares = class_shares(budgets, known, frame.false_alarms)
    return replace(frame, false_alarms=whole, class_shares=shares)


def _released(
    fitted: Detector,
    frame: Frame,
    partition: Partition,
    folds: Folds,
    look_again: float | None,
    progress: Progress,
) -> ReleasedModel:
    """Return a fitted detector calibrated by good parts, each scored by a fold without it."""
    recipe = frame.recipe(fitted.graph())
    asked = (frame.false_alarms, progress, look_again)
    released = release(recipe, folds, partition, *asked, shares=frame.class_shares)
    return ReleasedModel(fitted, frame, partition, released)


def _posed(
    partition: Partition,
    frame: Frame,
    asked: str | None,
    detector: Detector,
    progress: Progress,
    on_note: Callable[[str], None] | None,
) -> tuple[Partition, Frame]:
    """Return a partition and its frame with the pose that parts are turned to, if they are.

    Raises `InputError` where the frame does not fit the parts.
    """
    frame.check([part for part in partition.used if part.is_good], partition.calibrate)
    if partition.signal is not None:
        return partition, frame
    good = [part for part in partition.learn if part.is_good]
    # Zones are drawn on whole pictures; tiles are asked for to see these in full detail.
    tiled = frame.tiling is not None and asked is None and not detector.needs_one_pose
    as_it_lies = frame.zones is not None or tiled
    pose = choose_pose(good, "none" if as_it_lies else asked, detector, progress)
    if not pose.note:
        return partition, frame
    if on_note is not None:
        on_note(pose.note)
    noted = replace(partition, notes=[*partition.notes, pose.note])
    return noted, replace(frame, alignment=pose.alignment)


def _asked(
    parameters: Mapping[str, Any] | None,
    minutes: float | None,
    seed: int,
    white_level: int | None,
    skip_unreadable: bool,
    training: Training | None,
) -> AutoSettings:
    check_seed(seed)
    full_scale(np.zeros((1, 1), np.uint16), white_level)  # refuses a level that cannot be
    return AutoSettings(
        parameters=parameters or {},
        minutes=minutes,
        seed=seed,
        white_level=white_level,
        skip_unreadable=skip_unreadable,
        training=training or Training(),
    )


def _where(choice: Choice, target: Path, means: Means) -> Training:
    folder = choice.training.folder or run_folder(target)
    return replace(choice.training, folder=folder, means=means)


def _named(
    detector: str, preset: str, asked: AutoSettings, signal: SignalSettings | None
) -> Detector | None:
    """Return the detector that the user named; None for auto."""
    if check_auto(detector, preset, asked.minutes, asked.training, signal):
        return None
    made = make_detector(detector, preset=preset, parameters=asked.parameters, seed=asked.seed)
    made.require()
    _check_device(made, asked.training)
    return made


def _chosen(
    named: Detector | None,
    parts: PartSet,
    asked: AutoSettings,
    frame: Frame,
    budgets: Mapping[str, float],
    progress: Progress,
) -> tuple[Choice, Frame]:
    """Return the detector to fit, how to train it and how it was chosen, and its frame.

    The frame has the `budgets` of the kinds of defects that a classifier will know.
    """
    if named is not None:
        choice = Choice(named, asked.training)
    else:
        on_maps = frame.tiling is not None or frame.zones is not None
        choice = choose(parts, replace(asked, on_maps=on_maps), progress)
    frame.check_detector(choice.detector)
    _check_device(choice.detector, choice.training)
    return choice, _by_class(frame, budgets, choice.detector, parts)


def _summary(
    target: Path,
    manifest: Manifest,
    started: float,
    set_by: list[str],
    data: str,
    forecast: dict[str, Any] | None,
) -> FitSummary:
    calibration = manifest.calibration.calibration()
    counted = subject_of_model(manifest).counted(manifest)
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
        fit_seconds=round(time.perf_counter() - started, 2),
        notes=[*manifest.training.notes, *budget_notes(calibration, counted, manifest.calibration)],
        counted=counted,
        promise=manifest.promise(),
        auto=None if auto is None else auto.model_dump(),
        threshold_set_by=set_by,
        data=data,
        good=manifest.training.good,
        forecast=forecast,
    )


def _set_by(partition: Partition, manifest: Manifest) -> list[str]:
    """Return the names of the parts that reach the threshold, the oddest first."""
    if partition.signal is not None:
        return []
    reached = setters(manifest.calibration.calibration())
    return [plain(partition.calibrate[i].name) for i in reached]


def _check_device(detector: Detector, training: Training) -> None:
    if not detector.trains and training.device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"{detector.name} trains no network; it runs on the CPU with OpenVINO or ONNX Runtime. "
            f"The device is {training.device!r}; expected auto or cpu."
        )
