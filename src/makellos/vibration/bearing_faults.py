"""Which part of a bearing is damaged, from the envelope of its vibration and its geometry alone.

Nothing is learned from faults. Every band of the whitened signal gives an envelope spectrum; their
mean in dB shows what repeats, loud or faint, wherever it rings. A fault is a comb of lines at the
rate that the geometry gives for it and at its multiples, within the slip of real balls. How much of
it chance would give is read from the same spectrum turned upside down, which has no lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.vibration.bearings import Bearing
from makellos.vibration.envelopes import Band, BandSpectra, band_spectra
from makellos.vibration.samples import Slices

__all__ = [
    "FAULTS",
    "FaultFinding",
    "FaultStrength",
    "Harmonic",
    "bearing_spectra",
    "name_fault",
]

Floats = NDArray[np.float64]
Signal = NDArray[np.floating[Any]]

FAULTS = {"inner race": "BPFI", "outer race": "BPFO", "ball": "2xBSF"}

_STANDS_OUT = 5.0  # standard deviations of what chance gives; good synthetic ones stay below 3
_LINE = 3.0  # standard deviations of the noise, for a single line
_CAP = 8.0  # no single line counts for more: a comb has several
_N_SCORED = 3  # harmonics that decide; jitter smears the higher ones
_N_SHOWN = 5  # harmonics that are looked for
_N_SHIFTS = 256  # places where the comb is laid to see what chance gives
_LONGEST_TURNS = 60  # of the shaft in one stretch of the recording
# Turns over which a fault's line stays sharp. A ball's axis of spin wanders, which smears its line.
_TURNS = {"inner race": 60, "outer race": 60, "ball": 15}
_FEWEST_TURNS = 20
_RESONANCES = 4  # a band spans this many times the highest line, or an eighth of all frequencies


@dataclass(frozen=True)
class Harmonic:
    """Hold one line found: its multiple of the fault's rate, its place in Hz, its height in dB."""

    multiple: int
    frequency: float
    decibels: float


@dataclass(frozen=True)
class FaultStrength:
    """Hold how much one fault stands out.

    `expected` and `found` are its rate in Hz, by geometry and as fits best within the slip;
    `evidence` counts standard deviations over what chance gives; `decibels` is the mean height of
    its first 3 lines over the background in `band`, where it stands out most, and
    `decibels_over_good` the same over the good reference (None without one). `n_sidebands` of
    `n_sidebands_expected` stand beside the harmonics found, `sideband_spacing` Hz away (the shaft
    for the inner race, the cage for a ball, None for the outer race). `beyond_slip`: the comb is
    highest at the edge of the slip that was looked through, so its lines are of something else.
    """

    fault: str
    expected: float
    found: float
    evidence: float
    decibels: float
    decibels_over_good: float | None
    band: Band
    harmonics: tuple[Harmonic, ...]
    sideband_spacing: float | None
    n_sidebands: int
    n_sidebands_expected: int
    beyond_slip: bool


