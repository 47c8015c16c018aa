"""Sketches keep the mass above every threshold to half a cell, whatever the scores look like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makellos.evaluation.sketches import (
    Resolution,
    SketchPool,
    concatenate,
    sketch_pixels,
    sketch_weighted,
)

UNIFORM = Resolution(absolute=1 / 16)
TAILED = Resolution(absolute=1 / 16, relative=1 / 4)


def shapes(rng, n):
    """Adversarial keys: ties, a tiny range, an outlier, a heavy atom, a constant."""
    return {
        "continuous": rng.normal(size=n),
        "levels": rng.integers(0, 5, size=n),
        "tiny range": 1.0 + rng.integers(0, 40, size=n) * 2.0**-23,
        "outlier": np.append(rng.normal(size=n - 1), -1e6),
        "atom": np.where(rng.random(n) < 0.5, 0.0, rng.normal(size=n)),
        "constant": np.full(n, 3.0),
        "huge spread": np.exp(rng.uniform(-80, 80, size=n)),
    }


def mass_above(sketch, thresholds, row=0):
    """Mass with a key below each threshold: the pixels that are more anomalous."""
    cumulative = np.concatenate(([0.0], np.cumsum(sketch.weights[row])))
    return cumulative[np.searchsorted(sketch.keys, thresholds)]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 400), st.sampled_from([UNIFORM, TAILED]))
def test_mass_above_any_threshold_is_right_to_half_a_cell(seed, n, resolution):
    rng = np.random.default_rng(seed)
    for name, values in shapes(rng, n).items():
        keys = np.sort(values.astype(np.float32))
        sketch = sketch_pixels(keys, resolution)
        assert sketch.weights.sum() == n, name
        thresholds = np.concatenate((keys, np.nextafter(keys, np.float32(np.inf))))
        exact = np.searchsorted(keys, thresholds)
        cell = np.maximum(n / 16, 1)
        if resolution.relative is not None:
            cell = np.maximum(np.minimum(cell, exact / 4), 1)
        # A cell holds whole pixels, and its middle pixel is one of its two halves.
        error = np.abs(mass_above(sketch, thresholds) - exact)
        assert np.all(error <= cell / 2 + 1), name


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_few_distinct_keys_are_kept_exactly(seed):
    rng = np.random.default_rng(seed)
    levels = rng.normal(size=4).astype(np.float32)
    keys = np.sort(levels[rng.choice(4, size=2000, p=[0.4, 0.3, 0.2, 0.1])])
    sketch = sketch_pixels(keys, Resolution(absolute=1 / 64))
    exact, counts = np.unique(keys, return_counts=True)
    np.testing.assert_array_equal(sketch.keys, exact)
    np.testing.assert_array_equal(sketch.weights[0], counts)


def test_most_anomalous_pixels_are_kept_one_by_one():
    keys = np.sort(np.random.default_rng(0).normal(size=100_000).astype(np.float32))
    sketch = sketch_pixels(keys, Resolution(absolute=2.0**-8, relative=2.0**-5))
    np.testing.assert_array_equal(sketch.keys[:31], keys[:31])
    assert sketch.weights.max() <= 100_000 / 256 + 1
    assert sketch.keys.size < 700


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_weighted_sketch_bounds_every_mass(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(100, 600))
    for name, values in shapes(rng, n).items():
        keys = values.astype(np.float32)
        weights = np.stack((np.ones(n), rng.exponential(size=n) ** 2))
        sketch = sketch_weighted(keys, weights, Resolution(absolute=1 / 32))
        order = np.argsort(keys)
        for row in range(2):
            total = weights[row].sum()
            cumulative = np.concatenate(([0.0], np.cumsum(weights[row][order])))
            exact = cumulative[np.searchsorted(keys[order], keys)]
            error = np.abs(mass_above(sketch, keys, row) - exact)
            # Half a cell of 1 / 32 in the mean of two shares is at most 1 / 32 in each.
            assert np.all(error <= total / 32 + 1e-9), name
            assert sketch.weights[row].sum() == pytest.approx(total)


def test_a_heavy_sample_is_kept_apart_from_light_neighbours():
    keys = np.arange(101, dtype=np.float32)
    weights = np.ones((1, 101))
    weights[0, 50] = 1000.0
    sketch = sketch_weighted(keys, weights, Resolution(absolute=1 / 25))
    assert sketch.keys.size < 30
    assert sketch.weights[0][sketch.keys == 50].tolist() == [1000.0]
    assert mass_above(sketch, np.array([50], np.float32)).tolist() == [50.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_pool_stays_near_the_exact_masses_in_any_order(seed):
    rng = np.random.default_rng(seed)
    resolution = Resolution(absolute=2.0**-9, relative=2.0**-6)
    pictures = [
        np.sort((rng.normal(size=300) * rng.uniform(0.1, 3)).astype(np.float32)) for _ in range(37)
    ]
    keys = np.sort(np.concatenate(pictures))
    exact = np.arange(keys.size)
    for order in (range(37), rng.permutation(37)):
        pool = SketchPool(resolution=resolution, buffer_size=2)
        for index in order:
            pool.add(sketch_pixels(pictures[index], Resolution(absolute=2.0**-9)))
        combined = pool.combined()
        assert combined.weights.sum() == keys.size
        assert combined.keys.size < keys.size / 2
        # Four merges of half a cell each, at most.
        error = np.abs(mass_above(combined, keys) - exact) / keys.size
        assert error.max() <= 4 / 2 * 2.0**-9 + 1e-9


def test_pool_memory_grows_with_the_logarithm_of_the_pictures():
    rng = np.random.default_rng(0)
    pool = SketchPool(resolution=Resolution(absolute=2.0**-6), buffer_size=4)
    sizes = {}
    for count in range(1, 512):
        keys = np.sort(rng.normal(size=100).astype(np.float32))
        pool.add(sketch_pixels(keys, UNIFORM))
        sizes[count] = pool.combined().keys.size
    assert max(sizes.values()) < 8 * 130 + 4 * 40


def test_empty_pool_has_nothing():
    assert SketchPool(resolution=UNIFORM).combined() is None


def test_concatenation_is_sorted_and_keeps_pairs_of_key_and_mass():
    first = sketch_pixels(np.array([1, 3], np.float32), UNIFORM)
    second = sketch_weighted(np.array([4, 2], np.float32), np.array([[40.0, 20.0]]), UNIFORM)
    combined = concatenate([first, second])
    assert combined.keys.tolist() == [1, 2, 3, 4]
    assert combined.weights.tolist() == [[1, 20, 1, 40]]
