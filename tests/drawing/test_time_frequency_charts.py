"""What is unusual in a recording is drawn at its time and frequency, whatever the view."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.drawing.panel_axes import Axes
from makellos.drawing.recording_layout import Layout, lay_out
from makellos.drawing.recording_panels import draw_recording
from makellos.drawing.time_frequency_charts import unusual
from makellos.inspection import Inspection
from makellos.inspection.recordings import RecordingFinding
from makellos.vibration.signals import Windows
from makellos.vibration.views import SignalView, ViewName

RATE, SECONDS, N_WINDOWS = 12000.0, 2048 / 12000, 12
THRESHOLD = 2.0
PICTURES: tuple[ViewName, ...] = ("stft", "logmel", "scalogram")
Maps = list[NDArray[np.float32]]
Rgb = NDArray[np.uint8]


def view_of(name: ViewName = "stft", n_channels: int = 1, hop: int = 2048) -> SignalView:
    return SignalView(rate=RATE, channels=("a", "b", "c", "d")[:n_channels], view=name, hop=hop)


def recorded(view: SignalView, maps: Maps | None, start: float = 0.0) -> tuple[Windows, Inspection]:
    n = N_WINDOWS if maps is None else len(maps)
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((len(view.channels), view.window + (n - 1) * view.hop), np.float32)
    starts = round(start * RATE) + view.hop * np.arange(n)
    windows = Windows(np.zeros((n, len(signal), view.window), np.float32), starts, signal, ())
    parts = tuple(
        Inspection("a.npz", "ok", score=0.5, anomaly_map=None if maps is None else maps[i])
        for i in range(n)
    )
    times = tuple((starts / RATE).tolist())
    finding = RecordingFinding(parts, times, 0.0, (), {})
    return windows, Inspection("a.npz", "ok", score=0.5, p_value=0.5, recording=finding)


def drawn(view: SignalView, maps: Maps | None, start: float = 0.0) -> tuple[Rgb, Layout]:
    windows, inspection = recorded(view, maps, start)
    layout = lay_out(windows, view, inspection, 1.0, THRESHOLD)
    page = draw_recording(windows, view, inspection, threshold=1.0, map_threshold=THRESHOLD)
    return page, layout


def one_hot(shape: tuple[int, int], cell: tuple[int, int], at: int = 5, value: float = 9.0) -> Maps:
    maps = [np.zeros(shape, np.float32) for _ in range(N_WINDOWS)]
    maps[at][cell] = value
    return maps


def inside(page: Rgb, axes: Axes) -> Rgb:
    return page[axes.top : axes.top + axes.height, axes.left : axes.left + axes.width]


def lit(page: Rgb, axes: Axes) -> tuple[tuple[float, float], tuple[float, float]]:
    """First and last time and lowest and highest frequency that are not white."""
    rows, columns = np.nonzero((inside(page, axes) != 255).any(axis=2))
    second, hz = (axes.x[1] - axes.x[0]) / axes.width, axes.y[1] / axes.height
    times = axes.x[0] + second * np.array([columns.min(), columns.max() + 1])
    frequencies = axes.y[1] - hz * np.array([rows.max() + 1, rows.min()])
    return (times[0], times[1]), (frequencies[0], frequencies[1])


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("cell", [(1, 2), (0, 0), (5, 7), (7, 4)])
@pytest.mark.parametrize(("n_channels", "channel"), [(1, 0), (2, 0), (2, 1)])
def test_hot_cell_is_lit_at_its_time_and_frequencies(
    name: ViewName, cell: tuple[int, int], n_channels: int, channel: int
) -> None:
    view = view_of(name, n_channels)
    row, column = cell
    maps = one_hot((8 * n_channels, 8), (8 * channel + row, column))
    page, layout = drawn(view, maps, start=30.0)
    chart = layout.maps[view.channels[channel]]
    (begin, end), (low, high) = lit(page, chart)
    pixel_s, pixel_hz = (chart.x[1] - chart.x[0]) / chart.width, chart.y[1] / chart.height
    # The rows and columns of the window's picture that the cell covers lie in what is lit.
    window = 30.0 + 5 * SECONDS
    seen = window + view.times()[8 * column : 8 * column + 8]
    heard = view.frequencies()[8 * row : 8 * row + 8]
    assert begin - pixel_s <= seen.min() <= seen.max() <= end + pixel_s
    assert low - pixel_hz <= heard.min() <= heard.max() <= high + pixel_hz
    # Those of its neighbours do not.
    others = np.delete(window + view.times(), slice(8 * column, 8 * column + 8))
    unheard = np.delete(view.frequencies(), slice(8 * row, 8 * row + 8))
    assert not ((others > begin + pixel_s) & (others < end - pixel_s)).any()
    assert not ((unheard > low + pixel_hz) & (unheard < high - pixel_hz)).any()
    assert window - pixel_s <= begin < end <= window + SECONDS + pixel_s
    for other in set(view.channels) - {view.channels[channel]}:
        assert (inside(page, layout.maps[other]) == 255).all()


def test_row_that_two_channels_share_is_lit_in_both() -> None:
    page, layout = drawn(view_of(n_channels=2), one_hot((3, 4), (1, 0)))
    for channel, (lowest, highest) in {"a": (0.0, 2000.0), "b": (4000.0, 6000.0)}.items():
        _, found = lit(page, layout.maps[channel])
        assert found == pytest.approx((lowest, highest), abs=100.0)


def test_chart_lies_below_the_spectrogram_on_the_same_axes() -> None:
    view = view_of(n_channels=4)
    page, layout = drawn(view, one_hot((16, 4), (0, 0)))
    assert list(layout.maps) == ["a", "b", "c"]
    ends = []
    for channel, chart in layout.maps.items():
        above = layout.spectrograms[channel]
        assert (chart.left, chart.width, chart.x, chart.y) == (
            above.left,
            above.width,
            above.x,
            above.y,
        )
        ends += [above.top, above.top + above.height, chart.top, chart.top + chart.height]
    assert ends == sorted(ends)
    assert ends[-1] < layout.scores.top
    assert page.shape == (layout.height, 1200, 3)


# Colours


@pytest.mark.parametrize("value", [0.0, 0.9, 1.0])
def test_half_the_threshold_and_less_is_white(value: float) -> None:
    page, layout = drawn(view_of(), [np.full((4, 4), value, np.float32)] * N_WINDOWS)
    assert (inside(page, layout.maps["a"]) == 255).all()


def test_colour_grows_up_to_one_and_a_half_of_the_threshold() -> None:
    maps = [np.full((4, 4), value, np.float32) for value in (1.2, 1.6, 1.9, 2.4, 2.9, 3.0, 9.0)]
    page, layout = drawn(view_of(), maps)
    chart = layout.maps["a"]
    row = chart.row(3000.0)
    colors = [
        page[row, chart.column((i + 0.5) * SECONDS)].astype(int).sum() for i in range(len(maps))
    ]
    assert (np.diff(colors[:6]) < 0).all()
    assert colors[5] == colors[6]


def test_what_is_above_the_threshold_has_an_outline() -> None:
    hot, layout = drawn(view_of(), one_hot((4, 4), (1, 1), value=2.1))
    warm, _ = drawn(view_of(), one_hot((4, 4), (1, 1), value=1.9))
    chart = layout.maps["a"]
    for page, outlined in ((hot, True), (warm, False)):
        chosen = (inside(page, chart) != 255).any(axis=2)
        rows, columns = np.flatnonzero(chosen.any(axis=1)), np.flatnonzero(chosen.any(axis=0))
        spot = inside(page, chart)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert chosen.sum() == spot[..., 0].size
        edge = np.concatenate([spot[0], spot[-1], spot[:, 0], spot[:, -1]])
        assert len(np.unique(edge, axis=0)) == 1
        assert (edge[0] != spot[3, 3]).any() == outlined
        assert len(np.unique(spot[1:-1, 1:-1].reshape(-1, 3), axis=0)) == 1


# Windows and columns


def axes_of(view: SignalView, n: int, width: int = 100, height: int = 8) -> Axes:
    end = (view.window + (n - 1) * view.hop) / RATE
    return Axes(0, 0, width, height, (0.0, end), (0.0, RATE / 2))


def test_more_windows_than_columns_are_averaged() -> None:
    view, n = view_of(), 1000
    maps = [np.full((2, 2), i % 2, np.float32) for i in range(n)]
    maps[500:600] = [np.full((2, 2), 7.0, np.float32)] * 100
    values = unusual(view, maps, [i * SECONDS for i in range(n)], "a", axes_of(view, n))
    assert values[:, :50] == pytest.approx(0.5)
    assert values[:, 50:60] == pytest.approx(7.0)
    assert values[:, 60:] == pytest.approx(0.5)


def test_overlapping_windows_are_averaged() -> None:
    view = view_of(hop=1024)
    maps = [np.full((1, 1), value, np.float32) for value in (0.0, 4.0)]
    values = unusual(view, maps, [0.0, SECONDS / 2], "a", axes_of(view, 2, width=3))
    assert values[0].tolist() == pytest.approx([0.0, 2.0, 4.0])


def test_cell_narrower_than_a_pixel_is_not_lost() -> None:
    view = view_of("scalogram")
    maps = [np.zeros((64, 64), np.float32) for _ in range(N_WINDOWS)]
    maps[3][62, 10] = 7.0
    values = unusual(
        view, maps, [i * SECONDS for i in range(N_WINDOWS)], "a", axes_of(view, N_WINDOWS, 60)
    )
    assert values.max() == pytest.approx(7.0)
    assert np.argwhere(values > 0).tolist() == [[7, 15]]


def test_time_between_windows_is_not_seen() -> None:
    view = view_of(hop=4096)
    values = unusual(
        view, [np.ones((2, 2), np.float32)] * 3, [0.0, 2 * SECONDS, 4 * SECONDS], "a",
        axes_of(view, 3, width=5),
    )  # fmt: skip
    assert np.isnan(values).all(axis=0).tolist() == [False, True, False, True, False]
    page, layout = drawn(view, [np.zeros((2, 2), np.float32)] * 3)
    chart = layout.maps["a"]
    between = page[chart.row(3000.0), chart.column(1.5 * SECONDS)]
    assert (between != 255).all()
    assert np.ptp(between.astype(int)) < 8


# Without a chart


@pytest.mark.parametrize("map_threshold", [None, THRESHOLD, math.inf])
def test_panel_without_maps_is_as_it_was(map_threshold: float | None) -> None:
    windows, inspection = recorded(view_of(), None)
    plain = draw_recording(windows, view_of(), inspection, threshold=1.0)
    page = draw_recording(
        windows, view_of(), inspection, threshold=1.0, map_threshold=map_threshold
    )
    assert np.array_equal(page, plain)


@pytest.mark.parametrize("map_threshold", [None, math.inf])
def test_without_a_threshold_there_is_no_chart(map_threshold: float | None) -> None:
    windows, with_maps = recorded(view_of(), one_hot((4, 4), (1, 1)))
    _, without = recorded(view_of(), None)
    plain = draw_recording(windows, view_of(), without, threshold=1.0)
    page = draw_recording(windows, view_of(), with_maps, threshold=1.0, map_threshold=map_threshold)
    assert np.array_equal(page, plain)
    assert lay_out(windows, view_of(), with_maps, 1.0, map_threshold).maps == {}


def test_maps_of_an_hour_take_little_memory() -> None:
    view, n = view_of(), round(3600 / SECONDS)
    maps = [np.ones((8, 8), np.float32)] * n
    axes = axes_of(view, n, width=996, height=170)
    tracemalloc.start()
    try:
        values = unusual(view, maps, [i * SECONDS for i in range(n)], "a", axes)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert values.min() == pytest.approx(1.0)
    assert values.max() == pytest.approx(1.0)
