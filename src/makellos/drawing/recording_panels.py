"""The picture of a recording: spectrograms, the scores of its windows, and what its envelope shows.

Above stands the verdict, below the plain sentence of the finding and what is odd about the
recording. Spectrograms, what is unusual in them, and scores share one axis of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.drawing.lettering import INK, PAGE, SOFT, shorten, text_width
from makellos.drawing.overlays import COLORS, TITLES
from makellos.drawing.panel_axes import (
    MARGIN,
    SMALL,
    TEXT,
    WHITE,
    Axes,
    Floats,
    Rgb,
    draw_axes,
    draw_curve,
    draw_title,
    fine,
    in_hz,
    ticks,
    write,
)
from makellos.drawing.time_frequency_charts import (
    draw_spectrogram,
    draw_unusual,
    spectrogram,
    unusual,
)
from makellos.errors import InputError
from makellos.inspection.findings import Inspection, RecordingFinding
from makellos.vibration.bearing_faults import FAULTS, FaultFinding
from makellos.vibration.signals import Windows, at_speed
from makellos.vibration.views import SignalView

__all__ = ["Axes", "FaultChart", "Layout", "Mark", "draw_recording", "lay_out", "spectrogram"]

Lines = tuple[tuple[int, str], ...]  # of text, with the row of their middle

_WIDTH, _LEFT, _PLOT = 1200, 92, 996
_CAPTION = 19  # height of letters in pixels
_HEAD, _TITLE_ROW, _FOOT, _LINE, _LANE = 84, 27, 50, 23, 16
_HEIGHTS = {1: 230, 2: 170, 3: 130}  # of each spectrogram, by how many there are
_FINE_ROWS = 16  # of an anomaly map for each channel, from which frequencies can be told by it
_LOUD = 3.0  # standard deviations over the good state
_MOST_SEEN = 1500  # windows seen anew for a page
_MAP_HEIGHTS = {1: 170, 2: 130, 3: 120}  # of what is unusual below each
_SCORES, _ENVELOPE = 150, 220
_LONGEST = 350  # letters of a word: more never fit, and shortening them takes long
_MULTIPLES = range(1, 6)  # of a rate that are marked

_REJECT, _LOOK_AGAIN = COLORS["reject"], COLORS["look_again"]
_TINT = (250, 222, 220)  # below the scores of what is rejected
_FAINT = (236, 160, 158)  # of the named fault, where nothing stands out
_RATE, _CURVE = (176, 180, 186), (52, 84, 132)


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


def draw_recording(
    windows: Windows,
    view: SignalView,
    inspection: Inspection,
    *,
    threshold: float,
    rpm: float | None = None,
    map_threshold: float | None = None,
) -> Rgb:
    """Draw what was found on a recording: verdict, spectrograms, scores, envelope spectrum.

    `windows` are those that were inspected, with `view`; `threshold` is that of their scores,
    `rpm` the speed in turns per minute where it is not that of the view. Up to 3 channels have a
    spectrogram, that of the fault among them. With `map_threshold`, that of the windows' anomaly
    maps where they have some, below it is drawn when and at which frequencies they are unusual: the
    maps themselves, or, where their cells are too coarse for that, how much louder the windows are
    than good ones. In
    the envelope spectrum, where there is one, lines of the fault that is named are red, those of
    others gray. Returns H×1200×3 uint8 RGB. Raises `InputError` for an inspection of no recording
    or an unreadable one, and for other windows.
    """
    view = at_speed(view, rpm)
    layout = lay_out(windows, view, inspection, threshold, map_threshold)
    recording = _recording(windows, view, inspection)
    page = np.full((layout.height, _WIDTH, 3), PAGE, np.uint8)
    _draw_head(page, windows, view, inspection)
    for channel, axes in layout.spectrograms.items():
        signal = windows.signal[view.channels.index(channel)]
        draw_spectrogram(page, axes, channel, spectrogram(signal, axes.height, axes.width))
    if map_threshold is not None and layout.maps:
        maps, starts, limit, what = _unusual_maps(recording, view, windows, map_threshold)
        for channel, axes in layout.maps.items():
            values = unusual(view, maps, starts, channel, axes)
            draw_unusual(page, axes, channel, values, limit, *what)
    _draw_scores(page, layout.scores, recording, view, threshold)
    bars = [(layout.notes, _LOOK_AGAIN, SOFT)]
    if layout.fault is not None:
        finding = recording.faults[layout.fault.channel]
        _draw_envelope(page, layout.fault, finding)
        bars.append((layout.fault.sentence, SOFT if finding.fault is None else _REJECT, INK))
    for lines, bar, ink in bars:
        for middle, line in lines:
            page[middle - 12 : middle + 11, MARGIN : MARGIN + 4] = bar
            write(page, line, (MARGIN + 14, middle), TEXT, ink)
    return page


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
    recording = _recording(windows, view, inspection)
    n_samples, first = windows.signal.shape[1], int(windows.starts[0])
    times = (first / view.rate, (first + n_samples) / view.rate)
    channel = next((name for name, one in recording.faults.items() if one is recording.fault), None)
    ranked = sorted(view.channels, key=lambda name: name != channel)[: max(_HEIGHTS)]
    heights = {"spectrogram": _HEIGHTS[len(ranked)]}
    if map_threshold is not None and math.isfinite(map_threshold) and _maps(recording):
        heights["map"] = _MAP_HEIGHTS[len(ranked)]
    charts: dict[str, dict[str, Axes]] = {"spectrogram": {}, "map": {}}
    top = _HEAD
    for name in [name for name in view.channels if name in ranked]:
        for kind, height in heights.items():
            place = _LEFT, top + _TITLE_ROW, _PLOT, height
            charts[kind][name] = Axes(*place, times, (0.0, view.rate / 2))
            top += _TITLE_ROW + height + 14
    levels, log = _score_range(_scores(recording), threshold)
    scores = Axes(_LEFT, top + _TITLE_ROW, _PLOT, _SCORES, times, levels, log)
    top += _TITLE_ROW + _SCORES + _FOOT
    fault = None
    if channel is not None:
        finding = recording.faults[channel]
        axes = _envelope_axes(finding, top + _TITLE_ROW + 3 * _LANE)
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


def _recording(windows: Windows, view: SignalView, inspection: Inspection) -> RecordingFinding:
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


def _unusual_maps(
    recording: RecordingFinding, view: SignalView, windows: Windows, map_threshold: float
) -> tuple[Sequence[NDArray[np.float32]], Sequence[float], float, tuple[str, str]]:
    """Return maps of windows with their starts in s, the limit of what is usual, title and unit."""
    maps = _maps(recording)
    if len(maps[0]) >= _FINE_ROWS * len(view.channels) or not view.low:
        said = ("unusual: when and at which frequencies", "score")
        return maps, recording.starts, map_threshold, said
    step = -(-len(maps) // _MOST_SEEN)
    said = ("louder than the good state, in its standard deviations", "sd")
    seen = list(view.deviations(windows.values[::step]))
    return seen, recording.starts[::step], _LOUD, said


def _maps(recording: RecordingFinding) -> list[NDArray[np.float32]]:
    """The anomaly maps of all windows; empty where not every window has one."""
    maps = [each.anomaly_map for each in recording.windows]
    found = [each for each in maps if each is not None]
    return found if len(found) == len(maps) else []


def _scores(recording: RecordingFinding) -> Floats:
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
    lines, width = [""], _WIDTH - 2 * MARGIN - 30
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, TEXT) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word[-_LONGEST:], TEXT, width))
    if len(lines) > 4:
        lines = [*lines[:3], f"{lines[3]} ..."]
    return tuple((top + index * _LINE + 10, line) for index, line in enumerate(lines) if line)


def _draw_head(page: Rgb, windows: Windows, view: SignalView, inspection: Inspection) -> None:
    recording = _recording(windows, view, inspection)
    middle, end = MARGIN + 15, _WIDTH - MARGIN
    title = TITLES.get(inspection.verdict, inspection.verdict)
    right = MARGIN + text_width(title, _CAPTION) + 32
    # A thick line has round ends: a badge.
    ends = (MARGIN + 15, middle), (right - 15, middle)
    cv2.line(page, *ends, COLORS.get(inspection.verdict, SOFT), 30, cv2.LINE_AA)
    write(page, title, ((MARGIN + right) // 2, middle), _CAPTION, WHITE, "mm")
    right += 18
    share, verdicts = recording.share_rejected, [each.verdict for each in recording.windows]
    counted = f"({verdicts.count('reject')} of {len(verdicts)})"
    figures = {"windows rejected": f"{100 * share:.3g} %  {counted}"}
    if inspection.p_value is not None:
        figures["p"] = f"{inspection.p_value:.3g}"
    for label, value in figures.items():
        write(page, label, (right, middle), _CAPTION, SOFT)
        right += text_width(label, _CAPTION) + 8
        write(page, value, (right, middle), _CAPTION, INK)
        right += text_width(value, _CAPTION) + 22
    name = shorten(PurePath(inspection.input).name[-_LONGEST:], TEXT, end - right)
    write(page, name, (end, middle), TEXT, SOFT, "rm")
    seconds, n = windows.signal.shape[1] / view.rate, len(recording.windows)
    counted = f"{n} window{'' if n == 1 else 's'} of {view.window} samples"
    told = f"{seconds:.4g} s at {in_hz(view.rate)},  {counted}"
    if view.bearing and view.shaft_hz is not None:
        told += f",  bearing {view.bearing} at {60 * view.shaft_hz:.5g} rpm"
    write(page, told, (MARGIN, middle + 33), SMALL, SOFT)


def _draw_scores(
    page: Rgb, axes: Axes, recording: RecordingFinding, view: SignalView, threshold: float
) -> None:
    draw_title(page, axes, "windows", "how unusual each is")
    y_ticks = ticks(*axes.y, 4)
    if axes.log:
        low, high = (math.log10(level) for level in axes.y)
        powers = [n for n, _ in ticks(low, high, 5) if n == round(n)]
        y_ticks = [(10.0**n, f"{10.0**n:g}") for n in powers]
    draw_axes(page, axes, "score", y_ticks, "time in s")
    starts = np.array(recording.starts)
    ends = np.minimum(starts + view.window / view.rate, np.append(starts[1:], np.inf))
    path = axes.places(np.stack([starts, ends], 1).ravel(), _scores(recording).repeat(2))
    verdicts = np.array([each.verdict for each in recording.windows])
    base, row = axes.places(axes.x[:1], [threshold])[0, 1], axes.row(threshold)
    doubtful = [path[2 * i : 2 * j] for i, j in _runs(verdicts == "look_again")]
    rejected = [path[2 * i : 2 * j] for i, j in _runs(verdicts == "reject")]
    rejected = [np.array([[s[0, 0], base], *s, [s[-1, 0], base]]) for s in rejected]
    for outline in rejected:
        cv2.fillPoly(page, [fine(outline)], _TINT, cv2.LINE_8, 4)
    draw_curve(page, path, SOFT, 1)
    for name, outlines in (("look_again", doubtful), ("reject", rejected)):
        for outline in outlines:
            draw_curve(page, outline, COLORS[name], 2)
        middles = (path[0::2] + path[1::2])[verdicts == name] / 2
        if path[1, 0] - path[0, 0] < 4:  # too short for a segment: points
            for place in np.unique(middles.astype(np.intp), axis=0).tolist():
                cv2.circle(page, place, 2, COLORS[name], cv2.FILLED, cv2.LINE_AA)
    if math.isinf(threshold):
        return
    page[row, axes.left : axes.left + axes.width][np.arange(axes.width) % 10 < 6] = INK
    right, middle = axes.left + axes.width + 8, min(row, axes.top + axes.height - 14)
    write(page, "threshold", (right, middle - 8), SMALL, INK)
    write(page, f"{threshold:.4g}", (right, middle + 8), SMALL, INK)


def _draw_envelope(page: Rgb, chart: FaultChart, finding: FaultFinding) -> None:
    axes, band = chart.axes, f"{in_hz(finding.band.low)} and {in_hz(finding.band.high)}"
    what = f"envelope spectrum: what repeats between {band}"
    draw_title(page, axes, chart.channel, what, 3 * _LANE)
    y_ticks = ticks(*axes.y, 5)
    draw_axes(page, axes, "dB over background", y_ticks, "frequency of the envelope in Hz")
    shown = [mark for mark in chart.marks if mark.frequency < axes.x[1]]
    kept = finding.frequencies <= axes.x[1]
    places = axes.places(finding.frequencies[kept], finding.decibels[kept])
    for mark in shown:
        line = page[axes.top : axes.top + axes.height, axes.column(mark.frequency)]
        if not mark.named:
            line[:] = _RATE
        elif mark.decibels is None:
            line[np.arange(len(line)) % 10 < 6] = _FAINT
    draw_curve(page, places, _CURVE, 1)
    for mark in shown:
        if mark.decibels is not None:
            column, peak = axes.column(mark.frequency), axes.row(mark.decibels)
            page[axes.top : peak, column - 1 : column + 1] = _REJECT
            cv2.circle(page, (column, peak), 4, _REJECT, cv2.FILLED, cv2.LINE_AA)
    _label_marks(page, axes, shown)


def _label_marks(page: Rgb, axes: Axes, marks: Sequence[Mark]) -> None:
    """Write what the marks are above them, the named fault's first, none over another."""
    lanes: list[list[tuple[int, int]]] = [[], [], []]
    for mark in sorted(marks, key=lambda each: not each.named):
        column, half = axes.column(mark.frequency), text_width(mark.label, SMALL) // 2 + 4
        for lane, taken in enumerate(lanes):
            if mark.label and all(abs(column - place) > half + room for place, room in taken):
                taken.append((column, half))
                color = (_FAINT if mark.decibels is None else _REJECT) if mark.named else SOFT
                above = axes.top - 9 - lane * _LANE
                write(page, mark.label, (column, above), SMALL, color, "mm")
                break


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last of each stretch that is chosen."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
