"""Envelopes against their modulation, spectra against known heights, bands against what rings."""

from __future__ import annotations

import numpy as np
import pytest

from makellos.errors import InputError
from makellos.vibration.envelopes import (
    Band,
    BandSpectra,
    band_spectra,
    choose_band,
    envelope,
    envelope_spectrum,
    whiten,
)

RATE = 10000.0
TIMES = np.arange(10000) / RATE
MODULATION = 2.0 * (1 + 0.5 * np.cos(2 * np.pi * 20 * TIMES + 0.3))
MODULATED = MODULATION * np.sin(2 * np.pi * 2000 * TIMES)


@pytest.mark.parametrize("band", [None, Band(1500, 2500), Band(0, 3000), Band(1500, 5000)])
def test_the_envelope_of_a_modulated_sine_is_its_modulation(band: Band | None) -> None:
    assert np.allclose(envelope(MODULATED, RATE, band), MODULATION, atol=1e-9)


def test_an_envelope_leaves_out_what_lies_outside_its_band() -> None:
    disturbed = (
        MODULATED + 5 * np.sin(2 * np.pi * 400 * TIMES) + 5 * np.sin(2 * np.pi * 4000 * TIMES)
    )
    assert np.allclose(envelope(disturbed, RATE, Band(1500, 2500)), MODULATION, atol=1e-9)


def test_a_spectrum_gives_the_height_of_a_sine_in_the_envelope() -> None:
    frequencies, amplitudes = envelope_spectrum(MODULATED, RATE, Band(1500, 2500))
    assert frequencies[np.argmax(amplitudes)] == pytest.approx(20.0)
    assert amplitudes.max() == pytest.approx(1.0, rel=1e-3)
    assert amplitudes[frequencies > 25].max() < 1e-6


def test_resolution_and_highest_are_kept() -> None:
    frequencies, amplitudes = envelope_spectrum(MODULATED, RATE, resolution=5.0, highest=100.0)
    assert np.allclose(frequencies, np.arange(0, 101, 5.0))
    assert amplitudes[4] == pytest.approx(1.0, rel=1e-2)


def test_a_signal_of_odd_length_has_an_envelope_at_every_sample() -> None:
    odd = MODULATED[:9999]
    assert envelope(odd, RATE).shape == (9999,)
    assert np.allclose(envelope(odd, RATE)[200:-200], MODULATION[200:9799], atol=0.05)


def test_whitening_gives_every_frequency_the_same_power() -> None:
    noise = np.random.default_rng(0).standard_normal(5001)
    tones = noise + 50 * np.sin(2 * np.pi * 0.1 * np.arange(5001))
    spectrum = np.abs(np.fft.rfft(whiten(tones)))
    assert np.allclose(spectrum[1:], 1.0)
    assert spectrum[0] == pytest.approx(0.0, abs=1e-9)


def ringing(hz: float, n_samples: int = 50000) -> np.ndarray:
    """Noise, and a resonance struck 20 times a second, not quite evenly."""
    rng = np.random.default_rng(1)
    signal = rng.standard_normal(n_samples)
    since = np.arange(200) / RATE
    ring = 12 * np.exp(-300 * since) * np.sin(2 * np.pi * hz * since)
    for start in range(100, n_samples - 1000, 500):
        late = int(rng.integers(0, 10))
        signal[start + late : start + late + 200] += ring
    return signal


def over_the_rest(spectra: BandSpectra, hz: float) -> np.ndarray:
    """How far the line at `hz` stands over the median, as a factor for each band."""
    line = int(np.argmin(np.abs(spectra.frequencies - hz)))
    return spectra.powers[:, line] / np.median(spectra.powers, axis=1)


@pytest.mark.parametrize("hz", [900.0, 2300.0, 3900.0])
def test_the_band_that_rings_is_chosen(hz: float) -> None:
    band = choose_band(ringing(hz), RATE, narrowest=600.0)
    assert band.low < hz < band.high
    assert 600.0 <= band.high - band.low <= 2500.0


def test_bands_cover_everything_and_show_what_repeats_where_it_rings() -> None:
    spectra = band_spectra(ringing(2300.0), RATE, width=1250.0, resolution=1.0, highest=200.0)
    assert spectra.bands[0].low == 0.0
    assert spectra.bands[-1].high == pytest.approx(RATE / 2)
    for before, after in zip(spectra.bands, spectra.bands[1:], strict=False):
        assert after.low < before.high
    assert spectra.powers.shape == (len(spectra.bands), len(spectra.frequencies))
    over = over_the_rest(spectra, 20.0)
    loudest = spectra.bands[int(np.argmax(over))]
    assert loudest.low < 2300.0 < loudest.high
    assert over.max() > 100
    assert over[-1] < over.max() / 10


def test_a_tone_louder_than_the_impacts_hides_nothing() -> None:
    signal = ringing(2300.0)
    tone = 20 * np.sin(2 * np.pi * 2250.3 * np.arange(len(signal)) / RATE)
    spectra = band_spectra(signal + tone, RATE, width=1250.0, resolution=1.0, highest=200.0)
    assert over_the_rest(spectra, 20.0).max() > 50


def test_a_long_recording_is_taken_in_blocks() -> None:
    signal = ringing(2300.0, 1_100_000)
    spectra = band_spectra(signal, RATE, width=2500.0, resolution=1.0, highest=100.0)
    assert over_the_rest(spectra, 20.0).max() > 50


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (np.zeros(3), "at least 16 samples"),
        (np.zeros((2, 100)), r"\(2, 100\)"),
        (np.append(np.zeros(99), np.nan), "1 of 100 samples"),
    ],
)
def test_signals_that_have_no_envelope_are_named(signal: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        envelope(signal, RATE)
    with pytest.raises(InputError, match=message):
        band_spectra(signal, RATE, width=1000, resolution=1, highest=100)


@pytest.mark.parametrize("band", [Band(2000, 6000), Band(-1, 100), Band(300, 300)])
def test_a_band_outside_the_signal_is_named(band: Band) -> None:
    with pytest.raises(InputError, match="between 0 and 5000 Hz"):
        envelope(MODULATED, RATE, band)


def test_a_wrong_rate_is_named() -> None:
    with pytest.raises(InputError, match="The rate is 0"):
        envelope(MODULATED, 0.0)
