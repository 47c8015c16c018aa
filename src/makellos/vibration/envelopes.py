"""Envelopes of vibration, and their spectra: what repeats in how loud a band is.

A bearing's fault rings the structure with every impact; the ringing says little, the rate at which
it comes back says which part is damaged. Randall and Antoni, "Rolling element bearing diagnostics:
a tutorial", Mechanical Systems and Signal Processing 25, 2011, give the whole way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.vibration.samples import Slices

__all__ = [
    "Band",
    "BandSpectra",
    "band_spectra",
    "choose_band",
    "envelope",
    "envelope_spectrum",
    "whiten",
]

Floats = NDArray[np.float64]
Signal = NDArray[np.floating[Any]]
Complex = NDArray[np.complexfloating[Any, Any]]

_BLOCK = 1 << 20  # samples: longer recordings are taken block by block, so that memory stays small
_TINY = 1e-300  # keeps the logarithm of silence finite
_FEWEST = 16  # samples
_FEWEST_IN_BAND = 256  # values of an envelope that a kurtosis is taken of


@dataclass(frozen=True)
class Band:
    """Hold the edges of a frequency band in Hz."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class BandSpectra:
    """Hold the envelope spectra of many bands of one recording.

    `frequencies`: F values in Hz, evenly spaced from 0; `powers`: B×F, of the
    envelope of each of the B `bands`, in units of its variance (float64).
    """

    bands: tuple[Band, ...]
    frequencies: Floats
    powers: Floats


def whiten(signal: Signal) -> Floats:
    """Give every frequency of `signal` (1-D) the same power: cepstrum prewhitening.

    Steady tones of shafts, gears and mains shrink to what noise has at their frequency (and so do
    impacts without any slip, which are tones too), and weak bands count as much as loud ones
    (Borghesani, Pennacchi, Randall, Sawalhi and Ricci, Mechanical Systems and Signal Processing
    36, 2013). Returns float64 of the same length. Raises `InputError` for a signal that is short,
    not 1-D or not finite.
    """
    values = _checked(signal)
    return np.fft.irfft(_white_spectrum(values), len(values))


def envelope(signal: Signal, rate: float, band: Band | None = None) -> Floats:
    """Compute the envelope of `signal` (1-D) within `band`, at every sample.

    It is the magnitude of the analytic signal, band-passed without delay; `band` None takes
    everything above 0 Hz. `rate` in samples per second. Float64, the unit of the signal. Raises
    `InputError` for a signal that is short, not 1-D or not finite, and for a band outside it.
    """
    values = _checked(signal)
    edges = _checked_band(band, rate)
    spectrum = np.fft.fft(values)
    lines = np.asarray(np.fft.fftfreq(len(values), 1 / rate), dtype=np.float64)
    shape = _pass(lines, edges)
    return np.abs(np.fft.ifft(2 * spectrum * shape))


def envelope_spectrum(
    signal: Signal,
    rate: float,
    band: Band | None = None,
    *,
    resolution: float | None = None,
    highest: float | None = None,
) -> tuple[Floats, Floats]:
    """Compute the amplitudes in the envelope of `signal` (1-D) within `band`, by frequency.

    Returns frequencies in Hz and amplitudes in the unit of the signal: a sine of height m in the
    envelope stands as m at its frequency. `resolution` in Hz sets the length of the stretches
    that are averaged (None takes the recording as one); `highest` is where the spectrum ends.
    Raises `InputError` as `envelope` does.
    """
    values = envelope(signal, rate, band)
    frequencies, power = _averaged(values, rate, resolution, highest)
    return frequencies, 2 * np.sqrt(power)


def choose_band(signal: Signal, rate: float, *, narrowest: float) -> Band:
    """Choose the band whose envelope is the most impulsive, as a kurtogram does.

    Bands of half the last width each, overlapping by half and no narrower than `narrowest` (Hz),
    are compared by the kurtosis of their complex envelope (Antoni, "Fast computation of the
    kurtogram", Mechanical Systems and Signal Processing 21, 2007; here with shaped bands of one
    Fourier transform in place of a tree of filters). One single knock can win: it shows where
    something rings, and `name_fault` does not depend on it. Raises `InputError` as `envelope`.
    """
    values = _fitting(_checked(signal))
    spectrum = np.fft.rfft(values - values.mean())
    best, most = Band(0.0, rate / 2), -math.inf
    width = rate / 2
    while width >= narrowest:
        for band in _overlapping(rate, width):
            inside, _ = _demodulated(spectrum, len(values), rate, band)
            power = np.abs(inside) ** 2
            if len(power) < _FEWEST_IN_BAND:
                continue
            impulsive = float(np.mean(power**2) / max(np.mean(power) ** 2, _TINY))
            if impulsive > most:
                best, most = band, impulsive
        width /= 2
    return best