@dataclass(frozen=True)
class FaultFinding:
    """Hold what was found: the fault's name (None where nothing stands out) and why.

    `strengths` has one entry for each of `FAULTS`; `frequencies` (Hz) and `decibels` over the
    background are the envelope spectrum to plot, of the band where the fault, or else the
    strongest candidate, stands out most.
    """

    fault: str | None
    sentence: str
    strengths: dict[str, FaultStrength]
    band: Band
    frequencies: Floats
    decibels: Floats


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Heights over the background: of each band in dB (B×F), and of their mean in noise units."""

    spacing: float
    by_band: Floats
    pooled: Floats
    noise: float


def bearing_spectra(
    signal: Signal | Slices, rate: float, bearing: Bearing, shaft_hz: float
) -> BandSpectra:
    """Compute the envelope spectra that `name_fault` reads, to keep those of a good recording.

    `signal` is 1-D, `rate` in samples per second. Raises `InputError` for a recording that is
    shorter than 20 turns of the shaft, sampled too slowly for the fault's harmonics, constant or
    not finite, and `ConfigurationError` for a shaft that does not turn.
    """
    rates = bearing.frequencies(shaft_hz)
    values = signal if isinstance(signal, Slices) else np.asarray(signal, dtype=np.float64)
    n_samples = len(values) if isinstance(values, Slices) else values.size
    n_turns = n_samples / rate * shaft_hz
    if n_turns < _FEWEST_TURNS:
        raise InputError(
            f"The recording holds {n_turns:.1f} turns of the shaft. Naming a fault needs at least "
            f"{_FEWEST_TURNS}, better {_LONGEST_TURNS} or more: at this speed "
            f"{_LONGEST_TURNS / shaft_hz:.2f} s."
        )
    needed = 1.1 * _N_SCORED * max(rates[name] for name in FAULTS.values())
    if 0.9 * rate / 2 < needed:
        raise InputError(
            f"The recording has {rate:g} samples per second. The faults of {bearing.name} at "
            f"{shaft_hz:g} turns per second need at least {2 * needed / 0.9:.0f}: check the rate "
            "and the speed, or record faster."
        )
    # One that is too long to be held was looked through when it was opened.
    if not isinstance(values, Slices) and values.ndim == 1 and np.ptp(values) == 0:
        raise InputError(
            f"The recording is constant ({values[0]:g}). Check the sensor and its cable."
        )
    highest = 1.1 * _N_SHOWN * max(rates[name] for name in FAULTS.values())
    width = min(rate / 2, max(rate / 8, _RESONANCES * highest))
    return band_spectra(
        values,
        rate,
        width=width,
        resolution=shaft_hz / _LONGEST_TURNS,
        highest=min(highest, 0.9 * width),
    )


def name_fault(
    signal: Signal | Slices,
    rate: float,
    bearing: Bearing,
    shaft_hz: float,
    reference: Signal | BandSpectra | None = None,
    *,
    tolerance: float = 0.02,
) -> FaultFinding:
    """Name the damaged part of `bearing` from one channel of vibration (1-D), or say that none is.

    `rate` in samples per second, `shaft_hz` in turns per second. `reference` is a good recording
    of the same machine at the same rate and speed, or what `bearing_spectra` made of one: lines
    that it has too count for less. `tolerance` is the slip that is looked through, as a share of
    the rate. Where several faults stand out, the one with most evidence is named; the inner race
    comes last where its lines lack the shaft's sidebands. Close by a multiple of the shaft's rate
    nothing can be told: those lines are left out, and with them a fault whose rate is one (as
    nearly the ball of a 6203). Raises `InputError` as `bearing_spectra` does, and where the
    reference does not fit.
    """
    measured = bearing_spectra(signal, rate, bearing, shaft_hz)
    good = reference
    if good is not None and not isinstance(good, BandSpectra):
        good = bearing_spectra(good, rate, bearing, shaft_hz)
    rates = bearing.frequencies(shaft_hz)
    spacings = {"inner race": shaft_hz, "outer race": None, "ball": rates["FTF"]}
    basis = None if good is None else _fitted(good, measured)
    spectra = {turns: _heights(measured, shaft_hz, turns) for turns in set(_TURNS.values())}
    before = {
        turns: None if basis is None else _heights(basis, shaft_hz, turns) for turns in spectra
    }
    strengths = {}
    for fault, name in FAULTS.items():
        turns = _TURNS[fault]
        comb = _Comb(rates[name], spacings[fault], tolerance)
        found = _strength(fault, comb, spectra[turns], before[turns], measured.bands)
        strengths[fault] = found
    standing = [strength for strength in strengths.values() if _stands_out(strength)]
    plain = [strength for strength in standing if not _unmodulated(strength)]
    candidates = plain or standing or list(strengths.values())
    strongest = max(candidates, key=lambda strength: strength.evidence)
    spectrum = spectra[_TURNS[strongest.fault]]
    return FaultFinding(
        fault=strongest.fault if standing else None,
        sentence=_sentence(strongest, named=bool(standing)),
        strengths=strengths,
        band=strongest.band,
        frequencies=measured.frequencies,
        decibels=spectrum.by_band[measured.bands.index(strongest.band)],
    )


def _stands_out(strength: FaultStrength) -> bool:
    """Whether the comb is more than chance, and begins where a fault's comb begins."""
    low = any(harmonic.multiple <= 2 for harmonic in strength.harmonics)
    return strength.evidence >= _STANDS_OUT and low and not strength.beyond_slip


def _unmodulated(strength: FaultStrength) -> bool:
    """Whether lines of the inner race stand without what the shaft must do to them.

    A fault on the inner race is carried in and out of the load zone at every turn, which gives
    its lines sidebands; lines without them come from what strikes that race elsewhere.
    """
    few = 3 * strength.n_sidebands < strength.n_sidebands_expected
    return strength.fault == "inner race" and few


def _heights(measured: BandSpectra, shaft_hz: float, turns: int) -> _Spectrum:
    spacing = float(measured.frequencies[1])
    powers = _smeared(measured.powers, round(shaft_hz / turns / spacing))
    by_band = 10 * np.log10(np.maximum(powers, 1e-300))
    half = max(5, round(shaft_hz / 2 / spacing))
    pooled = by_band.mean(axis=0)
    pooled = pooled - _background(pooled, half)
    by_band = by_band - np.array([_background(row, half) for row in by_band])
    # What turns with the shaft is no fault of the bearing.
    orders = measured.frequencies / shaft_hz
    of_shaft = np.abs(orders - np.round(orders)) * shaft_hz < 0.6 * shaft_hz / turns + 0.6 * spacing
    of_shaft |= orders < 0.5
    noise = 1.4826 * float(np.median(np.abs(pooled[~of_shaft])))
    pooled = np.where(of_shaft, 0.0, pooled / max(noise, 1e-9))
    return _Spectrum(spacing, np.where(of_shaft, 0.0, by_band), pooled, noise)


