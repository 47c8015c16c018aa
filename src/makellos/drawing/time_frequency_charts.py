"""Charts of time and frequency: the spectrogram of a signal, and what is unusual in it.

Both have a linear axis of frequency, whatever that of the pictures which a detector saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from makellos.drawing.lettering import SOFT, WHITE, Rgb, letter
from makellos.drawing.panel_axes import EDGE, SMALL, Axes, Floats, draw_axes, draw_title
from makellos.drawing.scales import Tick, ticks
from makellos.vibration.views import SignalView

__all__ = ["WindowMaps", "draw_spectrogram", "draw_unusual", "spectrogram", "unusual"]

Cells = NDArray[np.float32]

_FRAME, _PADDED, _MOST_EACH = 512, 1024, 8  # samples of a spectrum's frame; frames in a column
_QUIETEST = 1e-24  # mean square: -240 dB, as in `SignalView.levels`
_LEAST_SPAN = 20.0  # dB of the colours: silence is even, not noise blown up
_AT_ONCE = 1024  # windows that are added up at once
_UNSEEN = (240, 240, 237)  # between windows, and after the last
_OUTLINE = (96, 10, 26)
_HEAT = (WHITE, (253, 224, 166), (247, 158, 92), (226, 82, 58), (158, 18, 40))


@dataclass(frozen=True)
class WindowMaps:
    """Hold the maps h×w of windows that start at `starts` s, and how a chart of them is read.

    Values above the finite `threshold`, in their `unit`, are unusual; `title` says what they are.
    """

    maps: Sequence[Cells]
    starts: Sequence[float]
    threshold: float
    title: str
    unit: str


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


def unusual(
    view: SignalView,
    maps: Sequence[Cells],
    starts: Sequence[float],
    channel: str,
    axes: Axes,
) -> Floats:
    """Lay the anomaly maps of windows side by side on a chart of time and linear frequency.

    `maps` h×w, one or more and all alike, are of pictures of `view`; `starts` are the windows' in
    s. Returns height×width of `axes`, whose y is from 0 Hz to half the rate, for one channel. A
    pixel holds the highest of a window's cells in it, and the mean of windows that share its
    column; where no window was, it is not a number.
    """
    number, begins = view.channels.index(channel), np.asarray(starts, np.float64) - axes.x[0]
    rows, row_edges = _row_edges(view, number, len(maps[0]))
    time_edges = _time_edges(view, maps[0].shape[1])
    step = (axes.x[1] - axes.x[0]) / axes.width
    sums, weights = np.zeros((axes.width, rows.stop - rows.start)), np.zeros(axes.width)
    if time_edges[-1] <= step:
        _add_narrow(sums, weights, [each[rows] for each in maps], begins / step, time_edges / step)
    else:
        _add_wide(sums, weights, [each[rows] for each in maps], begins / step, time_edges / step)
    means = np.full(sums.shape, np.nan)
    np.divide(sums, weights[:, None], out=means, where=weights[:, None] > 0)
    bounds: Floats = np.linspace(0.0, view.rate / 2, axes.height + 1)
    return _highest(means[:, ::-1], row_edges[::-1], bounds).T[::-1]


def _add_wide(
    sums: Floats, weights: Floats, maps: Sequence[Cells], begins: Floats, edges: Floats
) -> None:
    """Add windows of a column or more to sums columns×h and weights; all times are in columns."""
    for cells, begin in zip(maps, begins.tolist(), strict=True):
        # Rounding shall not reach into a neighbour's column.
        first, stop = math.floor(begin + 1e-6), math.ceil(begin + float(edges[-1]) - 1e-6)
        columns = slice(max(0, first), min(len(sums), stop))
        within = np.arange(columns.start, columns.stop + 1) - begin
        shares = np.diff(np.clip(within, 0.0, edges[-1]))
        sums[columns] += (shares * _highest(cells, edges, within)).T
        weights[columns] += shares


def _add_narrow(
    sums: Floats, weights: Floats, maps: Sequence[Cells], begins: Floats, edges: Floats
) -> None:
    """Add windows narrower than a column, which lie in one or two; all else as in `_add_wide`."""
    columns = np.clip(np.floor(begins + 1e-6).astype(np.intp), 0, len(sums) - 1)
    lasts = np.minimum(columns + 1, len(sums) - 1)
    for start in range(0, len(maps), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        peaks = np.stack(maps[part]).max(axis=2)
        share = np.clip(columns[part] + 1 - begins[part], 0.0, edges[-1])
        for place, weight in ((columns[part], share), (lasts[part], edges[-1] - share)):
            np.add.at(sums, place, weight[:, None] * peaks)
            np.add.at(weights, place, weight)


def _highest(cells: NDArray[Any], edges: Floats, bounds: Floats) -> Floats:
    """The highest cells k×n between `bounds` (m + 1,): k×m. Cells lie between `edges` (n + 1,)."""
    last = cells.shape[1] - 1
    first = np.clip(np.searchsorted(edges[1:], bounds[:-1] + 1e-9, "right"), 0, last)
    stop = np.searchsorted(edges[:-1], bounds[1:] - 1e-9, "left")
    pairs = np.stack([first, np.maximum(stop, first + 1)], axis=1).ravel()
    padded = np.concatenate([cells, cells[:, -1:]], axis=1)  # no pair may begin at the end
    return np.asarray(np.maximum.reduceat(padded, pairs, axis=1)[:, ::2], np.float64)


def _time_edges(view: SignalView, n: int) -> Floats:
    """Where n columns of a map begin and end, in s from the window's start: (n + 1,)."""
    times, edges = view.times(), np.linspace(-0.5, view.width - 0.5, n + 1)
    inner = np.interp(edges[1:-1], np.arange(view.width), times)
    return np.concatenate([[0.0], inner, [view.window / view.rate]])


