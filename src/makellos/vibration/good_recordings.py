"""Good recordings as a fit needs them: read, and divided to learn from and to calibrate with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, PartSet, group_names
from makellos.data.progress import Progress
from makellos.errors import InputError
from makellos.vibration.bearing_faults import bearing_spectra
from makellos.vibration.bearings import parse_bearing
from makellos.vibration.envelopes import BandSpectra
from makellos.vibration.parts import piece_of, rpm_of
from makellos.vibration.recordings import Recording, read_recording
from makellos.vibration.signal_copies import signal_copies
from makellos.vibration.signals import (
    SignalSettings,
    Takes,
    Windows,
    at_speed,
    cut_windows,
    open_view,
    window_parts,
    windows_of,
)
from makellos.vibration.views import SignalView
from makellos.vibration.windows import split_in_time

__all__ = [
    "ReadRecording",
    "counts_recordings",
    "distinct",
    "divide",
    "oddities",
    "parts_of",
    "read_all",
    "spectra_of_longest",
    "spread",
    "without_copies",
]

Divided = Literal["held out", "cross-fitted", "split val"]

_MOST_NAMED = 3  # sets of copies
_MANY = 5  # recordings from which they are what calibration counts, and not windows
_SHARE = 0.3  # of the recordings, or of each of few, that is held out to calibrate
_SECONDS = 60.0  # of the good state whose envelope spectra are kept
_MOST = 2000  # windows to learn from, or to calibrate with; more of the same add nothing


@dataclass(frozen=True)
class ReadRecording:
    """Hold the windows of a recording, and its speed in turns per minute where one is known."""

    part: Part
    windows: Windows
    rpm: float | None = None


def divide(
    parts: PartSet, read: Sequence[ReadRecording], view: SignalView, seed: int, *, trains: bool
) -> tuple[list[ReadRecording], list[ReadRecording], Divided]:
    held = {part.name for part in parts.calibration()}
    learn = [each for each in read if each.part.name not in held]
    calibrate = [each for each in read if each.part.name in held]
    method: Divided = "split val"
    if not learn:
        raise InputError(f"None of the good recordings of {parts.root} can be learned from.")
    if not calibrate:
        learn, calibrate, method = _apart(learn, view, seed, trains=trains)
    if not any(len(each.windows.values) for each in calibrate):
        raise InputError(
            f"The good recordings of {parts.root} are too short to learn from one part of each "
            "and to calibrate with another. Record longer or more, or use a smaller --window."
        )
    return learn, calibrate, method


def oddities(read: Sequence[ReadRecording]) -> list[str]:
    """Return what is odd about recordings, without the folders that they lie in."""
    return [
        note.replace(str(each.part.path), each.part.path.name)
        for each in read
        for note in each.windows.notes
    ]


def without_copies(read: Sequence[ReadRecording]) -> tuple[list[ReadRecording], list[str]]:
    """Return recordings of which each holds a signal of its own, and what to say of the others.

    Raises `InputError` where several hold one signal, and it alone.
    """
    left, notes = _copies([(each.part, each.windows.signal[0]) for each in read])
    return [each for i, each in enumerate(read) if i not in left], notes


def distinct(parts: Sequence[Part], view: SignalView) -> tuple[list[Part], list[str]]:
    """Return recordings as `without_copies` does; those that cannot be read stay among them."""
    read: list[tuple[Part, NDArray[np.float32]]] = []
    for part in parts:
        with suppress(InputError):
            recording = read_recording(part.path, rate=view.rate)
            read.append((part, cut_windows(recording, view, piece_of(part)).signal[0]))
    left, notes = _copies(read)
    names = {read[i][0].name for i in left}
    return [part for part in parts if part.name not in names], notes


def _copies(read: Sequence[tuple[Part, NDArray[np.float32]]]) -> tuple[set[int], list[str]]:
    """Return which recordings are copies of one before, and what to say of it."""
    sets = signal_copies([signal for _, signal in read])
    names = [[read[i][0].name for i in alike] for alike in sets]
    if names and len(names[0]) == len(read):
        raise InputError(
            f"All {len(read)} good recordings hold the same signal, such as {read[0][0].path} "
            f"and {read[1][0].path}; it cannot show how good ones differ. Keep one "
            "of them, or record again."
        )
    left = {i for alike in sets for i in alike[1:]}
    listed = "; ".join(" = ".join(alike[:_MOST_NAMED]) for alike in names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    notes = [f"Recordings of the same signal, of which the first alone counts: {listed}{more}."]
    return left, notes if names else []


def spectra_of_longest(read: Sequence[ReadRecording], view: SignalView) -> dict[str, BandSpectra]:
    """Return the envelope spectra of the longest good recording at the view's speed, by channel."""
    if not view.bearing or view.shaft_hz is None:
        return {}
    alike = [each for each in read if at_speed(view, each.rpm).shaft_hz == view.shaft_hz]
    longest = max(alike, key=lambda each: each.windows.signal.shape[1], default=None)
    if longest is None:
        return {}
    bearing, found = parse_bearing(view.bearing), {}
    for name, signal in zip(view.channels, longest.windows.signal, strict=True):
        with suppress(InputError):  # too short: faults are named without it
            some = signal[: round(_SECONDS * view.rate)]
            found[name] = bearing_spectra(some, view.rate, bearing, view.shaft_hz)
    return found


def read_all(
    parts: Sequence[Part], settings: SignalSettings, takes: Takes, progress: Progress
) -> tuple[SignalView, list[ReadRecording], list[tuple[Part, str]]]:
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
    # What a file says of its speed counts less than what the user does.
    speeds = [rpm_of(part) or settings.rpm or recording.rpm for part, recording in opened]
    view = open_view(settings, [recording for _, recording in opened], speeds, takes)
    read: list[ReadRecording] = []
    for (part, recording), rpm in zip(opened, speeds, strict=True):
        try:
            windows = cut_windows(recording, view, piece_of(part))
            read.append(ReadRecording(part, windows, rpm))
        except InputError as error:
            skipped.append((part, str(error)))
    return view, read, skipped


def counts_recordings(parts: Sequence[Part]) -> bool:
    """Tell whether a calibration counts recordings: so few that they show nothing do not count."""
    return len(set(group_names(parts))) >= _MANY


def _apart(
    read: Sequence[ReadRecording], view: SignalView, seed: int, *, trains: bool
) -> tuple[list[ReadRecording], list[ReadRecording], Divided]:
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


def _in_time(read: ReadRecording, view: SignalView) -> tuple[ReadRecording, ReadRecording | None]:
    """Divide a recording in time; one too short for it is learned from alone."""
    windows = read.windows
    n_samples = windows.signal.shape[1]
    if _SHARE * n_samples < view.window:
        return read, None
    early, late = split_in_time(n_samples, [1 - _SHARE, _SHARE], view.window)
    first = int(windows.starts[0])
    return (
        replace(read, windows=windows_of(windows.signal[:, early], view, first)),
        replace(read, windows=windows_of(windows.signal[:, late], view, first + late.start)),
    )


def spread(read: Sequence[ReadRecording]) -> list[ReadRecording]:
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


def parts_of(read: ReadRecording, view: SignalView, *, by_recording: bool) -> list[Part]:
    windows, part = read.windows, read.part
    chosen = slice(None) if by_recording else slice(None, None, -(-view.window // view.hop))
    starts = windows.starts[chosen]
    seen = at_speed(view, read.rpm).see(windows.values[chosen])
    # Windows that share samples are not counted twice.
    groups = None if by_recording else [f"{part.name} at {start}" for start in starts.tolist()]
    return window_parts(part, view, seen, starts, groups)
