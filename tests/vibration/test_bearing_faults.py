"""Faults of bearings named from synthetic vibration, nothing named on good ones, limits said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from makellos.errors import ConfigurationError, InputError
from makellos.sets.synthetic_bearings import synthetic_recording
from makellos.vibration.bearing_faults import FAULTS, bearing_spectra, name_fault
from makellos.vibration.bearings import find_bearing

NAMES = {"inner": "inner race", "outer": "outer race", "ball": "ball", "good": None}
BEARING = find_bearing("6205")
# Rate, turns per second, bearing.
MACHINES = [
    (12000.0, 29.95, "6205"),
    (25600.0, 20.0, "6205"),
    (48000.0, 33.0, "ER-16K"),
    (20000.0, 33.3, "ZA-2115"),
    (16000.0, 12.3, "UER204"),
]


def record(
    condition: str,
    *,
    rate: float = 12000.0,
    shaft_hz: float = 29.95,
    name: str = "6205",
    seconds: float = 4.0,
    severity: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    return synthetic_recording(
        condition,
        rate=rate,
        seconds=seconds,
        shaft_hz=shaft_hz,
        bearing=find_bearing(name),
        severity=severity,
        seed=seed,
    )


@pytest.mark.parametrize("condition", NAMES)
@pytest.mark.parametrize(("rate", "shaft_hz", "name"), MACHINES)
def test_faults_are_named_at_any_rate_speed_and_geometry(
    condition: str, rate: float, shaft_hz: float, name: str
) -> None:
    for seed in range(3):
        signal = record(condition, rate=rate, shaft_hz=shaft_hz, name=name, seed=seed)
        finding = name_fault(signal, rate, find_bearing(name), shaft_hz)
        assert finding.fault == NAMES[condition], (seed, finding.sentence)


def test_good_recordings_stay_well_below_what_names_a_fault() -> None:
    for seed in range(20):
        finding = name_fault(record("good", seed=seed), 12000, BEARING, 29.95)
        assert finding.fault is None
        assert finding.sentence.startswith("no bearing fault stands out")
        assert max(strength.evidence for strength in finding.strengths.values()) < 4.5


def test_a_beginning_fault_on_the_outer_race_is_named() -> None:
    for seed in range(4):
        finding = name_fault(record("outer", severity=0.3, seed=seed), 12000, BEARING, 29.95)
        assert finding.fault == "outer race"


def test_evidence_grows_with_the_fault() -> None:
    evidence = [
        name_fault(record("inner", severity=severity), 12000, BEARING, 29.95)
        .strengths["inner race"]
        .evidence
        for severity in (0.0, 0.5, 1.0)
    ]
    assert evidence[0] < 5 < evidence[1] < evidence[2]


def test_the_rate_the_lines_and_the_band_are_those_of_the_fault() -> None:
    finding = name_fault(record("outer"), 12000, BEARING, 29.95)
    strength = finding.strengths["outer race"]
    assert strength.expected == pytest.approx(107.36, abs=0.01)
    assert 0.98 * strength.expected < strength.found < 1.005 * strength.expected
    assert [harmonic.multiple for harmonic in strength.harmonics][:3] == [1, 2, 3]
    for harmonic in strength.harmonics[:3]:
        expected = harmonic.multiple * strength.found
        assert harmonic.frequency == pytest.approx(expected, abs=1.0)
        assert harmonic.decibels > 6
        near = np.abs(finding.frequencies - harmonic.frequency) < 1.0
        assert finding.decibels[near].max() > 6
    assert finding.band == strength.band
    assert set(finding.strengths) == set(FAULTS)


def test_sidebands_stand_where_the_load_modulates() -> None:
    inner = name_fault(record("inner", severity=2), 12000, BEARING, 29.95).strengths["inner race"]
    assert inner.sideband_spacing == pytest.approx(29.95)
    assert inner.n_sidebands_expected == 6
    assert inner.n_sidebands >= 4
    outer = name_fault(record("outer", severity=2), 12000, BEARING, 29.95).strengths["outer race"]
    assert (outer.sideband_spacing, outer.n_sidebands_expected) == (None, 0)
    ball = name_fault(record("ball", severity=2), 12000, BEARING, 29.95).strengths["ball"]
    assert ball.sideband_spacing == pytest.approx(BEARING.frequencies(29.95)["FTF"])
    assert ball.n_sidebands >= 2


def test_the_sentence_says_what_stands_out_over_what() -> None:
    good, faulty = record("good", seed=5), record("outer", seed=1)
    alone = name_fault(faulty, 12000, BEARING, 29.95)
    strength = alone.strengths["outer race"]
    assert alone.sentence == (
        f"outer race: {strength.found:.1f} Hz and {len(strength.harmonics) - 1} harmonics "
        f"stand out, {strength.decibels:.0f} dB over the background"
    )
    compared = name_fault(faulty, 12000, BEARING, 29.95, reference=good)
    assert compared.fault == "outer race"
    assert compared.sentence.endswith("dB over the good state")
    over_good = compared.strengths["outer race"].decibels_over_good
    assert over_good is not None
    assert over_good > 6


def test_the_reference_may_be_kept_as_spectra() -> None:
    good, faulty = record("good", seed=5), record("ball", seed=1)
    kept = bearing_spectra(good, 12000, BEARING, 29.95)
    from_signal = name_fault(faulty, 12000, BEARING, 29.95, reference=good)
    from_spectra = name_fault(faulty, 12000, BEARING, 29.95, reference=kept)
    assert from_signal.sentence == from_spectra.sentence
    assert from_signal.strengths == from_spectra.strengths


def test_what_the_good_state_shows_too_is_no_fault() -> None:
    machine = record("outer", seed=1)
    assert name_fault(machine, 12000, BEARING, 29.95).fault == "outer race"
    finding = name_fault(record("outer", seed=2), 12000, BEARING, 29.95, reference=machine)
    assert finding.fault is None
    other = record("inner", severity=2, seed=3) + machine
    assert name_fault(other, 12000, BEARING, 29.95, reference=machine).fault == "inner race"


def test_a_reference_of_another_length_fits_and_of_another_rate_is_refused() -> None:
    faulty = record("inner")
    short = record("good", seconds=1.0)
    assert name_fault(faulty, 12000, BEARING, 29.95, reference=short).fault == "inner race"
    foreign = bearing_spectra(record("good", rate=48000.0), 48000, BEARING, 29.95)
    with pytest.raises(InputError, match="another rate or speed"):
        name_fault(faulty, 12000, BEARING, 29.95, reference=foreign)


def test_scale_offset_and_polarity_change_nothing() -> None:
    signal = record("outer").astype(float)
    plain = name_fault(signal, 12000, BEARING, 29.95)
    changed = name_fault(-1000 * signal + 37, 12000, BEARING, 29.95)
    assert changed.sentence == plain.sentence


def test_a_rate_that_is_off_by_a_factor_names_nothing() -> None:
    finding = name_fault(record("outer"), 12000, BEARING, 29.95 * 1.1)
    assert finding.fault is None


def test_shaft_harmonics_are_no_fault() -> None:
    times = np.arange(48000) / 12000
    noise = np.random.default_rng(0).standard_normal(48000)
    shaft = sum(np.cos(2 * np.pi * 29.95 * order * times) for order in range(1, 20))
    finding = name_fault(noise * (3 + shaft), 12000, BEARING, 29.95)
    assert finding.fault is None


@pytest.mark.parametrize(
    ("signal", "rate", "message"),
    [
        (np.ones(48000), 12000, "constant"),
        (np.zeros(2048), 12000, "5.1 turns of the shaft"),
        (np.zeros(48000), 1000, "samples per second"),
        (np.full(48000, np.nan), 12000, "not finite"),
        (np.ones((2, 48000)), 12000, r"\(2, 48000\)"),
    ],
)
def test_recordings_that_tell_nothing_are_named(
    signal: np.ndarray, rate: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        name_fault(signal, rate, BEARING, 29.95)


def test_a_shaft_that_stands_still_is_named() -> None:
    with pytest.raises(ConfigurationError, match="The shaft turns at 0"):
        name_fault(record("good"), 12000, BEARING, 0.0)


@pytest.mark.real
def test_faults_of_the_cwru_rig_are_named_without_training(real_data: Path) -> None:
    folder = real_data / "bearing_cwru_48k"
    expected = {"IR": "inner race", "OR": "outer race", "B": "ball", "Normal": None}
    table: Counter[tuple[str | None, str | None]] = Counter()
    for path in sorted(folder.glob("*.npz")):
        kind = path.stem.split("_")[0]
        truth = expected["OR" if kind.startswith("OR") else kind]
        with np.load(path) as recording:
            signal = recording["DE"].ravel()
        table[truth, name_fault(signal, 48000, BEARING, 1797 / 60).fault] += 1
    assert sum(table.values()) == 14
    assert table[None, None] == 1
    assert sum(count for (truth, named), count in table.items() if truth and named == truth) >= 9
    # What cannot be told is left unnamed; a wrong name sends somebody to the wrong part.
    assert sum(count for (truth, named), count in table.items() if named not in {truth, None}) <= 1
