"""Exact bounds and tails, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from makellos import InputError
from makellos.evaluation.exact import (
    effective_units,
    exact_bounds,
    rejected_as_many,
    share_of,
)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_are_those_of_clopper_and_pearson(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = exact_bounds(k, n)
    assert low == pytest.approx(0.0 if k == 0 else stats.beta.ppf(0.025, k, n - k + 1), rel=1e-7)
    assert high == pytest.approx(1.0 if k == n else stats.beta.ppf(0.975, k + 1, n - k), rel=1e-7)


def test_bounds_of_parts_that_count_together() -> None:
    low, high = exact_bounds(1.5, 10)
    assert low == pytest.approx(stats.beta.ppf(0.025, 1.5, 9.5))
    assert high == pytest.approx(stats.beta.ppf(0.975, 2.5, 8.5))


@pytest.mark.parametrize(("n_hit", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_no_share(n_hit: int, n: int) -> None:
    with pytest.raises(InputError, match="is no share"):
        exact_bounds(n_hit, n)


@pytest.mark.parametrize(
    ("k", "n", "n_calibrated", "budget"), [(3, 100, 99, 0.01), (9, 50, 30, 0.1)]
)
def test_rejections_by_chance_are_beta_binomial(
    k: int, n: int, n_calibrated: int, budget: float
) -> None:
    rank = int(budget * (n_calibrated + 1) + 1e-9)
    expected = stats.betabinom.sf(k - 1, n, rank, n_calibrated + 1 - rank)
    assert rejected_as_many(k, n, n_calibrated, budget) == pytest.approx(expected)
    assert rejected_as_many(0, n, n_calibrated, budget) == 1.0


def test_threshold_of_good_parts_rejects_as_many_as_said() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 19 + 40))
    threshold = np.sort(scores[:, :19])[:, -2]  # a budget of 0.1: the second highest of 19
    many = (scores[:, 19:] >= threshold[:, None]).sum(1) >= 7
    assert many.mean() == pytest.approx(rejected_as_many(7, 40, 19, 0.1), abs=0.02)


def test_share_counts_a_group_once() -> None:
    alone = share_of([True, True, False, False], [None] * 4)
    grouped = share_of([True, True, False, False], ["a", "a", "b", "b"])
    assert (alone.n_hit, alone.n, alone.n_units, alone.share) == (2, 4, 4, 0.5)
    assert (grouped.n_units, grouped.share) == (2, 0.5)
    assert (grouped.low, grouped.high) == exact_bounds(1, 2)
    assert share_of([], []).share is None
    with pytest.raises(InputError, match="expected as many"):
        share_of([True], [])


def test_bounds_cover_the_share_where_groups_differ_in_size() -> None:
    sizes = [300, 200, 100, *[20] * 5]
    groups = [f"lot {i}" for i, size in enumerate(sizes) for _ in range(size)]
    rng, outside = np.random.default_rng(0), 0
    for _ in range(300):
        rejected = rng.random(len(sizes)) < 0.2
        share = share_of(np.repeat(rejected, sizes).tolist(), groups)
        assert share.low is not None
        assert share.high is not None
        outside += not share.low <= 0.2 <= share.high
    assert outside / 300 < 0.1


def test_groups_of_one_size_count_as_many_as_they_are() -> None:
    assert effective_units(["a", "a", "b", "b", None, None]) == pytest.approx(36 / 10)
    assert effective_units([None] * 7) == 7
    assert effective_units([]) == 0
