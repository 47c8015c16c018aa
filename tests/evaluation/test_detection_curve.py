"""Probability of detection by size, against scikit-learn, brute force and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from makellos import InputError
from makellos.evaluation.detection_curve import detection_curve

Floats = NDArray[np.float64]
MU, SLOPE = 2.0, 3.0  # of the logit of the true curve, over the logarithm of sizes


def drawn(n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    sizes = np.exp(rng.uniform(1, 3, n))
    return sizes, rng.random(n) < 1 / (1 + np.exp(-SLOPE * (np.log(sizes) - MU)))


@pytest.mark.parametrize("seed", range(3))
def test_fit_is_that_of_an_unpenalised_logit(seed: int) -> None:
    sizes, found = drawn(90, np.random.default_rng(seed))
    curve = detection_curve(sizes, found)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000)
    model.fit(np.log(sizes)[:, None], found)
    assert curve.finding == "fitted"
    assert curve.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert curve.intercept == pytest.approx(model.intercept_[0], rel=1e-4)
    assert curve.a50 is not None and curve.a90 is not None
    shares = model.predict_proba(np.log([[curve.a50], [curve.a90]]))[:, 1]
    assert shares == pytest.approx([0.5, 0.9], abs=1e-4)


def test_bound_is_where_the_likelihood_of_its_profile_has_dropped() -> None:
    sizes, found = drawn(70, np.random.default_rng(5))
    curve = detection_curve(sizes, found, n_points=5)
    x = np.log(sizes)

    def loss(b0: Floats, b1: Floats) -> Floats:
        logits = b0[:, None] + b1[:, None] * x
        return np.logaddexp(0, np.where(found, -logits, logits)).sum(1)

    slopes = np.linspace(0, 15, 30_001)
    assert curve.intercept is not None and curve.slope is not None
    least = loss(np.array([curve.intercept]), np.array([curve.slope]))[0]
    for share, bound in [(0.9, curve.a90_95), *((p, far) for _, p, far in curve.points)]:
        assert bound is not None
        intercepts = np.log(share / (1 - share)) - slopes * np.log(bound)
        assert 2 * (loss(intercepts, slopes).min() - least) == pytest.approx(2.7055, abs=2e-3)
        a = np.exp((np.log(share / (1 - share)) - curve.intercept) / curve.slope)
        assert bound > a


def test_bound_covers_in_95_of_100_plants() -> None:
    rng, covered = np.random.default_rng(0), []
    true = np.exp(MU + np.log(9) / SLOPE)
    for _ in range(250):
        curve = detection_curve(*drawn(80, rng))
        covered.append(curve.a90_95 is None or curve.a90_95 >= true)
    assert 0.91 <= np.mean(covered) <= 0.99  # 0.93 in 400 plants; 0.95 is nominal


def test_unit_of_sizes_does_not_matter() -> None:
    sizes, found = drawn(80, np.random.default_rng(1))
    pixels, metres = detection_curve(sizes, found), detection_curve(2e-5 * sizes, found)
    assert pixels.a90_95 is not None and metres.a90_95 is not None
    assert metres.a90_95 == pytest.approx(2e-5 * pixels.a90_95, rel=1e-6)


@pytest.mark.parametrize(
    ("sizes", "found", "finding"),
    [
        ([1, 2, 3], [0, 1, 1], "few"),
        ([], [], "few"),
        ([2] * 12, [0, 1] * 6, "no size"),
        (range(1, 13), [1] * 12, "all found"),
        (range(1, 13), [0] * 12, "none found"),
        (range(1, 13), [0] * 5 + [1] * 7, "separable"),
        ([1, 2, 3, 4, 5, 5, 6, 7, 8, 9], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1], "separable"),
        (range(1, 13), [1] * 5 + [0] * 7, "no slope"),
        (range(1, 13), [1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0], "no slope"),
    ],
)
def test_no_curve_is_no_error(sizes: list[float], found: list[int], finding: str) -> None:
    curve = detection_curve([*sizes], [*found])
    assert (curve.finding, curve.a90, curve.a90_95) == (finding, None, None)
    assert (curve.n, curve.n_found) == (len(sizes), sum(found))


def test_slope_that_may_be_none_has_no_bound() -> None:
    sizes = np.arange(1, 41)
    found = np.tile([False, True], 20)
    found[-1] = True
    curve = detection_curve(sizes, found)
    assert curve.finding == "fitted" and curve.a90 is not None
    assert curve.a90_95 is None


def test_sizes_are_above_zero() -> None:
    with pytest.raises(InputError, match="not a number above 0"):
        detection_curve([1.0, 0.0], [True, False])
    with pytest.raises(InputError, match="one entry per part"):
        detection_curve([1.0, 2.0], [True])


def test_parts_that_count_together_widen_the_bound() -> None:
    sizes, found = drawn(80, np.random.default_rng(3))
    alone = detection_curve(sizes, found)
    twice = detection_curve(np.tile(sizes, 2), np.tile(found, 2), n_units=80)
    assert twice.a90 == pytest.approx(alone.a90, rel=1e-6)
    assert twice.a90_95 == pytest.approx(alone.a90_95, rel=1e-6)
    narrow = detection_curve(np.tile(sizes, 2), np.tile(found, 2))
    assert narrow.a90_95 is not None and alone.a90_95 is not None
    assert narrow.a90_95 < alone.a90_95


@pytest.mark.parametrize(("small", "large"), [((21, 10), (44, 21)), ((23, 11), (25, 12))])
def test_a_slope_just_above_none_has_no_sizes_without_end(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    sizes = np.repeat([5.0, 20.0], [small[0], large[0]])
    found = [i < n for count, n in (small, large) for i in range(count)]
    curve = detection_curve(sizes, np.array(found), n_points=33)
    assert all(np.isfinite(size) for size, _, _ in curve.points)
