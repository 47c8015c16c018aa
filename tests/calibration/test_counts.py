"""The verdict on a recording from its windows: an exact count, whatever the scores."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from makellos.calibration import count_p_value


@pytest.mark.parametrize(("n_windows", "n_calibration", "rank"), [(3, 4, 1), (4, 5, 2), (1, 6, 3)])
def test_the_p_value_counts_all_orders(n_windows: int, n_calibration: int, rank: int) -> None:
    """Of all places that new windows may take among the calibrating ones, each is as likely."""
    whole = n_windows + n_calibration
    counts = []
    for places in combinations(range(whole), n_windows):  # ranks of the new ones, highest first
        calibrating = [place for place in range(whole) if place not in places]
        counts.append(sum(place < calibrating[rank - 1] for place in places))
    for k in range(n_windows + 1):
        expected = np.mean([count >= k for count in counts])
        assert count_p_value(k, n_windows, n_calibration, rank) == pytest.approx(expected)


def test_good_recordings_are_rejected_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(0)
    n_calibration, n_windows, rank, budget = 39, 30, 2, 0.05
    scores = rng.exponential(size=(4000, n_calibration + n_windows))
    limits = np.sort(scores[:, :n_calibration], axis=1)[:, -rank]
    counts = (scores[:, n_calibration:] > limits[:, None]).sum(1)
    rejected = [count_p_value(int(k), n_windows, n_calibration, rank) <= budget for k in counts]
    assert np.mean(rejected) <= 0.06
    assert np.mean(rejected) > 0.01


def test_large_counts_stay_finite() -> None:
    assert count_p_value(100_000, 100_000, 5000, 50) == pytest.approx(0, abs=1e-12)
    assert count_p_value(0, 10, 10, 1) == 1
    expected = 0.99**100  # as many lie above the highest of 100 as a share drawn so
    assert count_p_value(1000, 100_000, 100, 1) == pytest.approx(expected, rel=0.01)
