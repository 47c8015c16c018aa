"""The picture of a recording: spectrograms, the scores of its windows, and what its envelope shows.

Above stands the verdict, below the plain sentence of the finding and what is odd about the
recording. Spectrograms and scores share one axis of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from makellos.data.signals import Windows, at_speed
from makellos.data.views import SignalView
from makellos.errors import InputError
from makellos.inspection.bearing_faults import FAULTS, FaultFinding
from makellos.inspection.inspector import Inspection
from makellos.inspection.lettering import INK, PAGE, SOFT, Color, letter, shorten, text_width
from makellos.inspection.overlays import COLORS, TITLES
from makellos.inspection.recordings import RecordingFinding

__all__ = ["Axes", "FaultChart", "Layout", "Mark", "draw_recording", "lay_out", "spectrogram"]

Rgb = NDArray[np.uint8]
Ticks = list[tuple[float, str]]
Lines = tuple[tuple[int, str], ...]  # of text, with the row of their middle
Floats = NDArray[np.float64]

_WIDTH, _MARGIN, _LEFT, _PLOT = 1200, 24, 92, 996
_CAPTION, _TEXT, _SMALL = 19, 15, 13  # heights of letters in pixels
_HEAD, _TITLE_ROW, _FOOT, _LINE, _LANE = 84, 27, 50, 23, 16
_HEIGHTS = {1: 230, 2: 170, 3: 130}  # of each spectrogram, by how many there are
_SCORES, _ENVELOPE = 150, 220
_LONGEST = 350  # letters of a word: more never fit, and shortening them takes long
_FRAME, _PADDED, _MOST_EACH = 512, 1024, 8  # samples of a spectrum's frame; frames in a column
_QUIETEST = 1e-24  # mean square: -240 dB, as in `SignalView.levels`
_LEAST_SPAN = 20.0  # dB of the colours: silence is even, not noise blown up
_MULTIPLES = range(1, 6)  # of a rate that are marked

_REJECT, _LOOK_AGAIN = COLORS["reject"], COLORS["look_again"]
_TINT = (250, 222, 220)  # below the scores of what is rejected
_FAINT = (236, 160, 158)  # of the named fault, where nothing stands out
_WHITE, _GRID, _EDGE = (255, 255, 255), (232, 233, 234), (150, 155, 161)
_RATE, _CURVE = (176, 180, 186), (52, 84, 132)
_FINE = 16  # steps of a pixel that curves are drawn to


@dataclass(frozen=True)
class Axes:
    """Hold where a chart lies on the picture, in pixels, and what it spans.

    `x` are the values at its left and right edge, `y` those at its lower and upper one; with `log`
    all of `y` is positive and the rows are even by decades.
    """

    left: int
    top: int
    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def column(self, value: float) -> int:
        """Return the pixel column of a value on the x axis, clipped to the chart."""
        return min(self.left + self.width - 1, int(self.places([value], [self.y[0]])[0, 0]))

    def row(self, value: float) -> int:
        """Return the pixel row of a value on the y axis, clipped to the chart."""
        return min(self.top + self.height - 1, int(self.places([self.x[0]], [value])[0, 1]))

    def places(self, xs: Any, ys: Any) -> Floats:
        """Return where points lie, n×2 (x, y) in pixels from the picture's corner, clipped."""
        low, high = self.y
        levels = np.clip(np.asarray(ys, np.float64), low, high)
        if self.log:
            levels, low, high = np.log10(levels), math.log10(low), math.log10(high)
        across = np.clip((np.asarray(xs) - self.x[0]) / (self.x[1] - self.x[0]), 0.0, 1.0)
        down = np.clip((high - levels) / (high - low), 0.0, 1.0)
        return np.stack([self.left + across * self.width, self.top + down * self.height], axis=-1)


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
    """Hold where everything lies on the picture of a recording; `spectrograms` by channel."""

    height: int
    spectrograms: dict[str, Axes]
    scores: Axes
    fault: FaultChart | None
    notes: Lines


