"""Small feature vectors for the contract checks: correlated ones, and ones far from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import GOOD, Part, Values
from makellos.data.pictures import Picture
from makellos.testing.specimens import Planted

__all__ = [
    "N_FEATURES",
    "extreme_features",
    "feature_parts",
    "good_features",
    "other_features",
    "planted_features",
]

N_FEATURES = 12

_N_PLANTED, _N_ODD, _FAR = 4, 4, 15.0  # planted parts; displaced features in each; deviations


def good_features(n_parts: int, seed: int) -> list[Picture]:
    """Return good parts (12,) float32: correlated numbers around means of different scale."""
    return [_features(np.random.default_rng([seed, i])) for i in range(n_parts)]


def other_features(n_parts: int, seed: int) -> list[Picture]:
    """Return parts of another kind, to learn from before the good ones."""
    return [row[::-1].copy() for row in good_features(n_parts, seed)]


def planted_features(seed: int) -> list[Planted]:
    """Return parts of which some features, others in each, are many deviations off."""
    found = []
    for i in range(_N_PLANTED):
        rng = np.random.default_rng([seed, i])
        row = _features(rng)
        chosen = rng.choice(N_FEATURES, _N_ODD, replace=False)
        row[chosen] += np.float32(_FAR) * _scales()[chosen] * rng.choice([-1, 1], _N_ODD)
        found.append(Planted(row, 0, 0))
    return found


def extreme_features(seed: int) -> list[Picture]:
    """Return zeros, huge numbers of either sign, and noise."""
    noise = np.random.default_rng(seed).normal(size=N_FEATURES)
    rows = [np.zeros(N_FEATURES), np.full(N_FEATURES, 1e30), np.full(N_FEATURES, -1e30), noise]
    return [_seen(row) for row in rows]


def feature_parts(folder: Path, rows: list[Picture], label: str = GOOD) -> list[Part]:
    """Return feature vectors as windows of a recording, which is not written."""
    return [
        Part(source=Values(np.asarray(row, np.float32)), name=f"{folder.name}/{i:02d}", label=label)
        for i, row in enumerate(rows)
    ]


def _features(rng: np.random.Generator) -> Picture:
    shared = rng.normal(size=3) @ np.sin(np.arange(3 * N_FEATURES).reshape(3, N_FEATURES))
    own = rng.normal(size=N_FEATURES)
    return _seen(5 + np.arange(N_FEATURES) + _scales() * (shared + own))


def _scales() -> NDArray[np.float64]:
    return np.geomspace(0.01, 10, N_FEATURES)


def _seen(row: NDArray[np.float64]) -> Picture:
    return row.astype(np.float32)  # type: ignore[return-value]  # what such detectors are given
