"""Q-values of a batch against another library's, and the rate of false discoveries, simulated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.calibration import Calibration, check_discoveries, q_values
from makellos.errors import ConfigurationError, InputError


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.02, 0.5, 1.0]), max_size=60))
def test_q_values_are_the_smallest_rate_at_which_a_part_is_taken_out(p_values: list[float]) -> None:
    found, n = q_values(p_values), len(p_values)
    for q, p_value in zip(found, p_values, strict=True):
        # Benjamini and Hochberg: the least rate n p / k over the sets of the k smallest.
        rates = [n * p / sum(other <= p for other in p_values) for p in p_values if p >= p_value]
        assert q == pytest.approx(min(rates), abs=1e-12)


def test_q_values_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    p_values = np.random.default_rng(0).random(200) ** 3
    assert np.allclose(q_values(p_values), stats.false_discovery_control(p_values))


def test_of_parts_taken_out_no_more_are_good_than_asked() -> None:
    rng, shares, found = np.random.default_rng(1), [], 0
    for _ in range(600):
        calibration = Calibration(rng.normal(size=199), 0.05)
        good, damaged = rng.normal(size=80), rng.normal(4, 1, size=20)
        p_values = [calibration.p_value(score) for score in (*good, *damaged)]
        out = q_values(p_values) <= 0.2
        shares.append(out[:80].sum() / max(1, out.sum()))
        found += out[80:].sum()
    # Expected: 0.2 times the share of good parts. Standard error below 0.006.
    assert 0.12 < np.mean(shares) < 0.18
    assert found > 0.8 * 600 * 20


@pytest.mark.parametrize("wrong", [[0.5, 1.1], [-0.1], [float("nan")], [[0.5]]])
def test_p_values_out_of_range_are_refused(wrong: list[float]) -> None:
    with pytest.raises(InputError, match="0 to 1"):
        q_values(wrong)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_rates_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=r"such as 0\.1"):
        check_discoveries(share)
