"""The batched k-center selection against the plain loop, and what it covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from makellos.detectors.patches import coreset
from makellos.detectors.patches.coreset import coverage, k_center, merge, reduce_to, spacings

Points = NDArray[np.float32]


def plain_loop(points: Points, n_keep: int) -> list[int]:
    """Return the picks of Gonzalez 1985: again and again the point farthest from those kept."""
    exact = points.astype(np.float64)
    kept = [int(np.argmax(((exact - exact.mean(0)) ** 2).sum(1)))]
    distances = ((exact - exact[kept[0]]) ** 2).sum(1)
    while len(kept) < n_keep:
        kept.append(int(np.argmax(distances)))
        distances = np.minimum(distances, ((exact - exact[kept[-1]]) ** 2).sum(1))
    return kept


def radius(points: Points, kept: NDArray[np.intp] | list[int]) -> float:
    """Return the largest distance of a point to its nearest kept point, by brute force."""
    exact = points.astype(np.float64)
    nearest = np.full(len(points), np.inf)
    for i in kept:
        np.minimum(nearest, ((exact - exact[i]) ** 2).sum(1), out=nearest)
    return float(np.sqrt(nearest.max()))


def cloud(n_points: int, n_channels: int, seed: int = 0) -> Points:
    return np.random.default_rng(seed).normal(size=(n_points, n_channels)).astype(np.float32)


def clusters(n_points: int, n_channels: int) -> Points:
    """Return points in 40 tight clusters of very different sizes."""
    rng = np.random.default_rng(1)
    sizes = rng.dirichlet(np.full(40, 0.3))
    owner = rng.choice(40, n_points, p=sizes)
    centers = rng.normal(0, 10, (40, n_channels))
    return (centers[owner] + rng.normal(0, 0.5, (n_points, n_channels))).astype(np.float32)


def heavy_tails(n_points: int, n_channels: int) -> Points:
    """Return points of which few lie very far out."""
    return np.random.default_rng(2).standard_t(2, (n_points, n_channels)).astype(np.float32)


@pytest.mark.parametrize(("n_points", "n_keep"), [(30, 7), (1500, 40), (4000, 600), (1024, 1023)])
def test_without_slack_the_picks_are_those_of_the_plain_loop(n_points: int, n_keep: int) -> None:
    points = cloud(n_points, 12)
    assert k_center(points, n_keep, slack=0).tolist() == plain_loop(points, n_keep)


@pytest.mark.parametrize("make", [clusters, heavy_tails, cloud], ids=lambda f: f.__name__)
@pytest.mark.parametrize("n_keep", [30, 200, 600])
def test_what_is_kept_covers_as_well_as_the_plain_loop(make: object, n_keep: int) -> None:
    points = make(4000, 16)  # type: ignore[operator]
    ours = radius(points, k_center(points, n_keep))
    assert ours <= 1.05 * radius(points, plain_loop(points, n_keep))


def test_far_points_are_kept_first() -> None:
    points = cloud(5000, 8)
    points[[17, 400, 4999]] += np.float32(100) * np.eye(3, 8, dtype=np.float32)
    assert {17, 400, 4999} <= set(k_center(points, 4).tolist())


@settings(max_examples=40)
@given(
    n_points=st.integers(2, 60),
    copies=st.integers(1, 30),
    share=st.floats(0.01, 0.99),
    slack=st.sampled_from([0.0, 0.03, 0.5]),
)
def test_no_point_is_kept_twice(n_points: int, copies: int, share: float, slack: float) -> None:
    """Copies lie at no distance but for rounding, which must not bring a kept point back."""
    points = np.concatenate([10 * cloud(n_points, 40)] * copies)
    n_keep = max(1, int(share * len(points)))
    kept = k_center(points, n_keep, slack=slack)
    assert len(kept) == n_keep
    assert len(set(kept.tolist())) == n_keep


@pytest.mark.parametrize("slack", [0.0, 0.03])
def test_many_copies_are_kept_once_each_before_any_twice(slack: float) -> None:
    """More copies than are taken out as candidates at once."""
    points = np.concatenate([10 * cloud(300, 40)] * 20)
    kept = k_center(points, 2000, slack=slack)
    assert len(set(kept.tolist())) == 2000
    assert set((kept[:300] % 300).tolist()) == set(range(300))


@pytest.mark.parametrize("n_keep", [5, 6, 100])
def test_all_points_are_kept_where_as_many_are_asked_for(n_keep: int) -> None:
    assert k_center(cloud(5, 3), n_keep).tolist() == [0, 1, 2, 3, 4]


def test_equal_points_are_no_trouble() -> None:
    kept = k_center(np.ones((2000, 4), np.float32), 1500)
    assert len(set(kept.tolist())) == 1500


def test_selection_is_deterministic() -> None:
    points = clusters(5000, 16)
    assert k_center(points, 400).tolist() == k_center(points.copy(), 400).tolist()


def test_points_are_left_as_they_are() -> None:
    points = cloud(3000, 6)
    before = points.copy()
    k_center(points, 100)
    np.testing.assert_array_equal(points, before)


def test_progress_ends_with_all() -> None:
    told: list[tuple[int, int]] = []
    k_center(cloud(3000, 6), 500, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (500, 500)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_coverage_is_that_of_brute_force() -> None:
    points = heavy_tails(17_000, 4)
    kept = np.random.default_rng(0).choice(len(points), 1100, replace=False)
    assert coverage(points, kept) == pytest.approx(radius(points, kept), rel=1e-3)
    assert coverage(cloud(500, 4), np.arange(500)) == pytest.approx(0, abs=0.01)


# Spacings


@pytest.mark.parametrize("num_neighbors", [1, 5, 500])
def test_spacings_are_those_of_brute_force(num_neighbors: int) -> None:
    points = cloud(3000, 4)  # more than one batch of rows
    some = points[:40].astype(np.float64)
    distances = np.sqrt(((some[:, np.newaxis] - points) ** 2).sum(2))
    expected = np.sort(distances, axis=1)[:, 1 : num_neighbors + 1].mean(1)
    found = spacings(points, num_neighbors)
    assert found.mean() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found[:40] / found[0], expected / expected[0], rtol=1e-3)


def test_lonely_points_count_as_others_do() -> None:
    points = np.concatenate([cloud(95, 3), cloud(5, 3) * 20 + 50])
    plain, capped = spacings(points, 3), spacings(points, 3, 0.9)
    assert plain[95:].min() > 2 * plain[:95].max()
    assert capped.max() == pytest.approx(np.quantile(plain, 0.9))
    usual = plain <= np.quantile(plain, 0.9)
    np.testing.assert_array_equal(capped[usual], plain[usual])


def test_points_that_are_all_alike_are_no_measure() -> None:
    points = np.concatenate([np.zeros((50, 3), np.float32), cloud(50, 3) + 9])
    assert spacings(points, 3).min() == pytest.approx(0.1)
    assert (spacings(np.ones((9, 3), np.float32), 3) == 1).all()
    assert spacings(np.ones((1, 3), np.float32), 3).tolist() == [1]


@pytest.mark.parametrize("make", [clusters, heavy_tails, cloud], ids=lambda f: f.__name__)
def test_a_merged_coreset_covers_nearly_as_well_as_one_of_all_points(make: object) -> None:
    points = make(8000, 16)  # type: ignore[operator]
    merged = merge([reduce_to(points[i::4], 400) for i in range(4)], 400)
    assert merged.n_points == len(points)
    nearest = np.sqrt(((points[:, None, :] - merged.points[None]) ** 2).sum(2).min(1)).max()
    assert nearest <= merged.radius * (1 + 1e-5)
    assert nearest <= 1.15 * radius(points, k_center(points, 400))


def test_a_merge_keeps_the_one_point_that_a_single_set_has() -> None:
    points = cloud(3000, 6)
    points[17] += 100
    merged = merge([reduce_to(part, 20) for part in np.array_split(points, 3)], 20)
    assert points[17].tolist() in merged.points.tolist()


def test_sets_without_points_are_left_out_of_a_merge() -> None:
    whole = reduce_to(cloud(50, 3), 5)
    nothing = reduce_to(np.empty((0, 3), np.float32), 5)
    assert merge([nothing, whole, nothing], 5).points.shape == (5, 3)
    assert merge([], 5).n_points == 0


@pytest.mark.parametrize("make", [clusters, heavy_tails, cloud], ids=lambda f: f.__name__)
@pytest.mark.parametrize("n_keep", [40, 300])
def test_of_many_points_a_sample_covers_as_well(
    make: object, n_keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = make(20_000, 16)  # type: ignore[operator]
    whole = radius(points, k_center(points, n_keep))
    monkeypatch.setattr(coreset, "_SAMPLE", 1500)
    kept = k_center(points, n_keep)
    assert len(set(kept.tolist())) == n_keep
    assert radius(points, kept) <= 1.05 * whole


def test_what_only_one_of_many_points_shows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "_SAMPLE", 1000)
    points = cloud(30_000, 8)
    points[[17, 4001, 29_998]] += np.float32(50) * np.eye(3, 8, dtype=np.float32)
    assert {17, 4001, 29_998} <= set(k_center(points, 50).tolist())


def test_many_equal_points_are_kept_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "_SAMPLE", 500)
    kept = k_center(np.ones((9000, 3), np.float32), 200)
    assert len(set(kept.tolist())) == 200