def _row_edges(view: SignalView, number: int, n: int) -> tuple[slice, Floats]:
    """Which of a map's n rows see a channel, and where they begin and end in Hz, from the top."""
    n_channels, frequencies = len(view.channels), view.frequencies()
    first, stop = number * n // n_channels, -(-(number + 1) * n // n_channels)
    places = np.arange(first, stop + 1) * (n_channels * view.height / n) - number * view.height
    between = (frequencies[1:] + frequencies[:-1]) / 2
    known = np.concatenate([[view.rate / 2], between, [0.0]])  # outer rows see to the ends
    return slice(first, stop), np.interp(places, np.arange(view.height + 1), known)


def draw_spectrogram(page: Rgb, axes: Axes, channel: str, levels: Floats) -> None:
    """Draw the `spectrogram` of a channel, height×width of the axes, and the colours of its dB."""
    _draw_frequencies(page, axes)
    draw_title(page, axes, channel, "spectrogram")
    low, high = (float(level) for level in np.percentile(levels, (5, 99.5)))
    high = max(high, low + _LEAST_SPAN)
    shades = np.linspace(1.0, 0.0, axes.height)[:, None]
    _fill(page, axes, _colors((levels - low) / (high - low)))
    _draw_bar(page, axes, _colors(shades), "dB", (low, high), ticks(low, high, 5))


def draw_unusual(
    page: Rgb, axes: Axes, view: SignalView, channel: str, windows: WindowMaps
) -> None:
    """Draw what is `unusual` of a channel, outlined where it is above the threshold.

    Colours begin at half of the threshold and are full at one and a half of it, as those of
    `draw_overlay`.
    """
    _draw_frequencies(page, axes)
    draw_title(page, axes, channel, windows.title)
    values = unusual(view, windows.maps, windows.starts, channel, axes)
    threshold = windows.threshold
    scale, seen = max(threshold, 1e-12), ~np.isnan(values)
    colors = _heat(np.where(seen, values, 0.0) / scale - 0.5)
    colors[~seen] = _UNSEEN
    above = (seen & (values > threshold)).astype(np.uint8)
    inner = cv2.erode(above, np.ones((3, 3), np.uint8), borderValue=0)
    colors[above > inner] = _OUTLINE
    _fill(page, axes, colors)
    marks = [Tick(n * scale, f"{n * scale:.3g}") for n in (0.5, 1.0, 1.5)]
    bar = _heat(np.linspace(1.0, 0.0, axes.height)[:, None])
    bar[axes.height // 2] = _OUTLINE  # the threshold, midway
    _draw_bar(page, axes, bar, windows.unit, (0.5 * scale, 1.5 * scale), marks)


def _draw_frequencies(page: Rgb, axes: Axes) -> None:
    kilo = 1000.0 if axes.y[1] >= 2000 else 1.0
    y_ticks = ticks(*axes.y, axes.height // 40, kilo)
    draw_axes(page, axes, f"frequency in {'kHz' if kilo > 1 else 'Hz'}", y_ticks)


def _draw_bar(
    page: Rgb,
    axes: Axes,
    colors: Rgb,
    unit: str,
    span: tuple[float, float],
    marks: Iterable[Tick],
) -> None:
    """Draw what the colours of a chart mean beside it; `colors` are height×1×3."""
    bar = Axes(axes.left + axes.width + 22, axes.top, 14, axes.height, (0.0, 1.0), span)
    _fill(page, bar, colors)
    for value, text in marks:
        row = bar.row(value)
        page[row, bar.left + 14 : bar.left + 18] = EDGE
        letter(page, text, (bar.left + 22, row), SMALL, SOFT)
    letter(page, unit, (bar.left + 7, axes.top - 13), SMALL, SOFT, "mm")


def _fill(page: Rgb, axes: Axes, colors: Rgb) -> None:
    rows = slice(axes.top, axes.top + axes.height)
    page[rows, axes.left : axes.left + axes.width] = colors


def _colors(relative: Floats) -> Rgb:
    shades = np.rint(255 * np.clip(relative, 0.0, 1.0)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(shades, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def _heat(relative: Floats) -> Rgb:
    steps, colors = np.linspace(0, 255, len(_HEAT)), np.array(_HEAT, np.float64).T
    table = np.stack([np.interp(np.arange(256), steps, each) for each in colors], axis=-1)
    shades = np.rint(255 * np.clip(relative, 0.0, 1.0)).astype(np.intp)
    return np.asarray(np.rint(table).astype(np.uint8)[shades])
