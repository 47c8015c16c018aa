"""Pictures of windows show what is in a signal at its time and frequency, at its level."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from makellos.errors import ConfigurationError, InputError, NotFittedError
from makellos.vibration.views import VIEWS, SignalView

RATE = 48_000.0
PICTURES = VIEWS[:-1]
LEVELS = {"low": 64 * (0.0,), "high": 64 * (1.0,)}

Windows = NDArray[np.floating[Any]]


def view(name: str, **changed: Any) -> SignalView:
    return SignalView.model_validate({"rate": RATE, "channels": ("DE",), "view": name} | changed)


def noise(n: int, channels: int = 1, window: int = 2048, seed: int = 0) -> Windows:
    values = np.random.default_rng(seed).standard_normal((n, channels, window))
    return values.astype(np.float32)


def sine(hz: float, height: float = 1.0, window: int = 2048, phase: float = 0.3) -> Windows:
    times = np.arange(window) / RATE
    return height * np.sin(2 * np.pi * hz * times + phase)[None, None]


def row_spacing(seen: SignalView, row: int) -> float:
    """Hz to the farther neighbour."""
    return float(np.abs(np.diff(seen.frequencies()))[max(row - 1, 0) : row + 1].max())


@pytest.mark.parametrize("name", ["stft", "scalogram"])
@pytest.mark.parametrize("row", [0, 1, 20, 40, 61])
def test_a_sine_lights_its_row(name: str, row: int) -> None:
    seen = view(name)
    levels = seen.levels(sine(seen.frequencies()[row]))[0]
    assert (levels[:, 24:40].argmax(axis=0) == row).all()


@given(name=st.sampled_from(PICTURES), hz=st.floats(800, 21_000), phase=st.floats(0, 6))
@settings(max_examples=60, deadline=None)
def test_a_sine_lights_the_nearest_row(name: str, hz: float, phase: float) -> None:
    seen = view(name)
    row = int(seen.levels(sine(hz, phase=phase))[0].mean(axis=1).argmax())
    # Low down, rows of logmel lie closer than the lines (187.5 Hz) they are made from.
    resolved = RATE / 256 if name == "logmel" else 0.0
    assert abs(seen.frequencies()[row] - hz) <= 0.6 * max(row_spacing(seen, row), resolved)


@given(
    name=st.sampled_from(PICTURES), at=st.integers(0, 2047), width=st.sampled_from([16, 64, 100])
)
@settings(max_examples=60, deadline=None)
def test_an_impulse_lights_the_nearest_column(name: str, at: int, width: int) -> None:
    seen = view(name, width=width)
    window = np.zeros((1, 1, 2048), np.float32)
    window[0, 0, at] = 1
    columns = (10 ** (seen.levels(window)[0] / 10)).sum(axis=0)
    away = np.abs(seen.times() * RATE - at)
    assert away[columns.argmax()] <= away.min() + 1.5  # samples: within them two are as near


@pytest.mark.parametrize("height", [0.01, 1.0, 30.0])
def test_levels_are_mean_squares(height: float) -> None:
    expected = 10 * np.log10(height**2 / 2)
    seen = view("scalogram")
    inside = seen.levels(sine(seen.frequencies()[20], height))[0, 20, 8:-8]
    assert np.allclose(inside, expected, atol=0.05)
    # Of stft a row holds the line of the sine, and by half those beside it, a quarter as strong.
    frames = view("stft")
    inside = frames.levels(sine(frames.frequencies()[20], height))[0, 20]
    assert np.allclose(inside, expected + 10 * np.log10(1.25 / 2), atol=0.05)


def test_stft_rows_and_columns_by_definition() -> None:
    seen = view("stft", window=512, height=16, width=16)
    window = noise(1, window=512)
    levels = seen.levels(window)[0]
    signal = window[0, 0] - window[0, 0].mean()
    index = np.arange(64)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * index / 64)
    lines = np.arange(33) * RATE / 64
    for column in (0, 3, 15):
        start = round(seen.times()[column] * RATE) - 32
        frame = signal[start : start + 64] * taper
        turns = np.exp(-2j * np.pi * np.outer(np.arange(33), index) / 64)
        power = 2 * np.abs(turns @ frame) ** 2 / taper.sum() ** 2
        for row in (0, 7, 15):
            weights = np.clip(
                1 - np.abs(lines - seen.frequencies()[row]) / (RATE / 2 / 16), 0, None
            )
            expected = 10 * np.log10((weights * power).sum() / weights.sum())
            assert levels[row, column] == pytest.approx(expected, abs=1e-3)


def test_scalogram_is_that_of_pywavelets() -> None:
    pywt = pytest.importorskip("pywt")
    seen = view("scalogram", height=32)
    window = noise(1)
    levels = seen.levels(window)[0]
    signal = (window[0, 0] - window[0, 0].mean()).astype(np.float64)
    back = signal[::-1]
    mirrored = np.concatenate([back, signal, back, signal, back, signal, back])
    rows = np.flatnonzero(seen.frequencies() < 0.2 * RATE)[::4]
    scales = RATE / seen.frequencies()[rows]
    found, _ = pywt.cwt(mirrored, scales, "cmor1.5-1.0", precision=16)
    power = 2 * np.abs(found[:, 3 * 2048 : 4 * 2048]) ** 2 / scales[:, None]
    power /= np.sinc(1 / scales)[:, None] ** 2  # its wavelets are averaged over each sample
    expected = 10 * np.log10(power.reshape(len(rows), 64, -1).mean(axis=2))
    assert np.abs(levels[rows] - expected).mean() < 0.1
    # Where waves cancel, small differences are many dB.
    strong = expected > expected.max(axis=1, keepdims=True) - 15
    assert strong.mean() > 0.8
    assert np.abs(levels[rows] - expected)[strong].max() < 0.5


@pytest.mark.parametrize("name", PICTURES)
def test_ten_times_the_amplitude_is_20_db(name: str) -> None:
    window = noise(3)
    seen = view(name)
    assert np.allclose(seen.levels(10 * window) - seen.levels(window), 20, atol=0.01)


@pytest.mark.parametrize("name", PICTURES)
def test_an_offset_of_the_sensor_is_not_seen(name: str) -> None:
    window = noise(2).astype(np.float64)
    seen = view(name)
    assert np.allclose(seen.levels(window + 5), seen.levels(window), atol=0.01)


@pytest.mark.parametrize("name", PICTURES)
def test_gray_is_linear_between_black_and_white(name: str) -> None:
    seen = view(name, low=64 * (-40.0,), high=64 * (10.0,))
    window = noise(4)
    pictures = seen.pictures(window)
    assert pictures.dtype == np.uint16
    assert pictures.shape == (4, 64, 64)
    expected = np.clip((seen.levels(window) + 40) / 50, 0, 1) * 65535
    assert np.abs(pictures - expected).max() <= 1
    assert (seen.pictures(1000 * window) == 65535).mean() > 0.9
    assert np.array_equal(seen.see(window), pictures)


@pytest.mark.parametrize("name", PICTURES)
def test_the_good_state_is_an_even_gray(name: str) -> None:
    good = noise(40)
    seen = view(name).learned(good)
    levels = seen.levels(good)
    mean, deviation = levels.mean((0, 2)), levels.std((0, 2))
    assert seen.low == pytest.approx((mean - 4 * deviation).tolist(), abs=0.01)
    assert seen.high == pytest.approx((mean + 8 * deviation).tolist(), abs=0.01)
    gray = seen.pictures(good) / 65535
    assert np.allclose(gray.mean((0, 2)), 1 / 3, atol=0.01)  # whatever the spectrum
    assert np.allclose(gray.std((0, 2)), 1 / 12, atol=0.01)
    assert (seen.pictures(2 * good) == 65535).mean() < 0.01
    assert np.allclose(seen.deviations(good).mean((0, 2)), 0, atol=0.1)
    assert seen.view == name
    again = seen.learned(0.1 * good)
    assert again.low == pytest.approx([low - 20 for low in seen.low], abs=0.1)
    shuffled = view(name).learned(good[np.random.default_rng(1).permutation(40)])
    assert shuffled.low == pytest.approx(seen.low, abs=1e-6)


def test_channels_stand_one_below_the_other() -> None:
    good = noise(30, channels=2)
    good[:, 1] *= 100
    seen = view("stft", channels=("DE", "FE"), height=32).learned(good)
    difference = np.array(seen.low[32:]) - np.array(seen.low[:32])
    assert difference.mean() == pytest.approx(40, abs=1)
    both = seen.pictures(good)
    assert both.shape == (30, 64, 64)
    for index, name in enumerate(("DE", "FE")):
        rows = slice(32 * index, 32 * (index + 1))
        alone = view("stft", channels=(name,), height=32, low=seen.low[rows], high=seen.high[rows])
        own = alone.pictures(good[:, index : index + 1])
        # Processors round the last bit of sums differently when there are more of them.
        difference = both[:, 32 * index : 32 * (index + 1)].astype(np.int64) - own
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("name", VIEWS)
def test_a_window_does_not_depend_on_its_company(name: str) -> None:
    windows = noise(70, channels=2, window=1000)
    seen = view(name, channels=("a", "b"), window=1000, height=32).learned(windows)
    together = seen.see(windows)
    alone = np.concatenate([seen.see(windows[i : i + 1]) for i in range(len(windows))])
    step = 1e-5 * np.abs(alone) + 1e-4 if name == "features" else 1  # 1 of 65535 grays
    assert (np.abs(together.astype(float) - alone) <= step).all()


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_data(name: str) -> None:
    windows = noise(5)
    seen = view(name, bearing="6205", shaft_hz=29.5).learned(windows)
    again = SignalView.model_validate_json(seen.model_dump_json())
    assert again == seen
    assert np.array_equal(again.see(windows), seen.see(windows))


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e-30])
def test_silence_is_finite(name: str, value: float) -> None:
    silent = np.full((3, 1, 2048), value, np.float32)
    seen = view(name, bearing="6205", shaft_hz=29.5).learned(silent)
    assert np.isfinite(seen.see(silent)).all()
    assert np.isfinite(seen.see(noise(2))).all()
    if name != "features":
        assert np.allclose(seen.levels(silent), -240)
        assert max(seen.low) < -240 < min(seen.high)


def test_features_have_no_black_and_white() -> None:
    seen = view("features")
    assert seen.learned(noise(2)) is seen
    for asked in (seen.frequencies, seen.times, lambda: seen.pictures(noise(1))):
        with pytest.raises(ConfigurationError, match=r"'features'.*stft, logmel, scalogram"):
            asked()


@given(
    name=st.sampled_from(PICTURES),
    window=st.integers(16, 400),
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    rate=st.floats(1, 1e6),
    n=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_size_gives_pictures_with_axes(
    name: str, window: int, height: int, width: int, rate: float, n: int
) -> None:
    seen = view(name, window=window, height=height, width=width, rate=rate)
    levels = seen.levels(noise(n, window=window))
    assert levels.shape == (n, height, width)
    assert levels.dtype == np.float32
    assert np.isfinite(levels).all()
    assert (levels > -200).all()  # no row without lines, no column without samples
    hz, times = seen.frequencies(), seen.times()
    assert hz.shape == (height,)
    assert (np.diff(hz) < 0).all()
    assert 0 < hz[-1] < hz[0] < rate / 2
    assert times.shape == (width,)
    assert (np.diff(times) >= 0).all()
    assert -0.5 / rate <= times[0] <= times[-1] <= window / rate


@pytest.mark.parametrize("name", VIEWS)
def test_many_windows_need_little_memory(name: str) -> None:
    windows = np.broadcast_to(noise(1), (600, 1, 2048))
    seen = view(name)
    tracemalloc.start()
    try:
        shown = seen.learned(windows).see(windows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < shown.nbytes + 25e6


def test_gray_needs_levels_first() -> None:
    with pytest.raises(NotFittedError, match=r"learned\(windows\)"):
        view("stft").pictures(noise(1))


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("verb", ["learned", "see", "features"])
@pytest.mark.parametrize(
    ("windows", "said"),
    [
        (noise(2, channels=2), r"2×2×2048; expected n×1×2048.*DE"),
        (noise(2, window=1024), "2×1×1024"),
        (noise(2)[0], "1×2048"),
        (np.zeros((2, 1, 2048), np.int16), "int16"),
    ],
)
def test_other_windows_are_refused(name: str, verb: str, windows: Windows, said: str) -> None:
    seen = view(name, **({} if name == "features" else LEVELS))
    with pytest.raises(InputError, match=said):
        getattr(seen, verb)(windows)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
def test_samples_that_are_no_numbers_are_refused(name: str, bad: float) -> None:
    windows = noise(3)
    windows[1, 0, 77] = bad
    seen = view(name, **({} if name == "features" else LEVELS))
    with pytest.raises(InputError, match="not finite"):
        seen.see(windows)


def test_levels_are_not_learned_from_nothing() -> None:
    with pytest.raises(InputError, match="0 windows"):
        view("stft").learned(noise(0))


@pytest.mark.parametrize(
    "changed",
    [
        {"rate": 0.0},
        {"rate": float("nan")},
        {"channels": ()},
        {"channels": ("a", "a")},
        {"window": 8},
        {"hop": 0},
        {"view": "cepstrum"},
        {"height": 8},
        {"width": 2000},
        {"low": (1.0,)},
        {"low": 64 * (1.0,), "high": 64 * (1.0,)},
        {"low": (1.0, 2.0), "high": (3.0, 4.0)},
        {"shaft_hz": -3.0},
        {"colour": True},
    ],
)
def test_values_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        view("stft", **changed)


def test_a_bearing_is_read_at_once() -> None:
    with pytest.raises(ConfigurationError, match="no bearing '9999'"):
        view("features", bearing="9999", shaft_hz=30.0)
    with pytest.raises(ConfigurationError, match="missing"):
        view("features", bearing="n=9,d=7.94")
    with pytest.raises(ConfigurationError, match=r"2xBSF is 32994.5 Hz.*shaft_hz"):
        view("features", bearing="6205", shaft_hz=7000.0)
    assert view("features", bearing="6205").feature_names == view("features").feature_names
