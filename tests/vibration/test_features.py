"""Features say how loud, how spiky, in which band and how often; known signals have known ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from makellos.sets.synthetic_bearings import synthetic_recording
from makellos.vibration.bearings import find_bearing
from makellos.vibration.features import FAULT_RATES, decibels, feature_names
from makellos.vibration.views import SignalView
from makellos.vibration.windows import cut

RATE = 48_000.0
SHAFT = 29.95


def features(signals: NDArray[np.floating[Any]], **changed: Any) -> dict[str, NDArray[np.float32]]:
    """Features by name of signals, n×window."""
    seen = SignalView.model_validate(
        {"rate": RATE, "channels": ("DE",), "view": "features", "window": signals.shape[-1]}
        | changed
    )
    found = seen.see(signals[:, None])
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    return dict(zip(seen.feature_names, found.T, strict=True))


def bands(found: dict[str, NDArray[np.float32]]) -> dict[tuple[float, float], float]:
    edges = {name: name.removesuffix(" Hz").split("-") for name in found if name.endswith(" Hz")}
    return {(float(low), float(high)): found[name][0] for name, (low, high) in edges.items()}


def sine(hz: float, height: float, window: int = 2048) -> NDArray[np.float64]:
    return height * np.sin(2 * np.pi * hz * np.arange(window) / RATE + 0.4)[None]


def test_of_a_sine() -> None:
    hz = 193 * RATE / 2048
    found = features(sine(hz, 3.0))
    assert found["RMS"] == pytest.approx(10 * np.log10(4.5), abs=1e-3)
    assert found["peak"] == pytest.approx(20 * np.log10(3.0), abs=0.01)
    assert found["crest factor"] == pytest.approx(np.sqrt(2), abs=0.002)
    assert found["shape factor"] == pytest.approx(np.pi / np.sqrt(8), abs=0.002)
    assert found["kurtosis"] == pytest.approx(1.5, abs=1e-3)
    assert found["skewness"] == pytest.approx(0, abs=1e-3)
    assert found["spectral centroid"] == pytest.approx(hz, rel=1e-3)
    (loudest,) = [edges for edges, level in bands(found).items() if level > 0]
    assert loudest[0] <= hz < loudest[1]
    assert bands(found)[loudest] == pytest.approx(10 * np.log10(4.5), abs=0.01)


def test_of_noise() -> None:
    found = features(np.random.default_rng(3).standard_normal((200, 2048)))
    assert found["kurtosis"].mean() == pytest.approx(3, abs=0.03)
    assert found["skewness"].mean() == pytest.approx(0, abs=0.02)
    assert found["RMS"].mean() == pytest.approx(0, abs=0.05)
    assert found["spectral centroid"].mean() == pytest.approx(RATE / 4, rel=0.01)
    # That of heights of two Gaussians at right angles (Rayleigh).
    assert found["envelope kurtosis"].mean() == pytest.approx(3.245, abs=0.06)


def test_bands_hold_all_energy_and_are_as_wide_as_named() -> None:
    found = features(np.random.default_rng(4).standard_normal((500, 2048)))
    energies = {name: np.mean(10 ** (found[name] / 10)) for name in found if name.endswith(" Hz")}
    assert len(energies) == 16
    assert sum(energies.values()) == pytest.approx(1, abs=0.01)
    for name, energy in energies.items():
        low, high = map(float, name.removesuffix(" Hz").split("-"))
        assert energy == pytest.approx((high - low) / (RATE / 2), rel=0.1)


def test_ten_times_the_amplitude_adds_20_to_what_is_in_db() -> None:
    signals = np.random.default_rng(5).standard_normal((3, 2048))
    given_bearing = {"bearing": "6205", "shaft_hz": SHAFT}
    before, after = features(signals, **given_bearing), features(10 * signals, **given_bearing)
    for name in before:
        step = 20.0 if name in {"RMS", "peak"} or name.endswith(" Hz") else 0.0
        assert np.allclose(after[name] - before[name], step, rtol=0, atol=0.02), name


def test_one_knock_is_spiky() -> None:
    signals = np.random.default_rng(6).standard_normal((2, 2048))
    signals[1, 1000:1010] += 30
    found = features(signals)
    for name in ("peak", "crest factor", "kurtosis", "skewness", "envelope kurtosis"):
        assert found[name][1] > 2 * abs(found[name][0]), name


@pytest.mark.parametrize("name", FAULT_RATES)
def test_a_tone_that_swells_at_a_rate_shows_at_this_rate(name: str) -> None:
    window = 16_384
    times = np.arange(window) / RATE
    hz = find_bearing("6205").frequencies(SHAFT)[name]
    swelling = (1 + 0.5 * np.cos(2 * np.pi * hz * times)) * np.sin(2 * np.pi * 6000 * times)
    signals = (swelling + 0.1 * np.random.default_rng(7).standard_normal(window))[None]
    found = features(signals, bearing="6205", shaft_hz=SHAFT)
    assert found[name][0] > 30
    for other in set(FAULT_RATES) - {name}:
        assert found[other][0] < found[name][0] - 10


@pytest.mark.parametrize("multiple", [2.0, 3.0, 0.99, 1.01])
def test_harmonics_and_slip_count_too(multiple: float) -> None:
    window = 65_536
    times = np.arange(window) / RATE
    hz = multiple * find_bearing("6205").frequencies(SHAFT)["BPFO"]
    swelling = (1 + 0.5 * np.cos(2 * np.pi * hz * times)) * np.sin(2 * np.pi * 6000 * times)
    signals = (swelling + 0.1 * np.random.default_rng(7).standard_normal(window))[None]
    found = features(signals, bearing="6205", shaft_hz=SHAFT)
    assert found["BPFO"][0] > 30
    assert found["FTF"][0] < 20


def test_a_loud_slow_tone_leaves_the_envelope_alone() -> None:
    times = np.arange(2048) / RATE
    quiet = np.random.default_rng(9).standard_normal((20, 2048))
    loud = quiet + 30 * np.sin(2 * np.pi * 60 * times + np.arange(20)[:, None])
    alone, beside = features(quiet)["envelope kurtosis"], features(loud)["envelope kurtosis"]
    assert np.allclose(alone, beside, atol=0.6)
    assert (features(loud)["kurtosis"] < 2).all()


@pytest.mark.parametrize(("fault", "name"), [("outer", "BPFO"), ("inner", "BPFI")])
def test_impacts_show_at_the_rate_of_their_fault(fault: str, name: str) -> None:
    found = {}
    for condition in ("good", fault):
        recording = synthetic_recording(
            condition,
            rate=RATE,
            seconds=2.0,
            shaft_hz=SHAFT,
            bearing=find_bearing("6205"),
            seed=11,
        )
        windows = cut(recording, 16_384, 8_192)
        found[condition] = features(windows, bearing="6205", shaft_hz=SHAFT)
    struck = {rate: float(np.median(found[fault][rate])) for rate in FAULT_RATES}
    assert max(struck, key=lambda rate: struck[rate]) == name
    assert struck[name] > np.median(found["good"][name]) + 6
    assert (found[fault]["kurtosis"] > found["good"]["kurtosis"].max()).all()


def test_names_hold_the_channel_where_there_are_several() -> None:
    one = SignalView(rate=RATE, channels=("DE",))
    two = SignalView(rate=RATE, channels=("DE", "FE"))
    assert two.feature_names == tuple(
        f"{c}: {name}" for c in ("DE", "FE") for name in one.feature_names
    )
    signals = np.random.default_rng(8).standard_normal((4, 2, 2048))
    both = two.features(signals)
    assert both.shape == (4, len(two.feature_names))
    alone = [one.features(signals[:, i : i + 1]) for i in range(2)]
    assert np.array_equal(both, np.concatenate(alone, axis=1))


@given(window=st.integers(16, 5000), rate=st.floats(0.1, 1e7))
def test_no_band_is_empty(window: int, rate: float) -> None:
    names = feature_names(window, rate, {})
    assert len(set(names)) == len(names)
    edges = [name.removesuffix(" Hz").split("-") for name in names if name.endswith(" Hz")]
    assert len(edges) == min(16, window // 2)


@given(
    window=st.integers(16, 300),
    scale=st.sampled_from([0.0, 1e-20, 1e-6, 1.0, 1e12]),
    shaft_hz=st.floats(0.01, 4000),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_features_are_finite(window: int, scale: float, shaft_hz: float, seed: int) -> None:
    signals = scale * np.random.default_rng(seed).uniform(-1, 1, (2, window))
    features(signals, bearing="6205", shaft_hz=shaft_hz)


def test_decibels_end_at_silence() -> None:
    power = np.array([0.0, 1e-30, 1.0, 100.0], np.float32)
    assert decibels(power).tolist() == pytest.approx([-240, -240, 0, 20], abs=1e-3)
