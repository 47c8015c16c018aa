"""Recordings that hold the same signal, saved again in another format or unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["signal_copies"]

_SAMPLES = 8192  # of the beginning, which tell enough
_ALIKE = 0.5  # mean cosine between phases; of two recordings it is 0, but for 0.01 or 0.02


def signal_copies(signals: Sequence[NDArray[np.float32]]) -> list[list[int]]:
    """Return the sets of signals (n,) that are copies of each other, by their positions.

    Compared are the phases of all frequencies: noise, which no two recordings share, decides at
    most of them, however strong the few are that the machine itself gives.
    """
    length = min((len(each) for each in signals), default=0)
    phases = np.array([_phases(each[: min(length, _SAMPLES)]) for each in signals])
    sets: list[list[int]] = []
    for i, own in enumerate(phases):
        alike = (found for found in sets if float(own @ phases[found[0]]) > _ALIKE)
        found = next(alike, None)
        if found is None:
            sets.append([i])
        else:
            found.append(i)
    return [found for found in sets if len(found) > 1]


def _phases(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(signal)[1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        units = np.nan_to_num(spectrum / np.abs(spectrum)) / np.sqrt(max(1, len(spectrum)))
    return np.concatenate([units.real, units.imag])
