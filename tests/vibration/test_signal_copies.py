"""Copies of recordings count once, however they were saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos import calibrate, fit
from makellos.errors import InputError
from makellos.vibration.signal_copies import signal_copies
from makellos.vibration.signals import SignalSettings

RATE = 12_000


def signal(seed: int, *, noise: float = 0.2, n: int = 12_288) -> NDArray[np.float32]:
    """A machine that always turns in step, and the noise of one day."""
    t = np.arange(n) / RATE
    turns = np.sin(2 * np.pi * 50 * t) + 0.5 * np.sin(2 * np.pi * 1200 * t)
    return (turns + np.random.default_rng(seed).normal(0, noise, n)).astype(np.float32)


def test_copies_are_found_and_machines_in_step_are_none() -> None:
    signals = [signal(i) for i in range(8)]
    signals += [9.81 * signals[2], signals[3] + 4, np.rint(signals[5] * 2000) / 2000]
    signals.append(signals[2][:10_000])
    assert signal_copies(signals) == [[2, 8, 11], [3, 9], [5, 10]]
    assert signal_copies([signal(i, noise=0.02) for i in range(8)]) == []
    assert signal_copies([]) == []


def write(folder: Path, signals: list[NDArray[np.float32]]) -> Path:
    folder.mkdir()
    for i, values in enumerate(signals):
        np.savez(folder / f"{i}.npz", acc=values, fs=RATE)
    return folder


def test_fit_counts_copies_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "runs", [signal(i % 6) * (1 + i // 6) for i in range(12)])
    summary = fit(
        folder, tmp_path / "m.makellos", detector="pyod", signal=SignalSettings(window=1024)
    )
    assert (summary.n_groups, summary.counted) == (6, "recordings")
    assert summary.notes[0].startswith(
        "Recordings of the same signal, of which the first alone counts: 0.npz = 6.npz; 1.npz"
    )
    new = write(tmp_path / "new", [signal(20 + i % 7) * (1 + i // 7) for i in range(14)])
    anew = calibrate(tmp_path / "m.makellos", new)
    assert anew.n_groups == 7
    assert "the first alone counts: 0.npz = 7.npz" in anew.notes[0]


@pytest.mark.parametrize("detector", ["pyod", "patchcore"])
def test_one_recording_again_and_again_is_refused(detector: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "runs", [signal(0)] * 6)
    with pytest.raises(InputError, match="All 6 good recordings hold the same signal"):
        fit(folder, tmp_path / "m.makellos", detector=detector)


def test_recordings_of_nothing_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "runs", [np.zeros(12_288, np.float32)] * 6)
    with pytest.raises(InputError, match=r"constant at 0 throughout"):
        fit(folder, tmp_path / "m.makellos", detector="pyod")
