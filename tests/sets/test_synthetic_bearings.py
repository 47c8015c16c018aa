"""Synthetic vibration: repeatable, in its place and of the rate that the geometry gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from makellos.errors import ConfigurationError
from makellos.sets.synthetic_bearings import BEARING_CONDITIONS, synthetic_recording
from makellos.vibration.bearings import find_bearing

BEARING = find_bearing("6205")


def record(fault: str, *, severity: float = 1.0, seed: int = 0, seconds: float = 2.0) -> np.ndarray:
    return synthetic_recording(
        fault,
        rate=12000,
        seconds=seconds,
        shaft_hz=25.0,
        bearing=BEARING,
        severity=severity,
        seed=seed,
    )


def kurtosis(signal: np.ndarray) -> float:
    centred = signal - signal.mean()
    return float(np.mean(centred**4) / np.mean(centred**2) ** 2)


@pytest.mark.parametrize("fault", BEARING_CONDITIONS)
def test_a_recording_is_repeatable_and_of_the_length_asked_for(fault: str) -> None:
    signal = record(fault)
    assert signal.dtype == np.float32
    assert signal.shape == (24000,)
    assert np.isfinite(signal).all()
    assert np.array_equal(signal, record(fault))
    assert not np.array_equal(signal, record(fault, seed=1))


@pytest.mark.parametrize("fault", ["inner", "outer", "ball"])
def test_a_fault_is_the_good_machine_with_impacts_that_grow(fault: str) -> None:
    good = record("good")
    assert np.array_equal(record(fault, severity=0.0), good)
    impacts = [record(fault, severity=severity) - good for severity in (0.5, 1.0, 2.0)]
    assert np.allclose(impacts[1], 2 * impacts[0], atol=1e-5)
    assert np.allclose(impacts[2], 2 * impacts[1], atol=1e-5)
    assert kurtosis(impacts[1]) > 5
    assert kurtosis(good) < 4


def strikes_per_second(impacts: np.ndarray) -> float:
    """Bursts of the ringing, counted where it starts anew after 2 ms or more."""
    loud = np.flatnonzero(np.abs(impacts) > 0.05 * np.abs(impacts).max())
    return (1 + np.count_nonzero(np.diff(loud) > 0.002 * 12000)) / (len(impacts) / 12000)


def test_the_outer_race_is_struck_at_its_rate_less_slip() -> None:
    rate = BEARING.frequencies(25.0)["BPFO"]
    for seed in range(3):
        impacts = record("outer", seed=seed, seconds=5) - record("good", seed=seed, seconds=5)
        assert 0.98 * rate <= strikes_per_second(impacts) <= 1.01 * rate


def modulation(impacts: np.ndarray, hz: float) -> float:
    """How much the power of the impacts goes up and down at `hz`, as a share of its mean."""
    power = impacts.astype(float) ** 2
    turns = np.arange(len(power)) * hz / 12000
    return 2 * abs(np.mean(power * np.exp(-2j * np.pi * turns))) / power.mean()


def test_the_load_weighs_what_turns() -> None:
    good = record("good", seconds=5)
    inner, outer = (record(fault, seconds=5) - good for fault in ("inner", "outer"))
    assert modulation(inner, 25.0) > 0.8
    assert modulation(outer, 25.0) < 0.1


def test_the_cage_weighs_a_fault_on_a_ball() -> None:
    impacts = record("ball", seconds=5) - record("good", seconds=5)
    cage = BEARING.frequencies(25.0)["FTF"]
    slips = np.linspace(0.985, 1.0, 16)
    assert max(modulation(impacts, cage * slip) for slip in slips) > 0.8


def test_impacts_drift_from_a_strict_period() -> None:
    impacts = record("outer", seconds=5) - record("good", seconds=5)
    loud = np.flatnonzero(np.abs(impacts) > 0.05 * np.abs(impacts).max())
    starts = np.append(loud[0], loud[1:][np.diff(loud) > 24])
    gaps = np.diff(starts)
    assert 0.005 < gaps.std() / gaps.mean() < 0.03


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fault": "iner"}, "Did you mean 'inner'"),
        ({"seed": -1}, "seed is -1"),
        ({"rate": 10.0}, "rate is 10"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"shaft_hz": 0.0}, "shaft_hz is 0"),
        ({"shaft_hz": 1000.0}, "shaft_hz is 1000"),
        ({"severity": math.nan}, "severity is nan"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, float | str], message: str) -> None:
    accepted = {"fault": "outer", "rate": 12000.0, "seconds": 1.0, "shaft_hz": 25.0, "seed": 0}
    asked = {"severity": 1.0} | accepted | values
    with pytest.raises(ConfigurationError, match=message):
        synthetic_recording(bearing=BEARING, **asked)
