"""From recordings to windows that detectors see: one shared way, for fitting and inspecting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from makellos.data.parts import Part, Values
from makellos.errors import ConfigurationError, suggest
from makellos.vibration.recordings import Recording, refuse
from makellos.vibration.views import VIEWS, SignalView, ViewName
from makellos.vibration.windows import Piece

__all__ = [
    "SignalSettings",
    "Takes",
    "Windows",
    "at_speed",
    "cut_windows",
    "open_view",
    "window_parts",
    "windows_of",
]

Takes = Literal["pictures", "features"]


@dataclass(frozen=True, kw_only=True)
class SignalSettings:
    """Say how recordings are cut into windows, and how these are seen.

    `rate` in Hz, if files do not state it. `channel`: names separated by commas; empty: all.
    `window` and `hop` in samples; a `hop` of 0 is a window, without overlap. `view` is one of
    `VIEWS`; empty: the one that suits the detector. `bearing` and `rpm` are needed to name faults.
    """

    rate: float | None = None
    channel: str = ""
    window: int = 2048
    hop: int = 0
    view: str = ""
    bearing: str = ""
    rpm: float | None = None


@dataclass(frozen=True, eq=False)
class Windows:
    """Hold the windows n×C×window of a recording or a piece of it, in the channels of a view.

    `signal` C×N are its samples, `starts` (n,) the windows' first ones, counted in the whole
    recording. `notes` say what is odd about it.
    """

    values: NDArray[np.float32]
    starts: NDArray[np.intp]
    signal: NDArray[np.float32]
    notes: Sequence[str]


def open_view(
    settings: SignalSettings,
    recordings: Sequence[Recording],
    speeds: Sequence[float | None],
    takes: Takes,
) -> SignalView:
    """Return the view of recordings that a detector learns from, as most of them are.

    `speeds` are those of their shafts in turns per minute. Levels are still to be `learned`. Raises
    `InputError` for channels that there are not, `ConfigurationError` for settings that are not
    accepted.
    """
    name = _view_name(settings.view, takes)
    (kind, _), *_ = Counter((each.rate, each.channels) for each in recordings).most_common(1)
    first = next(each for each in recordings if (each.rate, each.channels) == kind)
    if first.rate is None:
        raise ConfigurationError(
            f"{first.path} does not state its sampling rate. Give it in Hz, such as --rate 48000."
        )
    known = all(speed is not None for speed in speeds)
    rpm = settings.rpm if settings.rpm is not None else (speeds[0] if known else None)
    if rpm is not None and not 0 < rpm < np.inf:
        raise ConfigurationError(f"The speed is {rpm:g} rpm; expected a number above 0.")
    for label, value, least in (("window", settings.window, 16), ("hop", settings.hop, 0)):
        if value < least:
            raise ConfigurationError(
                f"The {label} is {value} samples; expected a whole number, at least {least}."
            )
    return SignalView(
        rate=first.rate,
        channels=_channels(settings.channel, first),
        window=settings.window,
        hop=settings.hop or settings.window,
        view=name,
        bearing=settings.bearing,
        shaft_hz=None if rpm is None else rpm / 60,
    )


def cut_windows(recording: Recording, view: SignalView, piece: Piece | None = None) -> Windows:
    """Cut a recording, or a piece of it, into the windows of a view.

    Raises `InputError` for a recording that no verdict can rest on, and one with fewer samples than
    a window.
    """
    offset = 0
    if piece is not None:
        offset = piece.samples(recording.n_samples, view.rate).start
        recording = _piece(recording, piece, view)
    notes = refuse(recording, window=view.window, rate=view.rate, channels=view.channels)
    rows = [recording.channels.index(name) for name in view.channels]
    return windows_of(recording.values[rows], view, offset, notes)


def windows_of(
    signal: NDArray[np.float32], view: SignalView, first: int = 0, notes: Sequence[str] = ()
) -> Windows:
    """Return the windows of a signal C×N that begins at sample `first` of its recording."""
    values = sliding_window_view(signal, view.window, axis=1)[:, :: view.hop].swapaxes(0, 1)
    return Windows(values, first + view.hop * np.arange(len(values)), signal, notes)


def at_speed(view: SignalView, rpm: float | None) -> SignalView:
    """Return the view of a machine whose shaft makes `rpm` turns per minute; None: as it is.

    A view of features that knew no speed at fit has none of the bearing's rates, and keeps so.
    Raises `ConfigurationError` for a speed that the rate cannot follow.
    """
    if rpm is None or (view.view == "features" and view.shaft_hz is None):
        return view
    return SignalView.model_validate({**view.model_dump(), "shaft_hz": rpm / 60})


def window_parts(
    recording: Part,
    view: SignalView,
    seen: NDArray[Any],
    starts: NDArray[np.intp],
    groups: Sequence[str] | None = None,
) -> list[Part]:
    """Return the windows of a recording as parts, that `seen` n×… shows from `starts` (n,).

    `groups` (n,) says which belong together; without it all windows of a recording do.
    """
    whole = recording.group or recording.name
    return [
        replace(
            recording,
            name=f"{recording.name} at {start / view.rate:.6g} s",
            group=whole if groups is None else groups[i],
            source=Values(seen[i]),
        )
        for i, start in enumerate(starts)
    ]


def _view_name(given: str, takes: Takes) -> ViewName:
    default: ViewName = "features" if takes == "features" else "stft"
    for name in VIEWS:
        if name == (given or default):
            if (name == "features") == (takes == "features"):
                return name
            fits = "features" if takes == "features" else "stft, logmel or scalogram"
            raise ConfigurationError(
                f"The view {given!r} does not fit this detector, which learns from {takes}. Use "
                f"--view {fits}, or another detector (pyod learns from features, the others from "
                "pictures)."
            )
    raise ConfigurationError(f"There is no view {given!r}. {suggest(given, VIEWS)}")


def _channels(given: str, first: Recording) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    for name in names:
        first.channel(name)  # raises where there is none
    if len(set(names)) < len(names):
        raise ConfigurationError(f"The channels are {given!r}; name each once.")
    return names or first.channels


def _piece(recording: Recording, piece: Piece, view: SignalView) -> Recording:
    wanted = piece.samples(recording.n_samples, view.rate)
    gaps = tuple(
        (place - wanted.start, jump)
        for place, jump in recording.gaps
        if wanted.start < place < wanted.stop
    )
    return replace(recording, values=recording.values[:, wanted], gaps=gaps)