def draw_recording(
    windows: Windows,
    view: SignalView,
    inspection: Inspection,
    *,
    threshold: float,
    rpm: float | None = None,
) -> Rgb:
    """Draw what was found on a recording: verdict, spectrograms, scores, envelope spectrum.

    `windows` are those that were inspected, with `view`; `threshold` is that of their scores,
    `rpm` the speed in turns per minute where it is not that of the view. Up to 3 channels have a
    spectrogram, that of the fault among them. In the envelope spectrum, where there is one, lines
    of the fault that is named are red, those of others gray. Returns H×1200×3 uint8 RGB. Raises
    `InputError` for an inspection of no recording or an unreadable one, and for other windows.
    """
    view = at_speed(view, rpm)
    layout = lay_out(windows, view, inspection, threshold)
    recording = _recording(windows, view, inspection)
    page = np.full((layout.height, _WIDTH, 3), PAGE, np.uint8)
    _draw_head(page, windows, view, inspection)
    for channel, axes in layout.spectrograms.items():
        signal = windows.signal[view.channels.index(channel)]
        _draw_spectrogram(page, axes, channel, spectrogram(signal, axes.height, axes.width))
    _draw_scores(page, layout.scores, recording, view, threshold)
    bars = [(layout.notes, _LOOK_AGAIN, SOFT)]
    if layout.fault is not None:
        finding = recording.faults[layout.fault.channel]
        _draw_envelope(page, layout.fault, finding)
        bars.append((layout.fault.sentence, SOFT if finding.fault is None else _REJECT, INK))
    for lines, bar, ink in bars:
        for middle, line in lines:
            page[middle - 12 : middle + 11, _MARGIN : _MARGIN + 4] = bar
            _write(page, line, (_MARGIN + 14, middle), _TEXT, ink)
    return page


def lay_out(windows: Windows, view: SignalView, inspection: Inspection, threshold: float) -> Layout:
    """Return where `draw_recording` draws what, so that pixels can be read as s, Hz and dB.

    Raises `InputError` as it does.
    """
    recording = _recording(windows, view, inspection)
    n_samples, first = windows.signal.shape[1], int(windows.starts[0])
    times = (first / view.rate, (first + n_samples) / view.rate)
    channel = next((name for name, one in recording.faults.items() if one is recording.fault), None)
    ranked = sorted(view.channels, key=lambda name: name != channel)[: max(_HEIGHTS)]
    height, spectrograms, top = _HEIGHTS[len(ranked)], {}, _HEAD
    for name in [name for name in view.channels if name in ranked]:
        place = _LEFT, top + _TITLE_ROW, _PLOT, height
        spectrograms[name] = Axes(*place, times, (0.0, view.rate / 2))
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
    top += len(notes) * _LINE + (_MARGIN - 8 if told or fault else 0)
    return Layout(top, spectrograms, scores, fault, notes)


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


