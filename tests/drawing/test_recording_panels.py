"""The picture of a recording: what is drawn lies where s, Hz and scores say."""

from __future__ import annotations

import math
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.drawing.lettering import PAGE
from makellos.drawing.overlays import COLORS
from makellos.drawing.panel_axes import Axes
from makellos.drawing.recording_layout import Layout, lay_out
from makellos.drawing.recording_panels import draw_recording
from makellos.drawing.time_frequency_charts import spectrogram
from makellos.errors import InputError
from makellos.inspection import Inspection
from makellos.inspection.recordings import RecordingFinding
from makellos.sets.synthetic_bearings import synthetic_recording
from makellos.vibration.bearing_faults import FaultFinding, name_fault
from makellos.vibration.bearings import find_bearing
from makellos.vibration.signals import Windows
from makellos.vibration.views import SignalView

RATE, SHAFT_HZ, THRESHOLD = 12000.0, 29.95, 1.0
VIEW = SignalView(rate=RATE, channels=("DE",), bearing="6205", shaft_hz=SHAFT_HZ)
REJECT = np.array(COLORS["reject"])
Signal = NDArray[np.float32]
Rgb = NDArray[np.uint8]


def windows_of(signal: Signal, view: SignalView, start: int = 0) -> Windows:
    seen = np.lib.stride_tricks.sliding_window_view(signal, view.window, axis=1)
    values = seen[:, :: view.hop].swapaxes(0, 1)
    return Windows(values, start + view.hop * np.arange(len(values)), signal, ())


def faults_of(windows: Windows, view: SignalView) -> dict[str, FaultFinding]:
    found: dict[str, FaultFinding] = {}
    for name, signal in zip(view.channels, windows.signal, strict=True):
        with suppress(InputError):
            found[name] = name_fault(signal, view.rate, find_bearing("6205"), SHAFT_HZ)
    return found


def inspected(
    windows: Windows,
    view: SignalView,
    scores: list[float] | NDArray[np.float64] | None = None,
    *,
    notes: tuple[str, ...] = (),
    name: str = "pump.npz",
    verdict: str = "reject",
) -> Inspection:
    given = np.full(len(windows.starts), 0.5) if scores is None else np.asarray(scores)
    parts = tuple(
        Inspection(name, "reject" if score > THRESHOLD else "ok", score=float(score))
        for score in given
    )
    finding = RecordingFinding(
        windows=parts,
        starts=tuple((windows.starts / view.rate).tolist()),
        share_rejected=sum(part.verdict == "reject" for part in parts) / len(parts),
        notes=notes,
        faults=faults_of(windows, view) if verdict != "ok" else {},
    )
    return Inspection(name, verdict, score=0.5, p_value=0.01, recording=finding)


def drawn(
    windows: Windows, view: SignalView, inspection: Inspection, threshold: float = THRESHOLD
) -> tuple[Rgb, Layout]:
    layout = lay_out(windows, view, inspection, threshold)
    return draw_recording(windows, view, inspection, threshold=threshold), layout


def noise(n_channels: int = 1, seconds: float = 2.0, seed: int = 0) -> Signal:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_channels, round(seconds * RATE)), np.float32)


def outer_race(seconds: float = 4.0) -> Signal:
    return synthetic_recording(
        "outer",
        rate=RATE,
        seconds=seconds,
        shaft_hz=SHAFT_HZ,
        bearing=find_bearing("6205"),
    )[None]


def inside(page: Rgb, axes: Axes) -> Rgb:
    return page[axes.top : axes.top + axes.height, axes.left : axes.left + axes.width]


def reject_columns(page: Rgb, axes: Axes) -> NDArray[np.intp]:
    """Columns of the page in which a chart has pixels of exactly the reject colour."""
    return axes.left + np.flatnonzero((inside(page, axes) == REJECT).all(axis=2).any(axis=0))


@pytest.fixture(scope="module")
def faulty() -> tuple[Windows, Inspection]:
    windows = windows_of(outer_race(), VIEW)
    return windows, inspected(windows, VIEW)


# Geometry


def test_axes_map_values_to_pixels() -> None:
    axes = Axes(100, 50, 1000, 200, (2.0, 4.0), (0.0, 100.0))
    assert [axes.column(x) for x in (2.0, 3.0, 3.5, 4.0)] == [100, 600, 850, 1099]
    assert [axes.row(y) for y in (100.0, 75.0, 50.0, 0.0)] == [50, 100, 150, 249]
    assert (axes.column(-7.0), axes.row(1e9)) == (100, 50)  # what lies outside is clipped


def test_logarithmic_axes_are_even_by_decades() -> None:
    axes = Axes(0, 0, 10, 300, (0.0, 1.0), (1.0, 1000.0), log=True)
    assert [axes.row(y) for y in (1000.0, 100.0, 10.0, 1.0)] == [0, 100, 200, 299]
    assert axes.row(-1.0) == 299


