"""Signals as fit needs them: recordings read, cut and seen; which windows calibrate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, PartSet, group_names
from makellos.data.progress import Progress
from makellos.detectors import Detector
from makellos.drawing.recording_panels import draw_recording
from makellos.errors import ConfigurationError, InputError
from makellos.inspection import Inspection, Inspector
from makellos.inspection.engines import default_workers
from makellos.inspection.model_file import read_model
from makellos.inspection.recordings import SignalRecord
from makellos.models.partition import Seen
from makellos.models.release import Method, Split
from makellos.vibration.bearing_faults import bearing_spectra
from makellos.vibration.bearings import parse_bearing
from makellos.vibration.envelopes import BandSpectra
from makellos.vibration.recordings import Recording, read_recording
from makellos.vibration.signals import (
    SignalSettings,
    Takes,
    Windows,
    at_speed,
    cut_windows,
    open_view,
    read_windows,
    window_parts,
    windows_of,
)
from makellos.vibration.views import SignalView
from makellos.vibration.windows import split_in_time

__all__ = [
    "Recordings",
    "counts_recordings",
    "inspect_windows",
    "number_recordings",
    "open_inspector",
    "see_signals",
    "standing_apart",
]

_MANY = 5  # recordings from which they are what calibration counts, and not windows
_SHARE = 0.3  # of the recordings, or of each of few, that is held out to calibrate
_SECONDS = 60.0  # of the good state whose envelope spectra are kept
_MOST_PANELS = 40  # in a report, which has to pass through a mail server
_MOST = 2000  # windows to learn from, or to calibrate with; more of the same add nothing


@dataclass
class Recordings:
    """Collect what an evaluation says of recordings.

    `entries` by name: label, verdict, p-value, windows, and the fault that fits. `panels` are names
    and WebP pictures, where it `draws`.
    """

    draws: bool
    entries: dict[str, Any] = field(default_factory=dict)
    panels: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    part: Part
    windows: Windows


def see_signals(
    parts: PartSet,
    settings: SignalSettings | None,
    detector: Detector,
    _false_alarms: float,
    seed: int,
    skip_unreadable: bool,
    *,
    progress: Progress,
) -> Seen:
    """Read the good recordings of a set, and return their windows as a detector sees them.

    Recordings of split ``val`` calibrate. Without such all are cross-fitted by recording, or 3 in
    10 held out where the detector trains; of fewer than 5 recordings the last 3 tenths of each are
    held out. Windows of one recording are never shuffled. Where 5 recordings or more calibrate they
    are what is counted; of fewer, blocks of windows that share no samples. Raises `InputError` for
    recordings that cannot be used (unless `skip_unreadable`), `ConfigurationError` for settings
    that do not fit.
    """
    _check(parts, detector)
    good, calibration = parts.good(), parts.calibration()
    view, read, skipped = _read(
        [*good, *calibration], settings or SignalSettings(), detector.takes, progress
    )
    if skipped and not (skip_unreadable and read):
        listed = "\n  ".join(reason for _, reason in skipped)
        raise InputError(
            f"{len(skipped)} of {len(good) + len(calibration)} recordings cannot be used:\n  "
            f"{listed}\nMend or remove them, or leave them out with --skip-unreadable."
        )
    learn, calibrate, method = _divided(parts, read, view, seed, trains=detector.trains)
    by_recording = counts_recordings([each.part for each in calibrate])
    learn, calibrate = _some(learn), _some(calibrate)
    view = view.learned(np.concatenate([each.windows.values for each in learn]))
    learned = [part for each in learn for part in _parts(each, view, by_recording=True)]
    calibrating = learned
    if method != "cross-fitted":
        calibrating = [
            part for each in calibrate for part in _parts(each, view, by_recording=by_recording)
        ]
    return Seen(
        Split(learned, calibrating, method),
        SignalRecord(
            view=view,
            calibrated_on="recordings" if by_recording else "blocks",
            recordings=number_recordings(calibrating),
        ),
        [each.part for each in read],
        [part.name for part, _ in skipped],
        _notes(read),
        _good_spectra(learn, view),
    )


def _check(parts: PartSet, detector: Detector) -> None:
    if detector.needs_labels:
        raise ConfigurationError(
            f"{detector.name} learns from labelled pictures, and {parts.root} holds recordings. "
            "Choose a detector that learns from good parts alone, such as patchcore or pyod."
        )
    if not parts.good():
        raise InputError(
            f"{parts.root} has no good recordings to learn from ({parts.layout}). Put them into "
            "train/good or good, or label them 'good' with split 'train' or none in a manifest."
        )


def _divided(
    parts: PartSet, read: Sequence[_Read], view: SignalView, seed: int, *, trains: bool
) -> tuple[list[_Read], list[_Read], Method]:
    held = {part.name for part in parts.calibration()}
    learn = [each for each in read if each.part.name not in held]
    calibrate = [each for each in read if each.part.name in held]
    method: Method = "split val"
    if not learn:
        raise InputError(f"None of the good recordings of {parts.root} can be learned from.")
    if not calibrate:
        learn, calibrate, method = _apart(learn, view, seed, trains=trains)
    if not any(len(each.windows.values) for each in calibrate):
        raise InputError(
            f"The good recordings of {parts.root} are too short to learn from one part of each "
            "and to calibrate with another. Record longer or more, or give a smaller --window."
        )
    return learn, calibrate, method


def standing_apart(windows: Sequence[Part], view: SignalView) -> list[bool]:
    """Tell which windows share no samples with one before them that does not either."""
    ends: dict[str, int] = {}
    found = []
    for part in windows:
        name, start = ("", 0) if part.view is None else (part.view.recording, part.view.start)
        found.append(start >= ends.get(name, 0))
        if found[-1]:
            ends[name] = start + view.window
    return found


def number_recordings(windows: Sequence[Part]) -> tuple[int, ...]:
    """Return the number of the recording of each window, from 0."""
    names = ["" if part.view is None else part.view.recording for part in windows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(numbers[name] for name in names)


def _notes(read: Sequence[_Read]) -> list[str]:
    """Return what is odd about recordings, without the folders that they lie in."""
    return [
        note.replace(str(each.part.path), each.part.path.name)
        for each in read
        for note in each.windows.notes
    ]


def _good_spectra(read: Sequence[_Read], view: SignalView) -> dict[str, BandSpectra]:
    """Return the envelope spectra of the longest good recording at the view's speed, by channel."""
    if not view.bearing or view.shaft_hz is None:
        return {}
    alike = [each for each in read if at_speed(view, each.part.rpm).shaft_hz == view.shaft_hz]
    longest = max(alike, key=lambda each: each.windows.signal.shape[1], default=None)
    if longest is None:
        return {}
    bearing, found = parse_bearing(view.bearing), {}
    for name, signal in zip(view.channels, longest.windows.signal, strict=True):
        with suppress(InputError):  # too short: faults are named without it
            some = signal[: round(_SECONDS * view.rate)]
            found[name] = bearing_spectra(some, view.rate, bearing, view.shaft_hz)
    return found


