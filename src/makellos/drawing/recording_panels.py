"""The picture of a recording: spectrograms, the scores of its windows, and what its envelope shows.

Above stands the verdict, below the plain sentence of the finding and what is odd about the
recording. Spectrograms, what is unusual in them, and scores share one axis of time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.drawing.captions import Caption, draw_caption
from makellos.drawing.lettering import INK, PAGE, SOFT, Rgb, letter, text_width
from makellos.drawing.overlays import COLORS
from makellos.drawing.panel_axes import (
    MARGIN,
    SMALL,
    TEXT,
    Axes,
    draw_axes,
    draw_curve,
    draw_title,
    fine,
    in_hz,
)
from makellos.drawing.recording_layout import (
    LANE,
    WIDTH,
    FaultChart,
    Mark,
    found_on,
    lay_out,
    maps_of,
    scores_of,
)
from makellos.drawing.scales import log_ticks, ticks
from makellos.drawing.time_frequency_charts import (
    WindowMaps,
    draw_spectrogram,
    draw_unusual,
    spectrogram,
)
from makellos.inspection.findings import Inspection, RecordingFinding
from makellos.vibration.bearing_faults import FaultFinding
from makellos.vibration.signals import Windows, at_speed
from makellos.vibration.views import SignalView

__all__ = ["draw_recording"]

_FINE_ROWS = 16  # of an anomaly map for each channel, from which frequencies can be told by it
_LOUD = 3.0  # standard deviations over the good state
_MOST_SEEN = 1500  # windows seen anew for a page

_REJECT, _LOOK_AGAIN = COLORS["reject"], COLORS["look_again"]
_TINT = (250, 222, 220)  # below the scores of what is rejected
_FAINT = (236, 160, 158)  # of the named fault, where nothing stands out
_RATE, _CURVE = (176, 180, 186), (52, 84, 132)


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

    `windows` are those that were inspected, with `view`; `threshold` is that of their scores, `rpm`
    the speed if it differs from that of the view. Up to 3 channels have a spectrogram, including
    that of the fault. With `map_threshold`, that of the windows' anomaly maps if they have any, the
    panel below it shows when and at which frequencies they are unusual: the maps themselves or, if
    their cells are too coarse for that, how much louder the windows are than good ones. In the
    envelope spectrum, if there is one, lines of the named fault are red, those of others grey.
    Returns H×1200×3 uint8 RGB. Raises `InputError` for an inspection of no recording or an
    unreadable one, and for other windows.
    """
    view = at_speed(view, rpm)
    layout = lay_out(windows, view, inspection, threshold, map_threshold)
    recording = found_on(windows, view, inspection)
    page = np.full((layout.height, WIDTH, 3), PAGE, np.uint8)
    _draw_head(page, windows, view, inspection, recording)
    for channel, axes in layout.spectrograms.items():
        signal = windows.signal[view.channels.index(channel)]
        draw_spectrogram(page, axes, channel, spectrogram(signal, axes.height, axes.width))
    if map_threshold is not None and layout.maps:
        maps = _window_maps(recording, view, windows, map_threshold)
        for channel, axes in layout.maps.items():
            draw_unusual(page, axes, view, channel, maps)
    _draw_scores(page, layout.scores, recording, view, threshold)
    bars = [(layout.notes, _LOOK_AGAIN, SOFT)]
    if layout.fault is not None:
        finding = recording.faults[layout.fault.channel]
        _draw_envelope(page, layout.fault, finding)
        bars.append((layout.fault.sentence, SOFT if finding.fault is None else _REJECT, INK))
    for lines, bar, ink in bars:
        for middle, line in lines:
            page[middle - 12 : middle + 11, MARGIN : MARGIN + 4] = bar
            letter(page, line, (MARGIN + 14, middle), TEXT, ink)
    return page


def _window_maps(
    recording: RecordingFinding, view: SignalView, windows: Windows, map_threshold: float
) -> WindowMaps:
    maps = maps_of(recording)
    if len(maps[0]) >= _FINE_ROWS * len(view.channels) or not view.low:
        title = "unusual: when and at which frequencies"
        return WindowMaps(maps, recording.starts, map_threshold, title, "score")
    step = -(-len(maps) // _MOST_SEEN)
    title = "louder than the good state, in its standard deviations"
    seen = list(view.deviations(windows.values[::step]))
    return WindowMaps(seen, recording.starts[::step], _LOUD, title, "sd")


def _draw_head(
    page: Rgb,
    windows: Windows,
    view: SignalView,
    inspection: Inspection,
    recording: RecordingFinding,
) -> None:
    share, verdicts = recording.share_rejected, [each.verdict for each in recording.windows]
    counted = f"({verdicts.count('reject')} of {len(verdicts)})"
    figures = {"windows rejected": f"{100 * share:.3g} %  {counted}"}
    if inspection.p_value is not None:
        figures["p"] = f"{inspection.p_value:.3g}"
    draw_caption(page, Caption(inspection.verdict, figures, inspection.input), MARGIN)
    seconds, n = windows.signal.shape[1] / view.rate, len(verdicts)
    counted = f"{n} window{'' if n == 1 else 's'} of {view.window} samples"
    told = f"{seconds:.4g} s at {in_hz(view.rate)},  {counted}"
    if view.bearing and view.shaft_hz is not None:
        told += f",  bearing {view.bearing} at {60 * view.shaft_hz:.5g} rpm"
    letter(page, told, (MARGIN, MARGIN + 48), SMALL, SOFT)


def _draw_scores(
    page: Rgb, axes: Axes, recording: RecordingFinding, view: SignalView, threshold: float
) -> None:
    draw_title(page, axes, "windows", "how unusual each is")
    y_ticks = log_ticks(*axes.y, 5) if axes.log else ticks(*axes.y, 4)
    draw_axes(page, axes, "score", y_ticks, "time in s")
    starts = np.array(recording.starts)
    ends = np.minimum(starts + view.window / view.rate, np.append(starts[1:], np.inf))
    path = axes.places(np.stack([starts, ends], 1).ravel(), scores_of(recording).repeat(2))
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
    letter(page, "threshold", (right, middle - 8), SMALL)
    letter(page, f"{threshold:.4g}", (right, middle + 8), SMALL)


def _draw_envelope(page: Rgb, chart: FaultChart, finding: FaultFinding) -> None:
    axes, band = chart.axes, f"{in_hz(finding.band.low)} and {in_hz(finding.band.high)}"
    what = f"envelope spectrum: what repeats between {band}"
    draw_title(page, axes, chart.channel, what, 3 * LANE)
    x_label = "frequency of the envelope in Hz"
    draw_axes(page, axes, "dB over background", ticks(*axes.y, 5), x_label)
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
                above = axes.top - 9 - lane * LANE
                letter(page, mark.label, (column, above), SMALL, color, "mm")
                break


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last of each stretch that is chosen."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