@pytest.mark.parametrize("hz", [300.0, 1500.0, 4321.0, 5900.0])
@pytest.mark.parametrize("n_samples", [2048, 24000, 600_000])
def test_tone_is_brightest_where_its_frequency_is(hz: float, n_samples: int) -> None:
    times = np.arange(n_samples) / RATE
    signal = (np.sin(2 * np.pi * hz * times)[None] + 0.01).astype(np.float32)
    windows = windows_of(signal, VIEW)
    page, layout = drawn(windows, VIEW, inspected(windows, VIEW, verdict="ok"))
    axes = layout.spectrograms["DE"]
    # The brightest colours of the map are those with most green.
    green = inside(page, axes)[..., 1].mean(axis=1)
    brightest = axes.top + np.flatnonzero(green == green.max()).mean()
    n_rows_of_line = axes.height / 256 + RATE / 512 / (RATE / 2) * axes.height / 2
    assert abs(brightest - axes.row(hz)) <= max(2, n_rows_of_line)


def test_burst_is_brightest_at_its_time_in_the_whole_recording() -> None:
    signal = noise(seconds=4.0)
    signal[0, round(1.5 * RATE) : round(1.6 * RATE)] *= 30
    windows = windows_of(signal, VIEW, start=round(100 * RATE))
    page, layout = drawn(windows, VIEW, inspected(windows, VIEW, verdict="ok"))
    axes = layout.spectrograms["DE"]
    assert axes.x == (100.0, 104.0)
    loud = axes.left + np.flatnonzero(inside(page, axes)[..., 1].mean(axis=0) > 150)
    assert abs(loud.min() - axes.column(101.5)) <= 15
    assert abs(loud.max() - axes.column(101.6)) <= 15


def test_spectrogram_has_the_level_of_a_sine() -> None:
    times = np.arange(48000) / RATE
    levels = spectrogram(4.0 * np.sin(2 * np.pi * 3000.0 * times), 16, 100)
    silent = spectrogram(np.zeros(48000, np.float32), 16, 100)
    assert levels.shape == (16, 100)
    assert np.ptp(levels[8]) < 0.5  # 3000 Hz is the edge between rows 7 and 8 of 16
    fine = spectrogram(4.0 * np.sin(2 * np.pi * 3000.0 * times), 513, 100)
    assert fine.max() == pytest.approx(10 * math.log10(8.0), abs=0.3)  # a mean square of 8
    assert (silent == -240).all()


# Scores


