"""Synthetic vibration of good and damaged bearings, to try and test everything without a machine.

The model is that of McFadden and Smith ("Model for the vibration produced by a single point defect
in a rolling element bearing", Journal of Sound and Vibration 96, 1984): impacts at the fault's
rate, weighted by the load where they happen, ring a resonance of the structure. The times between
impacts vary at random as in Antoni and Randall ("A stochastic model for simulation and diagnostics
of rolling element bearings with localized faults", Journal of Vibration and Acoustics 125, 2003),
so that the impacts drift from any strict period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, InputError, suggest
from makellos.storage import storage_errors
from makellos.vibration.bearings import Bearing, find_bearing

__all__ = [
    "BEARING_CONDITIONS",
    "SYNTHETIC_BEARING",
    "SYNTHETIC_RPM",
    "synthetic_recording",
    "write_bearings",
]

Floats = NDArray[np.float64]

BEARING_CONDITIONS = ("good", "inner", "outer", "ball")

SYNTHETIC_BEARING, SYNTHETIC_RPM, SYNTHETIC_RATE = "6205", 1797.0, 12_000.0

_NOISE = 0.05  # g, of the whole recording
_JITTER = 0.01  # standard deviation of the time between impacts, in periods
_SLIP = 0.01  # the cage falls behind its rolling rate by up to this share
_LOAD_ZONE = 0.45  # share of the diameter that carries load: a little clearance
_FLOOR_OF_LOAD = 0.05  # a ball outside the load zone still touches
_RATES = (1000.0, 1_000_000.0)


@dataclass(frozen=True)
class _Machine:
    """What differs from one recording to another: rates in Hz, phases in turns."""

    slip: float
    shaft_phase: float
    cage_phase: float
    resonance: float
    damping: float


def synthetic_recording(
    fault: str,
    *,
    rate: float,
    seconds: float,
    shaft_hz: float,
    bearing: Bearing,
    severity: float = 1.0,
    seed: int = 0,
    machine: int | None = None,
) -> NDArray[np.float32]:
    """Make one recording of vibration in g: float32, 1-D, `rate` × `seconds` samples.

    `fault` is one of `BEARING_CONDITIONS`. The sum of: harmonics of the shaft; impacts on the
    race or the ball that ring a resonance of the housing, with random amplitudes, about 1 % of
    jitter between them and a cage that slips by up to 1 %; the load, which weighs the impacts by
    the shaft's turn for the inner race and by the cage's for a ball (whose two impacts per spin,
    one on each race, differ), and not at all for the outer race; noise, part of it coloured by
    the same resonance. `severity` is the height of an impact under load: 1 is ten times the
    standard deviation of the noise, 0.3 a beginning fault. Recordings of one `machine` share
    its resonance; without it each `seed` is a machine of its own. The same arguments give the same
    samples. Raises `ConfigurationError` for an unknown fault and for values out of range.
    """
    _check(fault, rate, seconds, shaft_hz, severity, seed)
    drawn = _draw_machine(np.random.default_rng([seed, 1]), rate)
    if machine is not None:
        same = _draw_machine(np.random.default_rng([machine, 1]), rate)
        drawn = replace(drawn, resonance=same.resonance, damping=same.damping)
    n_samples = round(rate * seconds)
    times = np.arange(n_samples) / rate
    signal = _shaft(np.random.default_rng([seed, 2]), times, shaft_hz, drawn)
    signal += _noise(np.random.default_rng([seed, 3]), n_samples, rate, drawn)
    if fault != "good" and severity > 0:
        rng = np.random.default_rng([seed, 4])
        struck, heights = _impacts(rng, fault, seconds, bearing.frequencies(shaft_hz), drawn)
        signal += _ring(struck, heights * (10 * _NOISE * severity), n_samples, rate, drawn)
    return signal.astype(np.float32)


def write_bearings(
    folder: Path | str,
    *,
    n_train: int = 24,
    n_test_good: int = 4,
    n_per_fault: int = 3,
    seconds: float = 4.0,
    seed: int = 0,
    progress: Progress = no_progress,
) -> None:
    """Write recordings of one machine with good and damaged bearings into a new folder.

    A 6205 at 1797 turns per minute, 12,000 samples per second in g: ``train/good/000.npz``,
    ``test/good``, ``test/inner``, ``test/outer`` and ``test/ball``, the faults from beginning to
    grown. Raises `InputError` for a folder that is not empty, `StorageError` where the files cannot
    be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} already exists. Choose another folder, or empty this one.")
    faults = [fault for fault in BEARING_CONDITIONS if fault != "good"]
    jobs = [("train/good", "good", i, 0.0) for i in range(n_train)]
    jobs += [("test/good", "good", i, 0.0) for i in range(n_test_good)]
    jobs += [
        (f"test/{fault}", fault, i, 0.3 + 0.7 * i / max(1, n_per_fault - 1))
        for fault in faults
        for i in range(n_per_fault)
    ]
    bearing = find_bearing(SYNTHETIC_BEARING)
    advice = "Check that the disk has room and the folder may be written, or choose another one."
    with storage_errors(f"The recordings could not be written to {folder}", advice):
        for done, (place, fault, i, severity) in enumerate(jobs, start=1):
            signal = synthetic_recording(
                fault,
                rate=SYNTHETIC_RATE,
                seconds=seconds,
                shaft_hz=SYNTHETIC_RPM / 60,
                bearing=bearing,
                severity=severity,
                seed=1000 * seed + done,
                machine=seed,
            )
            path = folder / place / f"{i:03d}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, acceleration=signal, rate=np.float64(SYNTHETIC_RATE))
            progress("recording bearings", done, len(jobs))


