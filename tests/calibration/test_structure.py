"""Structure among good parts: what leaving a whole series out does, and what is no cluster."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.calibration.structure import clusters, effect_of, is_crossed

N = 90
ALONE = np.arange(N)


def distances(series: NDArray[np.intp], apart: float, seed: int = 0) -> NDArray[np.float32]:
    """Distances of eight patches of each part to each other part; farther across series."""
    rng = np.random.default_rng(seed)
    found = rng.gamma(9, 1 / 9, (N, 8, N)) + apart * (series[:, None] != series[None])[:, None]
    found[np.arange(N), :, np.arange(N)] = np.inf
    return found.astype(np.float32)


def test_series_that_resemble_each_other_matter() -> None:
    series = np.arange(N) % 6
    effect = effect_of(distances(series, 1.0), series, ALONE, 0.05, seed=0)
    assert effect.matters
    assert effect.rate > 0.9
    assert effect.times > 5


def test_series_by_name_alone_do_not_matter() -> None:
    found = []
    for seed in range(20):
        series = np.random.default_rng(seed).integers(0, 5, N)
        alike = distances(np.zeros(N, int), 0.0, seed)
        found.append(effect_of(alike, series, ALONE, 0.05, seed=seed).matters)
    assert not any(found)


def test_parts_beside_their_own_pictures_are_compared_without_them() -> None:
    units = np.arange(N) // 3
    alike = distances(units, 1.0)
    assert effect_of(alike, units, ALONE, 0.05, seed=0).matters
    # Once pictures of one part are left out in any case, series of them change nothing.
    assert not effect_of(alike, units // 10, units, 0.05, seed=0).matters


def test_one_series_of_all_is_compared_with_nothing() -> None:
    effect = effect_of(distances(np.zeros(N, int), 0.0), np.zeros(N, int), ALONE, 0.05, seed=0)
    assert not effect.matters


def test_views_of_every_part_are_crossed() -> None:
    units = np.arange(N) // 3
    assert is_crossed(np.arange(N) % 3, units)
    assert not is_crossed(units // 10, units)
    assert not is_crossed(np.arange(N) % 3, ALONE)


@pytest.mark.parametrize("n_columns", [1, 3, 40])
def test_one_cloud_has_no_clusters(n_columns: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert clusters(rng.normal(size=(N, n_columns))) is None
        assert clusters(rng.random((N, n_columns))) is None


def test_clouds_apart_are_clusters() -> None:
    rng = np.random.default_rng(0)
    series = np.arange(N) % 3
    found = clusters(rng.normal(size=(N, 4)) + np.array([0, 15, 40])[series][:, None])
    assert found is not None
    assert len(set(zip(found.tolist(), series.tolist(), strict=True))) == 3
    assert clusters(np.ones((N, 2))) is None
    odd = rng.normal(size=(N, 2))
    odd[:4] += 50  # a handful of odd parts is no series
    assert clusters(odd) is None