def test_rejected_window_is_drawn_in_the_reject_colour_at_its_time() -> None:
    windows = windows_of(noise(), VIEW, start=round(5 * RATE))
    scores = np.full(len(windows.starts), 0.5)
    scores[4] = 1.8
    page, layout = drawn(windows, VIEW, inspected(windows, VIEW, scores))
    found = reject_columns(page, layout.scores)
    start = 5 + 4 * VIEW.window / RATE
    assert abs(found.min() - layout.scores.column(start)) <= 2
    assert abs(found.max() - layout.scores.column(start + VIEW.window / RATE)) <= 2
    rows = np.flatnonzero((page[:, found[len(found) // 2]] == REJECT).all(axis=1))
    assert abs(rows.mean() - layout.scores.row(1.8)) <= 1


def test_no_reject_colour_without_a_rejected_window() -> None:
    windows = windows_of(noise(), VIEW)
    page, _ = drawn(windows, VIEW, inspected(windows, VIEW, verdict="ok"))
    assert not (page == REJECT).all(axis=2).any()


def test_threshold_is_a_dashed_line_at_its_score() -> None:
    windows = windows_of(noise(), VIEW)
    page, layout = drawn(windows, VIEW, inspected(windows, VIEW))
    dark = inside(page, layout.scores).max(axis=2) < 40
    share = dark.mean(axis=1)
    assert layout.scores.top + int(share.argmax()) == layout.scores.row(THRESHOLD)
    assert 0.5 < share.max() < 0.7


@pytest.mark.parametrize(
    ("scores", "log"), [((0.02, 3.0), True), ((0.5, 3.0), False), ((-1.0, 300.0), False)]
)
def test_scores_of_more_than_two_decades_are_drawn_on_a_logarithmic_axis(
    scores: tuple[float, float], log: bool
) -> None:
    windows = windows_of(noise(), VIEW)
    given = np.resize(scores, len(windows.starts))
    _, layout = drawn(windows, VIEW, inspected(windows, VIEW, given))
    assert layout.scores.log is log
    low, high = layout.scores.y
    assert low < min(*scores, THRESHOLD)
    assert high > max(*scores, THRESHOLD)


def test_windows_too_short_for_a_segment_are_points() -> None:
    view = VIEW.model_copy(update={"window": 16, "hop": 16})
    windows = windows_of(noise(seconds=4.0), view)
    scores = np.full(len(windows.starts), 0.5)
    scores[1000] = 2.0
    page, layout = drawn(windows, view, inspected(windows, view, scores, verdict="ok"))
    found = reject_columns(page, layout.scores)
    assert len(found) >= 3
    assert abs(found.mean() - layout.scores.column(1000 * 16 / RATE)) <= 1


# Faults


def test_harmonics_of_the_named_fault_are_marked_at_their_places(
    faulty: tuple[Windows, Inspection],
) -> None:
    windows, inspection = faulty
    page, layout = drawn(windows, VIEW, inspection)
    assert inspection.recording is not None
    finding = inspection.recording.faults["DE"]
    assert finding.fault == "outer race"
    assert layout.fault is not None
    axes = layout.fault.axes
    named = [mark for mark in layout.fault.marks if mark.named]
    assert [mark.label for mark in named] == ["BPFO", "2x", "3x", "4x", "5x"]
    standing = finding.strengths["outer race"].harmonics
    assert [m.frequency for m in named if m.decibels] == [h.frequency for h in standing]
    found = reject_columns(page, axes)
    places = np.array([axes.column(line.frequency) for line in standing])
    near = np.abs(found[:, None] - places)
    assert (near.min(axis=1) <= 5).all()  # red is at the harmonics alone
    assert (near.min(axis=0) == 0).all()  # and at each of them
    for line in standing:  # down to its peak
        column = page[axes.top : axes.row(line.decibels), axes.column(line.frequency)]
        assert (column == REJECT).all()


def test_other_rates_are_marked_in_gray_and_labelled_once(
    faulty: tuple[Windows, Inspection],
) -> None:
    windows, inspection = faulty
    page, layout = drawn(windows, VIEW, inspection)
    assert layout.fault is not None
    axes = layout.fault.axes
    others = [mark for mark in layout.fault.marks if not mark.named]
    assert [mark.label for mark in others if mark.label] == ["shaft", "BPFI", "2xBSF"]
    rates = find_bearing("6205").frequencies(SHAFT_HZ)
    expected = [n * rate for rate in (SHAFT_HZ, rates["BPFI"], rates["2xBSF"]) for n in range(1, 6)]
    assert sorted(mark.frequency for mark in others) == pytest.approx(sorted(expected))
    gray = page[axes.top + 2, axes.column(rates["BPFI"])]
    assert np.ptp(gray.astype(int)) < 20
    assert 120 < gray.mean() < 220


def test_envelope_reaches_a_bit_above_the_fifth_harmonic(
    faulty: tuple[Windows, Inspection],
) -> None:
    windows, inspection = faulty
    _, layout = drawn(windows, VIEW, inspection)
    assert layout.fault is not None
    highest = max(mark.frequency for mark in layout.fault.marks if mark.named)
    assert highest < layout.fault.axes.x[1] < 1.1 * highest
    assert inspection.recording is not None
    assert [text for _, text in layout.fault.sentence] == [
        inspection.recording.faults["DE"].sentence
    ]


def test_finding_without_a_fault_is_drawn_without_red() -> None:
    windows = windows_of(noise(seconds=3.0), VIEW)
    inspection = replace(inspected(windows, VIEW), verdict="look_again")
    assert inspection.recording is not None
    assert inspection.recording.faults["DE"].fault is None
    page, layout = drawn(windows, VIEW, inspection)
    assert layout.fault is not None
    assert not any(mark.named for mark in layout.fault.marks)
    assert not (page == REJECT).all(axis=2).any()


def test_speed_of_the_recording_moves_the_mark_of_the_shaft(
    faulty: tuple[Windows, Inspection],
) -> None:
    windows, inspection = faulty
    same = draw_recording(windows, VIEW, inspection, threshold=THRESHOLD, rpm=60 * SHAFT_HZ)
    other = draw_recording(windows, VIEW, inspection, threshold=THRESHOLD, rpm=1200.0)
    plain, layout = drawn(windows, VIEW, inspection)
    assert layout.fault is not None
    axes = layout.fault.axes
    assert (same == plain).all()
    assert (inside(other, axes)[2, axes.column(20.0) - axes.left] != 255).all()
    assert (inside(plain, axes)[2, axes.column(20.0) - axes.left] == 255).all()


# Edges


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_up_to_three_channels_have_a_spectrogram(n_channels: int) -> None:
    names = ("a", "b", "c", "d")[:n_channels]
    view = VIEW.model_copy(update={"channels": names})
    signal = noise(n_channels, seconds=4.0)
    signal[-1] = outer_race()[0]
    windows = windows_of(signal, view)
    page, layout = drawn(windows, view, inspected(windows, view))
    shown = {4: ["a", "b", "d"]}.get(n_channels, list(names))  # with that of the fault
    assert list(layout.spectrograms) == shown
    assert layout.fault is not None
    assert layout.fault.channel == names[-1]
    assert [text for _, text in layout.notes] == (["not drawn: c"] if n_channels == 4 else [])
    assert page.shape == (layout.height, 1200, 3)
    assert page.dtype == np.uint8
    charts = [*layout.spectrograms.values(), layout.scores, layout.fault.axes]
    for upper, lower in pairwise(charts):
        assert upper.top + upper.height < lower.top
        assert (upper.left, upper.width) == (lower.left, lower.width)


@pytest.mark.parametrize(
    ("n_samples", "window"), [(2048, 2048), (3000, 2048), (16, 16), (17, 16), (100, 64)]
)
def test_one_window_only_is_drawn(n_samples: int, window: int) -> None:
    view = SignalView(rate=1000.0, channels=("x",), window=window, hop=window)
    windows = windows_of(noise()[:, :n_samples], view)
    page, layout = drawn(windows, view, inspected(windows, view, [2.0] * len(windows.starts)))
    assert page.shape == (layout.height, 1200, 3)
    assert reject_columns(page, layout.scores).size > 50


@pytest.mark.parametrize("score", [0.0, 1.0, -3.0, 1e9])
def test_silence_and_equal_scores_are_drawn(score: float) -> None:
    windows = windows_of(np.zeros((1, 24000), np.float32), VIEW)
    scores = np.full(len(windows.starts), score)
    for threshold in (score, math.inf, -math.inf):
        page, layout = drawn(windows, VIEW, inspected(windows, VIEW, scores), threshold)
        spectrum = inside(page, layout.spectrograms["DE"])
        assert (spectrum == spectrum[0, 0]).all()
        assert layout.scores.y[0] < score < layout.scores.y[1]


def test_long_names_and_notes_stay_on_the_picture() -> None:
    windows = windows_of(noise(), VIEW)
    notes = ("channel DE clips at 2.5 V in 1.2 % of its samples",) * 40 + ("x" * 5000,)
    name = "folder/" + "very_long_" * 300 + ".npz"
    given = inspected(windows, VIEW, notes=notes, name=name, verdict="ok")
    page, layout = drawn(windows, VIEW, given)
    assert len(layout.notes) == 4
    assert layout.notes[-1][0] < page.shape[0] - 12
    assert (page[:, :20] == PAGE).all()
    assert (page[:, -20:] == PAGE).all()
    assert not (page[30:50, 600:1170] == PAGE).all()  # the end of the name is seen


def test_the_same_recording_gives_the_same_picture(faulty: tuple[Windows, Inspection]) -> None:
    windows, inspection = faulty
    first, second = (drawn(windows, VIEW, inspection)[0] for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("verdict", ["ok", "look_again", "reject"])
def test_badge_has_the_colour_of_the_verdict(verdict: str) -> None:
    windows = windows_of(noise(), VIEW)
    page, _ = drawn(windows, VIEW, inspected(windows, VIEW, verdict=verdict))
    assert (page[24:54, 24:60] == COLORS[verdict]).all(axis=2).mean() > 0.5


def test_an_hour_takes_little_memory() -> None:
    signal = np.broadcast_to(np.float32(0.5), (1, 3600 * 12000))
    windows = windows_of(signal, VIEW)
    inspection = inspected(windows, VIEW, verdict="ok")
    tracemalloc.start()
    try:
        page, layout = drawn(windows, VIEW, inspection)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    assert layout.scores.x == (0.0, 3600.0)
    assert page.shape[1] == 1200


def test_what_is_no_recording_is_refused() -> None:
    windows = windows_of(noise(), VIEW)
    unreadable = Inspection("pump.npz", "unreadable", error="It is empty.")
    with pytest.raises(InputError, match=r"pump\.npz cannot be drawn.* It is empty\."):
        draw_recording(windows, VIEW, unreadable, threshold=THRESHOLD)
    with pytest.raises(InputError, match="not of a recording"):
        draw_recording(windows, VIEW, Inspection("a.png", "ok"), threshold=THRESHOLD)


def test_windows_of_another_recording_are_refused() -> None:
    windows = windows_of(noise(), VIEW)
    inspection = inspected(windows, VIEW, verdict="ok")
    other = windows_of(noise(seconds=1.0), VIEW)
    with pytest.raises(InputError, match="has 11 inspected windows of 1 channels; given are 5 of"):
        draw_recording(other, VIEW, inspection, threshold=THRESHOLD)