def _check(
    fault: str, rate: float, seconds: float, shaft_hz: float, severity: float, seed: int
) -> None:
    if fault not in BEARING_CONDITIONS:
        raise ConfigurationError(
            f"There is no fault {fault!r}. {suggest(fault, BEARING_CONDITIONS)}"
        )
    if seed < 0:
        raise ConfigurationError(f"seed is {seed}. It must be 0 or a positive integer.")
    accepted = {
        "rate": (rate, *_RATES, "samples per second"),
        "seconds": (seconds, 10 / rate, 3600.0, "seconds"),
        "shaft_hz": (shaft_hz, 0.1, rate / 40, "turns per second"),
        "severity": (severity, 0.0, 100.0, "1 is ten times the noise"),
    }
    for name, (value, low, high, unit) in accepted.items():
        if not low <= value <= high:
            raise ConfigurationError(
                f"{name} is {value}. It must be from {low:g} to {high:g} ({unit})."
            )


def _draw_machine(rng: np.random.Generator, rate: float) -> _Machine:
    return _Machine(
        slip=rng.uniform(0.0, _SLIP),
        shaft_phase=rng.uniform(),
        cage_phase=rng.uniform(),
        resonance=min(rng.uniform(2200.0, 4500.0), rng.uniform(0.25, 0.4) * rate),
        damping=rng.uniform(0.03, 0.06),
    )


def _shaft(rng: np.random.Generator, times: Floats, shaft_hz: float, machine: _Machine) -> Floats:
    turns = times * shaft_hz + machine.shaft_phase
    total = np.zeros_like(times)
    for harmonic, share in enumerate((1.0, 0.5, 0.3, 0.15, 0.1), start=1):
        height = _NOISE * share * rng.uniform(0.5, 1.5)
        total += height * np.sin(2 * np.pi * (harmonic * turns + rng.uniform()))
    return total


def _noise(rng: np.random.Generator, n_samples: int, rate: float, machine: _Machine) -> Floats:
    """White noise, and as much of it again through the resonance that the impacts ring."""
    white = rng.standard_normal(n_samples)
    relative = np.fft.rfftfreq(n_samples, 1 / rate) / machine.resonance
    response = 1 / (1 - relative**2 + 2j * machine.damping * relative)
    coloured = np.fft.irfft(np.fft.rfft(rng.standard_normal(n_samples)) * response, n_samples)
    return (_NOISE / math.sqrt(2)) * (white + coloured / max(float(coloured.std()), 1e-12))


def _impacts(
    rng: np.random.Generator,
    fault: str,
    seconds: float,
    rolling: dict[str, float],
    machine: _Machine,
) -> tuple[Floats, Floats]:
    """When the fault strikes (s, from a little before 0 on), and how hard (1 under full load)."""
    cage_hz = rolling["FTF"] * (1 - machine.slip)
    # The shaft's rate is fixed: a cage that falls behind is passed more often by the inner race.
    lag = rolling["FTF"] - cage_hz
    n_balls = rolling["BPFO"] / rolling["FTF"]
    rates = {
        "outer": n_balls * cage_hz,
        "inner": rolling["BPFI"] + n_balls * lag,
        "ball": rolling["2xBSF"] * (1 - machine.slip),
    }
    shaft_hz = (rolling["BPFO"] + rolling["BPFI"]) / n_balls
    struck = _strike_times(rng, rates[fault], seconds)
    heights = np.exp(rng.normal(0.0, 0.15, len(struck)))
    if fault == "inner":
        heights *= _load(struck * shaft_hz + machine.shaft_phase)
    elif fault == "ball":
        races = np.where(np.arange(len(struck)) % 2, 0.7, 1.0)
        heights *= _load(struck * cage_hz + machine.cage_phase) * races
    return struck, heights


def _strike_times(rng: np.random.Generator, hz: float, seconds: float) -> Floats:
    n_impacts = math.ceil(seconds * hz * 1.1) + 20
    gaps = np.maximum(1 + _JITTER * rng.standard_normal(n_impacts), 0.1) / hz
    struck = np.cumsum(gaps) - rng.uniform(1, 2) * gaps[0]
    return np.asarray(struck[struck < seconds])


def _load(turns: Floats) -> Floats:
    """The load of Stribeck's distribution around the ring; 1 where it is greatest."""
    depth = 1 - (1 - np.cos(2 * np.pi * turns)) / (2 * _LOAD_ZONE)
    return _FLOOR_OF_LOAD + (1 - _FLOOR_OF_LOAD) * np.clip(depth, 0.0, None) ** 1.5


def _ring(
    struck: Floats, heights: Floats, n_samples: int, rate: float, machine: _Machine
) -> Floats:
    decay = 2 * np.pi * machine.resonance * machine.damping
    length = min(n_samples, math.ceil(8 / decay * rate))
    first = np.ceil(struck * rate).astype(np.int64)
    places = first[:, None] + np.arange(length)
    since = places / rate - struck[:, None]
    rings = np.exp(-decay * since) * np.sin(2 * np.pi * machine.resonance * since)
    inside = (places >= 0) & (places < n_samples)
    weighted = (heights[:, None] * rings)[inside]
    total = np.bincount(places[inside], weights=weighted, minlength=n_samples)
    return total.astype(np.float64)