def inspect_windows(
    inspector: Inspector,
    recordings: Sequence[Part],
    found: Recordings,
    progress: Progress,
) -> Iterator[tuple[Part, Inspection]]:
    """Yield the windows of recordings as parts with their inspections.

    A recording that cannot be read is yielded itself, unreadable. `found` gets what there is to
    say of each other one.
    """
    record = inspector.manifest.signal
    for done, part in enumerate(recordings, start=1):
        inspection = inspector.inspect_recording(
            part.path, name=part.name, piece=part.piece, rpm=part.rpm
        )
        finding = inspection.recording
        if finding is None or record is None:
            yield part, inspection
        else:
            found.entries[part.name] = {
                "label": part.label,
                "verdict": inspection.verdict,
                "p_value": inspection.p_value,
                **finding.row(),
                **part.details,
            }
            view = at_speed(record.view, part.rpm)
            windows = read_windows(part.path, view, part.piece)
            seen = view.see(windows.values)
            if found.draws and len(found.panels) < _MOST_PANELS:
                drawn = draw_recording(
                    windows,
                    view,
                    inspection,
                    threshold=inspector.threshold,
                    rpm=part.rpm,
                    map_threshold=inspector.map_threshold,
                )
                found.panels.append((part.name, _encoded(drawn)))
            yield from zip(
                window_parts(part, view, seen, windows.starts), finding.windows, strict=True
            )
        progress("inspecting", done, len(recordings))


def _encoded(drawn: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".webp", drawn[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 85])
    raw: bytes = encoded.tobytes()
    return raw


