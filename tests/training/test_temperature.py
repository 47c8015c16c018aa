"""Temperature scaling: a known temperature comes back, and nothing gets worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makellos.errors import InputError
from makellos.training.temperature import fit_temperature


def likelihood(logits, targets, temperature):
    """Negative log-likelihood, one part after the other."""
    scaled = np.asarray(logits, float) / temperature
    if scaled.ndim == 1:
        scaled = np.stack([np.zeros_like(scaled), scaled], axis=1)
    return np.mean(
        [np.logaddexp.reduce(row) - row[t] for row, t in zip(scaled, targets, strict=True)]
    )


def drawn(rng, n, n_classes, temperature):
    """Logits that are too sharp by `temperature`, and classes by the true probabilities."""
    logits = 2 * rng.normal(size=(n, n_classes))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.argmax(chances.cumsum(axis=1) >= rng.random((n, 1)), axis=1)
    return logits * temperature, targets


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("n_classes", [2, 6])
def test_a_known_temperature_comes_back(temperature, n_classes):
    logits, targets = drawn(np.random.default_rng(0), 20_000, n_classes, temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)


def test_one_logit_of_defective_is_two_classes():
    logits, targets = drawn(np.random.default_rng(1), 500, 2, 3.0)
    expected = fit_temperature(logits, targets)
    margin = logits[:, 1] - logits[:, 0]
    assert fit_temperature(margin, targets) == pytest.approx(expected)
    assert fit_temperature(margin[:, np.newaxis], targets == 1) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_another_minimiser(seed):
    optimize = pytest.importorskip("scipy.optimize")
    logits, targets = drawn(np.random.default_rng(seed), 60, 4, 1.7)
    expected = optimize.minimize_scalar(
        lambda log: likelihood(logits, targets, np.exp(log)),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit_temperature(logits, targets) == pytest.approx(np.exp(expected.x), rel=1e-4)


logit = st.floats(-50, 50, width=32) | st.integers(-3, 3).map(float)


@settings(deadline=None)
@given(st.lists(st.tuples(logit, logit, logit, st.integers(0, 2)), max_size=12))
def test_it_is_in_bounds_and_never_worse_than_one(rows):
    logits = np.array([row[:3] for row in rows]).reshape(-1, 3)
    targets = np.array([row[3] for row in rows], dtype=int)
    found = fit_temperature(logits, targets)
    assert 0.05 <= found <= 20
    if rows:
        after, before = (likelihood(logits, targets, t) for t in (found, 1.0))
        assert after <= before + 1e-9 * (1 + before)


def test_separated_classes_leave_one_and_wrong_ones_end_the_range():
    assert fit_temperature([5.0, -5.0], [1, 0]) == 1.0
    assert fit_temperature([5.0, -5.0], [0, 1]) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("logits", "targets"),
    [([], []), ([3.0], [1]), ([3.0, -1.0], [1, 1]), ([[0.0, 9.0]] * 3, [0, 0, 0])],
)
def test_nothing_to_fit_leaves_one(logits, targets):
    assert fit_temperature(logits, targets) == 1.0


def test_equal_logits_leave_one():
    assert fit_temperature([[2.0, 2.0]] * 4, [0, 1, 0, 1]) == 1.0


def test_huge_logits_do_not_overflow():
    found = fit_temperature([[1e6, -1e6], [-1e6, 1e6], [1e6, -1e6]], [0, 1, 1])
    assert found == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        ([1.0, np.nan], [0, 1], r"1 that are not finite"),
        ([[[1.0]]], [0], r"shape \(1, 1, 1\)"),
        ([1.0, 2.0], [0], r"2 parts have logits"),
        ([1.0, 2.0], [0, 2], r"indices of 2 classes, 0 to 1"),
        ([1.0, 2.0], [0, -1], r"from -1 to 0"),
        ([1.0, 2.0], [0.0, 1.0], r"targets are float64"),
    ],
)
def test_wrong_input_is_named(logits, targets, message):
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, targets)