def spectrogram(signal: NDArray[np.floating[Any]], n_rows: int, n_columns: int) -> Floats:
    """Compute the levels of a whole signal (1-D, 16 samples or more) in dB: n_rows×n_columns.

    The highest frequencies, up to half the rate, are in the first row. 0 dB is a mean square of 1
    in the signal's unit, -240 dB the least. A column is the mean of up to 8 frames of at most 512
    samples, spread evenly over its stretch, or over a frame where that is more: of a very long
    signal, not all samples are seen.
    """
    frame = min(_FRAME, max(16, 1 << int(math.log2(max(signal.size / 16, 1)))))
    stretch = signal.size / n_columns
    # Single spectra of noise are speckled; a few around the same time are smooth.
    spread = max(stretch, frame)
    n_each = min(_MOST_EACH, math.ceil(2 * spread / frame) + 1)
    taper = np.hanning(frame + 1)[:frame]
    taper *= math.sqrt(2) / taper.sum()
    frames, middles = sliding_window_view(signal, frame), (np.arange(n_columns) + 0.5) * stretch
    power = np.zeros((n_columns, _PADDED // 2 + 1))
    for part in range(n_each):
        centres = middles + ((part + 0.5) / n_each - 0.5) * spread
        starts = np.clip(np.rint(centres - frame / 2), 0, signal.size - frame).astype(np.intp)
        taken = frames[starts].astype(np.float64)
        taken -= taken.mean(axis=1, keepdims=True)
        lines = np.fft.rfft(taken * taper, _PADDED)
        power += lines.real**2 + lines.imag**2
    shares = _shares(n_rows, power.shape[1])
    levels: Floats = 10 * np.log10(np.maximum(shares @ power.T / n_each, _QUIETEST))
    return levels[::-1]


def _shares(n_rows: int, n_lines: int) -> Floats:
    """How much of each spectral line a row holds, the lowest first; a row's sum to 1."""
    edges, lines = np.linspace(0, n_lines - 1, n_rows + 1)[:, None], np.arange(n_lines)
    inside = np.minimum(edges[1:], lines + 0.5) - np.maximum(edges[:-1], lines - 0.5)
    shares = np.clip(inside, 0.0, None)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


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
    lines, width = [""], _WIDTH - 2 * _MARGIN - 30
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, _TEXT) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word[-_LONGEST:], _TEXT, width))
    if len(lines) > 4:
        lines = [*lines[:3], f"{lines[3]} ..."]
    return tuple((top + index * _LINE + 10, line) for index, line in enumerate(lines) if line)