def _read(
    parts: Sequence[Part], settings: SignalSettings, takes: Takes, progress: Progress
) -> tuple[SignalView, list[_Read], list[tuple[Part, str]]]:
    """Return the view that suits most recordings, those it fits, and the others with the reason."""
    opened: list[tuple[Part, Recording]] = []
    skipped: list[tuple[Part, str]] = []
    for i, part in enumerate(parts):
        try:
            opened.append((part, read_recording(part.path, rate=settings.rate)))
        except InputError as error:
            skipped.append((part, str(error)))
        progress("reading recordings", i + 1, len(parts))
    if not opened:
        listed = "\n  ".join(reason for _, reason in skipped)
        raise InputError(f"No recording can be read:\n  {listed}")
    speeds = [part.rpm for part, _ in opened]
    view = open_view(settings, [recording for _, recording in opened], speeds, takes)
    read: list[_Read] = []
    for part, recording in opened:
        try:
            read.append(_Read(part, cut_windows(recording, view, part.piece)))
        except InputError as error:
            skipped.append((part, str(error)))
    return view, read, skipped


def counts_recordings(parts: Sequence[Part]) -> bool:
    """Tell whether a calibration counts recordings: so few that they show nothing do not count."""
    return len(set(group_names(parts))) >= _MANY


def _apart(
    read: Sequence[_Read], view: SignalView, seed: int, *, trains: bool
) -> tuple[list[_Read], list[_Read], Method]:
    """Return recordings to learn from, those that calibrate, and how; few are divided in time."""
    names = group_names([each.part for each in read])
    groups = sorted(set(names))
    if len(groups) >= _MANY:
        if not trains:
            return list(read), list(read), "cross-fitted"
        n_aside = max(1, round(_SHARE * len(groups)))
        order = np.random.default_rng([seed, 1]).permutation(groups)
        aside = set(order[:n_aside].tolist())
        return (
            [each for each, name in zip(read, names, strict=True) if name not in aside],
            [each for each, name in zip(read, names, strict=True) if name in aside],
            "held out",
        )
    halves = [_in_time(each, view) for each in read]
    return [first for first, _ in halves], [late for _, late in halves if late], "held out"


def _in_time(read: _Read, view: SignalView) -> tuple[_Read, _Read | None]:
    """Divide a recording in time; one too short for it is learned from alone."""
    windows = read.windows
    n_samples = windows.signal.shape[1]
    if _SHARE * n_samples < view.window:
        return read, None
    early, late = split_in_time(n_samples, [1 - _SHARE, _SHARE], view.window)
    first = int(windows.starts[0])
    return (
        _Read(read.part, windows_of(windows.signal[:, early], view, first)),
        _Read(read.part, windows_of(windows.signal[:, late], view, first + late.start)),
    )


def _some(read: Sequence[_Read]) -> list[_Read]:
    """Return recordings with every window, or with some spread over all where they are many."""
    n_windows = sum(len(each.windows.values) for each in read)
    step = -(-n_windows // _MOST)
    if step <= 1:
        return list(read)
    return [
        replace(
            each,
            windows=replace(
                each.windows,
                values=each.windows.values[::step],
                starts=each.windows.starts[::step],
            ),
        )
        for each in read
    ]


def _parts(read: _Read, view: SignalView, *, by_recording: bool) -> list[Part]:
    windows, part = read.windows, read.part
    chosen = slice(None) if by_recording else slice(None, None, -(-view.window // view.hop))
    starts = windows.starts[chosen]
    seen = at_speed(view, part.rpm).see(windows.values[chosen])
    # Windows that share samples are not counted twice.
    groups = None if by_recording else [f"{part.name} at {start}" for start in starts.tolist()]
    return window_parts(part, view, seen, starts, groups)


def open_inspector(model: Path | str, found: PartSet, n_parts: int) -> Inspector:
    """Return the inspector; raise `InputError` where a model of one kind meets parts of another."""
    manifest = read_model(Path(model)).manifest
    kind = "pictures" if manifest.signal is None else "signals"
    if kind != found.kind:
        raise InputError(
            f"{model} was fitted on {kind}, and {found.root} holds {found.kind}. Give data of the "
            "same kind."
        )
    # Windows are taken many at once, so that recordings follow one another.
    workers = 1 if kind == "signals" else min(default_workers(), n_parts)
    if manifest.tiling is not None:
        workers = default_workers()
    return Inspector(model, workers=workers)