def _smeared(powers: Floats, n_lines: int) -> Floats:
    if n_lines <= 1:
        return powers
    kernel = np.hanning(2 * n_lines + 1)[1:-1]
    kernel /= kernel.sum()
    padded = np.pad(powers, ((0, 0), (n_lines - 1, n_lines - 1)), mode="edge")
    return np.array([np.convolve(row, kernel, mode="valid") for row in padded])


def _background(levels: Floats, half: int) -> Floats:
    """The running median: what lies between the lines. It is smooth, so some places tell all."""
    half = min(half, len(levels) - 1)
    padded = np.pad(levels, half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    places = np.unique(np.append(np.arange(0, len(levels), max(1, half // 4)), len(levels) - 1))
    medians = np.median(windows[places], axis=1)
    return np.asarray(np.interp(np.arange(len(levels)), places, medians))


def _fitted(good: BandSpectra, measured: BandSpectra) -> BandSpectra:
    """The good recording's spectra on the frequencies of the measured one."""
    same = len(good.bands) == len(measured.bands) and all(
        math.isclose(a.high, b.high, rel_tol=1e-3)
        for a, b in zip(good.bands, measured.bands, strict=True)
    )
    if not same or len(good.frequencies) < 2:
        raise InputError(
            "The good reference was taken at another rate or speed: it has "
            f"{len(good.bands)} bands up to {good.bands[-1].high:g} Hz, this recording "
            f"{len(measured.bands)} up to {measured.bands[-1].high:g} Hz. "
            "Use a good recording at the same rate and speed."
        )
    rows = [np.interp(measured.frequencies, good.frequencies, row) for row in good.powers]
    return BandSpectra(measured.bands, measured.frequencies, np.array(rows))


class _Comb(NamedTuple):
    """Where a fault's lines are `expected` in Hz, how far beside, and how far they may slip."""

    expected: float
    sideband_spacing: float | None
    tolerance: float


def _strength(
    fault: str,
    comb: _Comb,
    spectrum: _Spectrum,
    good: _Spectrum | None,
    bands: tuple[Band, ...],
) -> FaultStrength:
    expected, sideband_spacing, tolerance = comb
    slips, places = _comb(expected, spectrum, tolerance)
    heights = spectrum.pooled
    if good is not None:
        heights = heights - _known_lines(good, spectrum, expected * tolerance)
    scores = _scored(heights)[places].sum(axis=0)
    # Scores are capped and would tie; the place is where the comb is highest.
    best = int(np.argmax(np.maximum(heights, 0.0)[places].sum(axis=0)))
    comb_rate = expected * slips[best]
    chance = _chance(spectrum.pooled, places)
    in_bands = _widest(spectrum.by_band, 1)[:, places[:, best]].mean(axis=1)
    band = int(np.argmax(in_bands))
    decibels = float(in_bands[band])
    over_good = None
    if good is not None:
        before = _widest(good.by_band[band], 1)[places].mean(axis=0).max()
        over_good = decibels - float(before)
    harmonics = _harmonics(comb_rate, heights, spectrum, band)
    n_expected, n_sidebands = _sidebands(harmonics, sideband_spacing, heights, spectrum.spacing)
    return FaultStrength(
        fault=fault,
        expected=expected,
        found=_fundamental(harmonics) or comb_rate,
        evidence=float((scores.max() - chance.mean()) / max(chance.std(), 1e-9)),
        decibels=decibels,
        decibels_over_good=over_good,
        band=bands[band],
        harmonics=harmonics,
        sideband_spacing=sideband_spacing,
        n_sidebands=n_sidebands,
        n_sidebands_expected=n_expected,
        beyond_slip=best in {0, len(slips) - 1},
    )


def _known_lines(good: _Spectrum, spectrum: _Spectrum, slip: float) -> Floats:
    """The lines of the good recording in this one's units of noise, a little to either side."""
    lines = np.where(good.pooled >= _LINE, good.pooled, 0.0) * good.noise
    return _widest(lines, max(1, round(slip / 2 / spectrum.spacing))) / max(spectrum.noise, 1e-9)


def _comb(
    expected: float, spectrum: _Spectrum, tolerance: float
) -> tuple[Floats, NDArray[np.int64]]:
    """Slips to look through (as factors), and where the comb's lines lie for each: K×slips."""
    step = spectrum.spacing / (_N_SCORED * expected)  # the last line moves by one place at a time
    n_steps = math.ceil(tolerance / step)
    slips = 1 + np.linspace(-tolerance, tolerance, 2 * n_steps + 1)
    multiples = np.arange(1, _N_SCORED + 1)[:, None]
    places = np.rint(multiples * expected * slips / spectrum.spacing).astype(np.int64)
    return slips, np.minimum(places, len(spectrum.pooled) - 2)


def _scored(heights: Floats) -> Floats:
    return _widest(np.clip(heights, 0.0, _CAP), 1)


def _chance(heights: Floats, places: NDArray[np.int64]) -> Floats:
    """What the same comb collects where no line is: anywhere along the mirrored spectrum."""
    mirrored = _scored(-heights)
    lowest, highest = 2 - int(places.min()), len(heights) - 2 - int(places.max())
    shifts = np.unique(np.linspace(lowest, max(highest, lowest), _N_SHIFTS).astype(np.int64))
    shifted = places[:, :, None] + shifts
    return np.asarray(mirrored[shifted].sum(axis=0).max(axis=0))


def _widest(values: Floats, reach: int) -> Floats:
    """The greatest value within `reach` places on either side, along the last axis."""
    edges = [(0, 0)] * (values.ndim - 1) + [(reach, reach)]
    padded = np.pad(values, edges, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=-1)
    return np.asarray(windows.max(axis=-1))


def _harmonics(
    found: float, heights: Floats, spectrum: _Spectrum, band: int
) -> tuple[Harmonic, ...]:
    lines = []
    for multiple in range(1, _N_SHOWN + 1):
        place = _peak(heights, multiple * found / spectrum.spacing)
        if place is not None:
            decibels = float(_widest(spectrum.by_band[band], 1)[place])
            exact = place + _offset(heights[place - 1 : place + 2])
            lines.append(Harmonic(multiple, exact * spectrum.spacing, decibels))
    return tuple(lines)


def _offset(three: Floats) -> float:
    """Where the parabola through three heights is highest, in places from the middle one."""
    before, middle, after = (float(height) for height in three)
    bend = before - 2 * middle + after
    return 0.5 * (before - after) / bend if bend < 0 and middle >= max(before, after) else 0.0


def _fundamental(harmonics: tuple[Harmonic, ...]) -> float | None:
    """The rate of which the lines that decide are multiples, by least squares; None without any."""
    deciding = [harmonic for harmonic in harmonics if harmonic.multiple <= _N_SCORED]
    square = sum(harmonic.multiple**2 for harmonic in deciding)
    if not square:
        return None
    return sum(harmonic.multiple * harmonic.frequency for harmonic in deciding) / square


def _sidebands(
    harmonics: tuple[Harmonic, ...], offset: float | None, heights: Floats, spacing: float
) -> tuple[int, int]:
    if offset is None:
        return 0, 0
    places = [
        (harmonic.frequency + sign * offset) / spacing
        for harmonic in harmonics[:_N_SCORED]
        for sign in (-1, 1)
    ]
    return len(places), sum(_peak(heights, place) is not None for place in places)


def _peak(heights: Floats, place: float) -> int | None:
    """Where a line stands within one place of `place`, or None."""
    middle = round(place)
    if not 1 <= middle <= len(heights) - 2:
        return None
    highest = middle - 1 + int(np.argmax(heights[middle - 1 : middle + 2]))
    return highest if heights[highest] >= _LINE else None


def _sentence(strength: FaultStrength, *, named: bool) -> str:
    if strength.decibels_over_good is None or strength.decibels_over_good < 1:
        over = f"{strength.decibels:.0f} dB over the background"
        if strength.decibels_over_good is not None:
            over += ", no louder than in the good state"
    else:
        over = f"{strength.decibels_over_good:.0f} dB over the good state"
    if not named:
        return (
            f"no bearing fault stands out: the strongest candidate is {strength.fault} at "
            f"{strength.found:.1f} Hz, {over}"
        )
    n_higher = sum(harmonic.multiple > 1 for harmonic in strength.harmonics)
    counted = f"{n_higher} harmonic{'' if n_higher == 1 else 's'}"
    if any(harmonic.multiple == 1 for harmonic in strength.harmonics):
        what = f"{strength.found:.1f} Hz" + (f" and {counted} stand" if n_higher else " stands")
    else:
        what = f"{counted} of {strength.found:.1f} Hz stand" + ("s" if n_higher == 1 else "")
    beside = ""
    if strength.n_sidebands and strength.sideband_spacing is not None:
        turning = "shaft" if strength.fault == "inner race" else "cage"
        n_beside = strength.n_sidebands
        beside = (
            f", with {n_beside} sideband{'' if n_beside == 1 else 's'} of the {turning} "
            f"({strength.sideband_spacing:.1f} Hz)"
        )
    return f"{strength.fault}: {what} out, {over}{beside}"