def band_spectra(
    signal: Signal | Slices,
    rate: float,
    *,
    width: float,
    resolution: float,
    highest: float,
) -> BandSpectra:
    """Compute the envelope spectrum of every band of `width` Hz of the whitened signal (1-D).

    Bands overlap by half. The spectrum is that of the plain envelope: its square is best in
    Gaussian noise, its logarithm in noise with knocks of its own (Borghesani and Antoni,
    Mechanical Systems and Signal Processing 98, 2018), and it lies between. `resolution` in Hz;
    spectra end at `highest` Hz. Raises `InputError` as `envelope` does.
    """
    values = signal if isinstance(signal, Slices) else _checked(signal)
    n_blocks = max(1, math.ceil(len(values) / _BLOCK))
    # Blocks of one length have spectra on the same frequencies.
    length = len(values) // n_blocks
    bands = tuple(_overlapping(rate, width))
    total: Floats | None = None
    for number in range(n_blocks):
        block = values[number * length : (number + 1) * length]
        part = _fitting(np.asarray(block, np.float64))
        # Envelopes of single precision are as good here, at half the time.
        spectrum = _white_spectrum(part).astype(np.complex64)
        rows = []
        for band in bands:
            inside, slow_rate = _demodulated(spectrum, len(part), rate, band)
            height = np.abs(inside)
            height /= max(float(height.std()), _TINY)
            frequencies, power = _averaged(height, slow_rate, resolution, highest)
            rows.append(power)
        total = np.array(rows) if total is None else total + np.array(rows)
    return BandSpectra(bands, frequencies, np.asarray(total) / n_blocks)


def _white_spectrum(values: Floats) -> Complex:
    spectrum: Complex = np.fft.rfft(values - values.mean())
    spectrum[0] = 0.0  # what rounding left of the mean would be blown up too
    spectrum /= np.maximum(np.abs(spectrum), _TINY)
    return spectrum


def _checked(signal: Signal) -> Floats:
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 1 or len(values) < _FEWEST:
        raise InputError(
            f"The signal has the shape {values.shape}. An envelope needs one channel of at least "
            f"{_FEWEST} samples: choose one channel, or record longer."
        )
    if not np.isfinite(values).all():
        n_bad = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(
            f"{n_bad} of {len(values)} samples of the signal are not finite. "
            "Cut the recording where it has gaps, or record it again."
        )
    return values


def _checked_band(band: Band | None, rate: float) -> Band:
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(f"The rate is {rate}. It must be a positive number of samples per second.")
    edges = band if band is not None else Band(0.0, rate / 2)
    if not 0 <= edges.low < edges.high <= rate / 2:
        raise InputError(
            f"The band from {edges.low:g} to {edges.high:g} Hz cannot be taken from a signal of "
            f"{rate:g} samples per second. It must lie between 0 and {rate / 2:g} Hz."
        )
    return edges


def _pass(frequencies: Floats, band: Band) -> Floats:
    """1 inside the band, falling as a cosine over a tenth of its width inside each edge."""
    soft = (band.high - band.low) / 10
    low = band.low if band.low > 0 else -soft  # nothing lies below 0 Hz to be kept out
    top = float(np.max(frequencies))
    high = band.high if band.high < top else top + 2 * soft
    depth = np.minimum(frequencies - low, high - frequencies) / soft
    shape = np.sin(np.pi / 2 * np.clip(depth, 0.0, 1.0)) ** 2
    return np.where(frequencies > 0, shape, 0.0)


def _overlapping(rate: float, width: float) -> list[Band]:
    width = min(width, rate / 2)
    n_bands = max(1, int(rate / width + 1e-9) - 1)
    step = (rate / 2 - width) / max(n_bands - 1, 1)
    return [Band(index * step, index * step + width) for index in range(n_bands)]


def _demodulated(
    spectrum: Complex, n_samples: int, rate: float, band: Band
) -> tuple[Complex, float]:
    """The complex envelope of a band at a rate as low as its width, and that rate."""
    spacing = rate / n_samples
    n_lines = _fast(min(len(spectrum), int((band.high - band.low) / spacing)))
    first = min(round(band.low / spacing), len(spectrum) - n_lines)
    # Halfway down where the next band takes over: together they weigh all frequencies alike.
    shape = np.sin(np.pi * (np.arange(n_lines) + 0.5) / n_lines).astype(spectrum.real.dtype)
    return np.fft.ifft(spectrum[first : first + n_lines] * shape), n_lines * spacing


def _averaged(
    values: NDArray[np.floating[Any]], rate: float, resolution: float | None, highest: float | None
) -> tuple[Floats, Floats]:
    """Power by frequency over Hann-windowed stretches that overlap by half; a quarter of a sine's
    squared height stands at its line."""
    wanted = len(values) if resolution is None else round(rate / resolution)
    length = max(min(len(values), wanted), 2)
    n_stretches = 1 + math.ceil((len(values) - length) / (length / 2))
    starts = np.linspace(0, len(values) - length, n_stretches).astype(np.int64)
    window = np.hanning(length + 1)[:length].astype(values.dtype)
    frequencies: Floats = np.arange(length // 2 + 1, dtype=np.float64) * (rate / length)
    end = math.inf if highest is None else highest
    n_kept = int(np.searchsorted(frequencies, end, side="right"))
    total = np.zeros(n_kept)
    for start in starts:
        stretch = values[start : start + length]
        stretch = (stretch - stretch.mean()) * window
        found = np.fft.rfft(stretch)[:n_kept]
        total += found.real**2 + found.imag**2
    return frequencies[:n_kept], total / (n_stretches * float(window.sum()) ** 2)


def _fitting(values: Floats) -> Floats:
    """As much of the signal as a Fourier transform takes quickly: a length of small factors."""
    return values[: _fast(len(values))]


def _fast(length: int) -> int:
    best = 1
    for odd in (1, 3, 5, 9, 15, 25, 27, 45, 75, 81, 125):
        if odd <= length:
            best = max(best, odd << int(math.log2(length / odd)))
    return best
