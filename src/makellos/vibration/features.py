"""Windows of vibration as a few numbers each: how loud, how spiky, in which bands, how often.

The numbers are the usual ones of condition monitoring (Randall, "Vibration-based Condition
Monitoring", 2011). Loudness is in dB, so that a signal ten times as strong adds 20 to it and
changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError

__all__ = [
    "FAULT_RATES",
    "decibels",
    "feature_names",
    "require_fault_rates",
    "squares",
    "window_features",
]

Floats = NDArray[np.float32]

FAULT_RATES = ("FTF", "2xBSF", "BPFO", "BPFI")  # of data.bearings.BEARING_RATES: those that strike

_MOMENTS = ("RMS", "peak", "crest factor", "shape factor", "kurtosis", "skewness")
_SHAPES = ("spectral centroid", "envelope kurtosis")
_N_BANDS = 16
_FIRST_BAND = 1 / 128  # of half the rate; the others are a little under half an octave each
_ENVELOPE_FROM = (0.02, 0.06)  # of half the rate: tones of the shaft lie below the slope
_N_HARMONICS = 3
_SLIP = 0.015  # real balls slip by up to this share
_FEWEST_LINES = 32  # that the median of an envelope's spectrum is taken of
# Mean square, -240 dB: keeps logarithms and shares of silence finite.
_QUIETEST = np.float32(1e-24)


def decibels(power: Floats) -> Floats:
    """Turn mean squares (any shape) into dB, in place; below -240 dB nothing is told apart."""
    np.maximum(power, _QUIETEST, out=power)
    np.log(power, out=power)
    power *= np.float32(10 / math.log(10))
    return power


def feature_names(window: int, rate: float, fault_rates: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names of the numbers that `window_features` computes, in their order."""
    hz = _band_edges(window) * (rate / window)
    bands = [f"{_hz(low)}-{_hz(high)} Hz" for low, high in pairwise(hz)]
    return (*_MOMENTS, *bands, *_SHAPES, *fault_rates)


def window_features(values: Floats, rate: float, fault_rates: Mapping[str, float]) -> Floats:
    """Compute the features of n windows of one channel, n×window without their means.

    Returns n×F float32, in the order of `feature_names`; finite for silence too. RMS and peak are
    in dB of the unit; crest factor (peak by RMS), shape factor (RMS by mean height), kurtosis (3
    for Gaussian noise) and skewness are plain. Then, in dB: the energy of up to 16 bands,
    the first up to 1/128 of half the rate and the others a little under half an octave each; the
    spectral centroid in Hz; the kurtosis of the envelope of all but the lowest frequencies.

    `fault_rates` (Hz by name) add, in dB over the median line, the mean power of the envelope's
    spectrum at each rate and its 2nd and 3rd harmonic, wherever in 1.5 % around it is loudest. A
    short window resolves little: its lines lie rate / window apart (23 Hz for 2048 samples at
    48 kHz), the nearest is taken, and rates that share a line cannot be told apart. What silence
    has stands at -60 dB.
    """
    spectrum = np.fft.rfft(values)
    heights = _envelopes(spectrum, values.shape[1])
    columns = [_moments(values), _bands(values, rate), _kurtosis(heights)[:, None]]
    if fault_rates:
        columns.append(_at_rates(heights, rate, fault_rates))
    return np.concatenate(columns, axis=1)


def require_fault_rates(rate: float, fault_rates: Mapping[str, float]) -> None:
    """Raise `ConfigurationError` where a signal of `rate` Hz cannot hold one of `fault_rates`."""
    for name, hz in fault_rates.items():
        if hz >= rate / 2:
            raise ConfigurationError(
                f"{name} is {hz:g} Hz, and a signal of {rate:g} samples per second holds nothing "
                f"above {rate / 2:g} Hz. Check the rate and shaft_hz, which is rpm / 60."
            )


def squares(spectrum: NDArray[np.complexfloating[Any, Any]]) -> Floats:
    """Return the squared magnitudes, of the same shape."""
    power: Floats = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(
        np.float32, copy=False
    )
    return power