def _draw_head(page: Rgb, windows: Windows, view: SignalView, inspection: Inspection) -> None:
    recording = _recording(windows, view, inspection)
    middle, end = _MARGIN + 15, _WIDTH - _MARGIN
    title = TITLES.get(inspection.verdict, inspection.verdict)
    right = _MARGIN + text_width(title, _CAPTION) + 32
    # A thick line has round ends: a badge.
    ends = (_MARGIN + 15, middle), (right - 15, middle)
    cv2.line(page, *ends, COLORS.get(inspection.verdict, SOFT), 30, cv2.LINE_AA)
    _write(page, title, ((_MARGIN + right) // 2, middle), _CAPTION, _WHITE, "mm")
    right += 18
    share, verdicts = recording.share_rejected, [each.verdict for each in recording.windows]
    counted = f"({verdicts.count('reject')} of {len(verdicts)})"
    figures = {"windows rejected": f"{100 * share:.3g} %  {counted}"}
    if inspection.p_value is not None:
        figures["p"] = f"{inspection.p_value:.3g}"
    for label, value in figures.items():
        _write(page, label, (right, middle), _CAPTION, SOFT)
        right += text_width(label, _CAPTION) + 8
        _write(page, value, (right, middle), _CAPTION, INK)
        right += text_width(value, _CAPTION) + 22
    name = shorten(PurePath(inspection.input).name[-_LONGEST:], _TEXT, end - right)
    _write(page, name, (end, middle), _TEXT, SOFT, "rm")
    seconds, n = windows.signal.shape[1] / view.rate, len(recording.windows)
    counted = f"{n} window{'' if n == 1 else 's'} of {view.window} samples"
    told = f"{seconds:.4g} s at {_in_hz(view.rate)},  {counted}"
    if view.bearing and view.shaft_hz is not None:
        told += f",  bearing {view.bearing} at {60 * view.shaft_hz:.5g} rpm"
    _write(page, told, (_MARGIN, middle + 33), _SMALL, SOFT)


def _draw_spectrogram(page: Rgb, axes: Axes, channel: str, levels: Floats) -> None:
    kilo = 1000.0 if axes.y[1] >= 2000 else 1.0
    y_ticks = _ticks(*axes.y, axes.height // 40, kilo)
    _draw_axes(page, axes, f"frequency in {'kHz' if kilo > 1 else 'Hz'}", y_ticks)
    _draw_title(page, axes, channel, "spectrogram")
    low, high = (float(level) for level in np.percentile(levels, (5, 99.5)))
    high = max(high, low + _LEAST_SPAN)
    right, rows = axes.left + axes.width, slice(axes.top, axes.top + axes.height)
    page[rows, axes.left : right] = _colors((levels - low) / (high - low))
    bar = Axes(right + 22, axes.top, 14, axes.height, (0.0, 1.0), (low, high))
    page[rows, bar.left : bar.left + 14] = _colors(np.linspace([1.0] * 14, 0.0, axes.height))
    for value, text in _ticks(low, high, 5):
        row = bar.row(value)
        page[row, bar.left + 14 : bar.left + 18] = _EDGE
        _write(page, text, (bar.left + 22, row), _SMALL, SOFT)
    _write(page, "dB", (bar.left + 7, axes.top - 13), _SMALL, SOFT, "mm")


def _draw_scores(
    page: Rgb, axes: Axes, recording: RecordingFinding, view: SignalView, threshold: float
) -> None:
    _draw_title(page, axes, "windows", "how unusual each is")
    y_ticks = _ticks(*axes.y, 4)
    if axes.log:
        low, high = (math.log10(level) for level in axes.y)
        powers = [n for n, _ in _ticks(low, high, 5) if n == round(n)]
        y_ticks = [(10.0**n, f"{10.0**n:g}") for n in powers]
    _draw_axes(page, axes, "score", y_ticks, "time in s")
    starts = np.array(recording.starts)
    ends = np.minimum(starts + view.window / view.rate, np.append(starts[1:], np.inf))
    path = axes.places(np.stack([starts, ends], 1).ravel(), _scores(recording).repeat(2))
    verdicts = np.array([each.verdict for each in recording.windows])
    base, row = axes.places(axes.x[:1], [threshold])[0, 1], axes.row(threshold)
    doubtful = [path[2 * i : 2 * j] for i, j in _runs(verdicts == "look_again")]
    rejected = [path[2 * i : 2 * j] for i, j in _runs(verdicts == "reject")]
    rejected = [np.array([[s[0, 0], base], *s, [s[-1, 0], base]]) for s in rejected]
    for outline in rejected:
        cv2.fillPoly(page, [_fine(outline)], _TINT, cv2.LINE_8, 4)
    _curve(page, path, SOFT, 1)
    for name, outlines in (("look_again", doubtful), ("reject", rejected)):
        for outline in outlines:
            _curve(page, outline, COLORS[name], 2)
        middles = (path[0::2] + path[1::2])[verdicts == name] / 2
        if path[1, 0] - path[0, 0] < 4:  # too short for a segment: points
            for place in np.unique(middles.astype(np.intp), axis=0).tolist():
                cv2.circle(page, place, 2, COLORS[name], cv2.FILLED, cv2.LINE_AA)
    if math.isinf(threshold):
        return
    page[row, axes.left : axes.left + axes.width][np.arange(axes.width) % 10 < 6] = INK
    right, middle = axes.left + axes.width + 8, min(row, axes.top + axes.height - 14)
    _write(page, "threshold", (right, middle - 8), _SMALL, INK)
    _write(page, f"{threshold:.4g}", (right, middle + 8), _SMALL, INK)


def _draw_envelope(page: Rgb, chart: FaultChart, finding: FaultFinding) -> None:
    axes, band = chart.axes, f"{_in_hz(finding.band.low)} and {_in_hz(finding.band.high)}"
    what = f"envelope spectrum: what repeats between {band}"
    _draw_title(page, axes, chart.channel, what, 3 * _LANE)
    y_ticks = _ticks(*axes.y, 5)
    _draw_axes(page, axes, "dB over background", y_ticks, "frequency of the envelope in Hz")
    shown = [mark for mark in chart.marks if mark.frequency < axes.x[1]]
    kept = finding.frequencies <= axes.x[1]
    places = axes.places(finding.frequencies[kept], finding.decibels[kept])
    for mark in shown:
        line = page[axes.top : axes.top + axes.height, axes.column(mark.frequency)]
        if not mark.named:
            line[:] = _RATE
        elif mark.decibels is None:
            line[np.arange(len(line)) % 10 < 6] = _FAINT
    _curve(page, places, _CURVE, 1)
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
        column, half = axes.column(mark.frequency), text_width(mark.label, _SMALL) // 2 + 4
        for lane, taken in enumerate(lanes):
            if mark.label and all(abs(column - place) > half + room for place, room in taken):
                taken.append((column, half))
                color = (_FAINT if mark.decibels is None else _REJECT) if mark.named else SOFT
                above = axes.top - 9 - lane * _LANE
                _write(page, mark.label, (column, above), _SMALL, color, "mm")
                break


def _draw_title(page: Rgb, axes: Axes, name: str, what: str, up: int = 0) -> None:
    middle, shown = axes.top - 13 - up, shorten(name, _TEXT, _PLOT // 2)
    _write(page, shown, (axes.left, middle), _TEXT, INK)
    _write(page, what, (axes.left + text_width(shown, _TEXT) + 9, middle), _TEXT, SOFT)


def _draw_axes(page: Rgb, axes: Axes, y_label: str, y_ticks: Ticks, x_label: str = "") -> None:
    """Draw an empty chart; without a label of x its numbers stand at a chart below."""
    left, bottom, right = axes.left, axes.top + axes.height, axes.left + axes.width
    page[axes.top : bottom, left:right] = _WHITE
    page[axes.top : bottom + 1, left - 1] = _EDGE
    page[bottom, left - 1 : right] = _EDGE
    for value, text in y_ticks:
        row = axes.row(value)
        page[row, left:right] = _GRID
        page[row, left - 6 : left] = _EDGE
        _write(page, text, (left - 10, row), _SMALL, SOFT, "rm")
    for value, text in _ticks(*axes.x, 12):
        column = axes.column(value)
        page[bottom : bottom + 6, column] = _EDGE
        if x_label:
            _write(page, text, (column, bottom + 15), _SMALL, SOFT, "mm")
    _write(page, x_label, (left + axes.width // 2, bottom + 34), _SMALL, SOFT, "mm")
    upright = np.full((20, text_width(y_label, _SMALL) + 4, 3), PAGE, np.uint8)
    letter(upright, y_label, (2, 10), _SMALL, SOFT)
    top = axes.top + (axes.height - upright.shape[1]) // 2
    page[top : top + upright.shape[1], _MARGIN - 4 : _MARGIN + 16] = np.rot90(upright)


def _curve(page: Rgb, places: Floats, color: Color, thickness: int) -> None:
    ends_meet = False
    cv2.polylines(page, [_fine(places)], ends_meet, color, thickness, cv2.LINE_AA, 4)


def _fine(places: Floats) -> NDArray[np.int32]:
    """Points as OpenCV takes them with a shift of 4: it counts from the middle of a pixel."""
    return np.rint((places - 0.5) * _FINE).astype(np.int32)[:, None]


def _colors(relative: Floats) -> Rgb:
    shades = np.rint(255 * np.clip(relative, 0.0, 1.0)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(shades, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def _write(
    page: Rgb, text: str, place: tuple[int, int], size: int, color: Color, anchor: str = "lm"
) -> None:
    top = max(0, place[1] - 2 * size)
    strip = page[top : place[1] + 2 * size]  # lettering takes as long as its picture is large
    letter(strip, text, (place[0], place[1] - top), size, color, anchor=anchor)


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last of each stretch that is chosen."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _ticks(low: float, high: float, most: int, unit: float = 1.0) -> Ticks:
    """Round values of a unit from low to high, in steps of 1, 2 or 5, with their text."""
    raw = (high - low) / unit / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / unit / step - 1e-6), math.floor(high / unit / step + 1e-6)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = f".{digits}f" if max(abs(low), abs(high)) < 1e6 and digits < 6 else ".4g"
    return [(n * step * unit, format(n * step, plain)) for n in range(first, last + 1)]


def _in_hz(value: float) -> str:
    return f"{value:.4g} Hz" if value < 1000 else f"{value / 1000:.4g} kHz"
