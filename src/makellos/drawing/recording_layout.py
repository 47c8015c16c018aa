"""Where everything lies on the picture of a recording: charts and lines of text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from makellos.drawing.lettering import shorten, text_width
from makellos.drawing.panel_axes import MARGIN, TEXT, Axes, Floats
from makellos.errors import InputError
from makellos.inspection.findings import Inspection, RecordingFinding
from makellos.vibration.bearing_faults import FAULTS, FaultFinding
from makellos.vibration.signals import Windows
from makellos.vibration.views import SignalView

__all__ = [
    "LANE",
    "WIDTH",
    "FaultChart",
    "Layout",
    "Mark",
    "found_on",
    "lay_out",
    "maps_of",
    "scores_of",
]

Lines = tuple[tuple[int, str], ...]  # of text, with the row of their middle

WIDTH = 1200
LANE = 16  # rows of a line of labels above an envelope spectrum
_LEFT, _PLOT = 92, 996
_HEAD, _TITLE_ROW, _FOOT, _LINE = 84, 27, 50, 23
_HEIGHTS = {1: 230, 2: 170, 3: 130}  # of each spectrogram, by how many there are
_MAP_HEIGHTS = {1: 170, 2: 130, 3: 120}  # of what is unusual below each
_SCORES, _ENVELOPE = 150, 220
_MULTIPLES = range(1, 6)  # of a rate that are marked


@dataclass(frozen=True)
class Mark:
    """Hold one line where a fault would show, in Hz; `label` is empty for most.

    `named`: it is of the fault that the finding names. `decibels` is its height where it was found,
    None where it was not.
    """

    frequency: float
    label: str
    named: bool = False
    decibels: float | None = None


@dataclass(frozen=True)
class FaultChart:
    """Hold where the envelope spectrum of a channel lies, what is marked in it, and its finding."""

    channel: str
    axes: Axes
    marks: tuple[Mark, ...]
    sentence: Lines


@dataclass(frozen=True)
class Layout:
    """Hold where everything lies on the picture of a recording; `spectrograms` by channel.

    So are `maps`, the charts of what is unusual; they are empty where no detector said when and at
    which frequencies.
    """

    height: int
    spectrograms: dict[str, Axes]
    scores: Axes
    fault: FaultChart | None
    notes: Lines
    maps: dict[str, Axes] = field(default_factory=dict)


def lay_out(
    windows: Windows,
    view: SignalView,
    inspection: Inspection,
    threshold: float,
    map_threshold: float | None = None,
) -> Layout:
    """Return where `draw_recording` draws what, so that pixels can be read as s, Hz and dB.

    Raises `InputError` as it does.
    """
    recording = found_on(windows, view, inspection)
    n_samples, first = windows.signal.shape[1], int(windows.starts[0])
    times = (first / view.rate, (first + n_samples) / view.rate)
    channel = next((name for name, one in recording.faults.items() if one is recording.fault), None)
    ranked = sorted(view.channels, key=lambda name: name != channel)[: max(_HEIGHTS)]
    heights = {"spectrogram": _HEIGHTS[len(ranked)]}
    if map_threshold is not None and math.isfinite(map_threshold) and maps_of(recording):
        heights["map"] = _MAP_HEIGHTS[len(ranked)]
    charts: dict[str, dict[str, Axes]] = {"spectrogram": {}, "map": {}}
    top = _HEAD
    for name in [name for name in view.channels if name in ranked]:
        for kind, height in heights.items():
            place = _LEFT, top + _TITLE_ROW, _PLOT, height
            charts[kind][name] = Axes(*place, times, (0.0, view.rate / 2))
            top += _TITLE_ROW + height + 14
    levels, log = _score_range(scores_of(recording), threshold)
    scores = Axes(_LEFT, top + _TITLE_ROW, _PLOT, _SCORES, times, levels, log)
    top += _TITLE_ROW + _SCORES + _FOOT
    fault = None
    if channel is not None:
        finding = recording.faults[channel]
        axes = _envelope_axes(finding, top + _TITLE_ROW + 3 * LANE)
        top = axes.top + _ENVELOPE + _FOOT + 6
        lines = _lines(finding.sentence, top)
        fault = FaultChart(channel, axes, _fault_marks(finding, view.shaft_hz), lines)
        top += len(lines) * _LINE + 8
    hidden = [name for name in view.channels if name not in ranked]
    told = [*recording.notes, *([f"not drawn: {', '.join(hidden)}"] if hidden else [])]
    notes = _lines("; ".join(told), top)
    top += len(notes) * _LINE + (MARGIN - 8 if told or fault else 0)
    return Layout(top, charts["spectrogram"], scores, fault, notes, charts["map"])


def _fault_marks(finding: FaultFinding, shaft_hz: float | None) -> tuple[Mark, ...]:
    """The lines to mark in an envelope spectrum, those of the named fault last.

    They lie where geometry expects them, those of the named fault where they were found.
    """
    rates = {} if shaft_hz is None else {"shaft": shaft_hz}
    rates |= {FAULTS[fault]: each.expected for fault, each in finding.strengths.items()}
    if finding.fault is not None:
        rates.pop(FAULTS[finding.fault])
    marks = [
        Mark(n * rate, name if n == 1 else "") for name, rate in rates.items() for n in _MULTIPLES
    ]
    if finding.fault is not None:
        strength = finding.strengths[finding.fault]
        found = {line.multiple: (line.frequency, line.decibels) for line in strength.harmonics}
        for n in _MULTIPLES:
            place, decibels = found.get(n, (n * strength.found, None))
            label = FAULTS[finding.fault] if n == 1 else f"{n}x"
            marks.append(Mark(place, label, named=True, decibels=decibels))
    return tuple(marks)


def found_on(windows: Windows, view: SignalView, inspection: Inspection) -> RecordingFinding:
    """Return what was found on a recording; raise `InputError` where these are other windows."""
    recording = inspection.recording
    if recording is None:
        reason = inspection.error or "The inspection is not of a recording."
        raise InputError(f"{inspection.input} cannot be drawn: nothing was found on it. {reason}")
    n_inspected, n_given = len(recording.windows), len(windows.starts)
    if n_inspected != n_given or not n_given or len(windows.signal) != len(view.channels):
        raise InputError(
            f"{inspection.input} has {n_inspected} inspected windows of {len(view.channels)} "
            f"channels; given are {n_given} of {len(windows.signal)}. Give the windows that were "
            "inspected, and the view that they were cut with."
        )
    return recording


def _score_range(scores: Floats, threshold: float) -> tuple[tuple[float, float], bool]:
    """What the axis of scores spans, and whether it is logarithmic."""
    values = np.append(scores, threshold if math.isfinite(threshold) else scores[0])
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > 100 * low:
        return (low / 1.5, high * 1.5), True
    pad = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
    return (-pad / 2 if 0 <= low < 0.5 * high else low - pad, high + pad), False


def maps_of(recording: RecordingFinding) -> list[NDArray[np.float32]]:
    """Return the anomaly maps of all windows; nothing where not every window has one."""
    maps = [each.anomaly_map for each in recording.windows]
    found = [each for each in maps if each is not None]
    return found if len(found) == len(maps) else []


def scores_of(recording: RecordingFinding) -> Floats:
    """Return the scores of all windows, (n,)."""
    return np.array([each.score for each in recording.windows], np.float64)


def _envelope_axes(finding: FaultFinding, top: int) -> Axes:
    named = None if finding.fault is None else finding.strengths[finding.fault]
    expected = [3 * strength.expected for strength in finding.strengths.values()]
    highest = max(expected) if named is None else _MULTIPLES[-1] * named.found
    highest = min(1.05 * highest, float(finding.frequencies[-1]))
    loudest = float(finding.decibels[finding.frequencies <= highest].max())
    return Axes(_LEFT, top, _PLOT, _ENVELOPE, (0.0, highest), (-4.0, max(12.0, 1.1 * loudest)))


def _lines(text: str, top: int) -> Lines:
    """Break a text into lines as wide as the picture, 4 at most."""
    lines, width = [""], WIDTH - 2 * MARGIN - 30
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, TEXT) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word, TEXT, width))
    if len(lines) > 4:
        lines = [*lines[:3], f"{lines[3]} ..."]
    return tuple((top + index * _LINE + 10, line) for index, line in enumerate(lines) if line)