def _moments(values: Floats) -> Floats:
    heights = np.abs(values)
    peak = heights.max(axis=1)
    power = _mean(np.square(values))
    rms = np.sqrt(power)
    at_least: Floats = np.maximum(rms, np.sqrt(_QUIETEST))
    shape = rms / np.maximum(_mean(heights), np.sqrt(_QUIETEST))
    crest = peak / at_least
    levels = decibels(np.stack([power, np.square(peak)]))
    standard: Floats = values / at_least[:, None]
    second = np.square(standard)
    skewness, kurtosis = _mean(second * standard), _mean(np.square(second))
    return np.stack([levels[0], levels[1], crest, shape, kurtosis, skewness], axis=1)


def _bands(values: Floats, rate: float) -> Floats:
    window = values.shape[1]
    taper = np.hanning(window + 1)[:window]
    taper *= math.sqrt(2 / (window * float(np.square(taper).sum())))  # bands sum to the mean square
    power = squares(np.fft.rfft(values * taper.astype(np.float32)))[:, 1:]
    edges = _band_edges(window)
    energy = np.add.reduceat(power, edges[:-1] - 1, axis=1)
    lines = np.arange(1, power.shape[1] + 1, dtype=np.float32) * np.float32(rate / window)
    centroid = (power * lines).sum(axis=1) / np.maximum(power.sum(axis=1), _QUIETEST)
    return np.concatenate([decibels(energy), centroid[:, None]], axis=1)


def _band_edges(window: int) -> NDArray[np.intp]:
    """Lines of the spectrum at which bands begin, and one past the last; none is empty."""
    end = window // 2 + 1
    n_bands = min(_N_BANDS, end - 1)
    first = max(2.0, _FIRST_BAND * window / 2 + 1)
    edges = np.concatenate([[1], np.round(np.geomspace(first, end, n_bands))]).astype(np.intp)
    steps = np.arange(n_bands + 1)
    rising = np.maximum.accumulate(edges - steps) + steps
    return np.minimum(rising, end - steps[::-1])


def _envelopes(spectrum: NDArray[np.complexfloating[Any, Any]], window: int) -> Floats:
    """Magnitude of the analytic signal; its ends, where the window's jump rings, are cut off."""
    low, high = _ENVELOPE_FROM
    shares = np.arange(spectrum.shape[1]) * (2 / window)
    slope = (2 * np.clip((shares - low) / (high - low), 0, 1)).astype(np.float32)
    inside = np.fft.ifft(spectrum * slope, n=window)
    cut_off = window // 32
    return np.sqrt(squares(inside[:, cut_off : window - cut_off]))


def _kurtosis(heights: Floats) -> Floats:
    away = np.square(heights - _mean(heights)[:, None])
    spread = np.maximum(_mean(away), _QUIETEST)
    return _mean(np.square(away / spread[:, None]))


def _at_rates(heights: Floats, rate: float, fault_rates: Mapping[str, float]) -> Floats:
    length = heights.shape[1]
    taper = np.hanning(length + 1)[:length].astype(np.float32)
    power = squares(np.fft.rfft((heights - _mean(heights)[:, None]) * taper))
    lines = [_lines(hz, length / rate, power.shape[1]) for hz in fault_rates.values()]
    last = max(line.stop for found in lines for line in found)
    usual = np.median(power[:, 1 : max(2 * last, _FEWEST_LINES)], axis=1)
    sums = [
        np.mean([power[:, line].max(axis=1) for line in found], axis=0, dtype=np.float32)
        for found in lines
    ]
    usual = np.maximum(usual, _QUIETEST).astype(np.float32)
    # Between 1e-6 and 1e6 times the usual, as silence has neither.
    shares = np.clip(np.stack(sums, axis=1) / usual[:, None], 1e-6, 1e6)
    return decibels(shares.astype(np.float32))


def _lines(hz: float, lines_per_hz: float, n_lines: int) -> list[slice]:
    """The lines in which `hz` and its harmonics may lie, as far as the spectrum holds them."""
    found = []
    for harmonic in range(1, _N_HARMONICS + 1):
        centre = hz * harmonic * lines_per_hz
        first = max(round(centre * (1 - _SLIP)), 1)
        last = min(max(round(centre * (1 + _SLIP)), first), n_lines - 1)
        if first <= last:
            found.append(slice(first, last + 1))
    return found or [slice(n_lines - 1, n_lines)]


def _mean(values: Floats) -> Floats:
    mean: Floats = values.mean(axis=1, dtype=np.float32)
    return mean


def _hz(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
