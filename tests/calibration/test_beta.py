"""The beta distribution, against SciPy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from makellos.calibration.beta import beta_quantile, beta_share
from makellos.calibration.drift import largest_share


@given(st.floats(0.05, 5000), st.floats(0.05, 5000), st.floats(0, 1))
def test_incomplete_beta(a: float, b: float, x: float) -> None:
    assert beta_share(a, b, x) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


@given(st.floats(1, 5000), st.floats(1, 5000), st.floats(1e-6, 1 - 1e-6))
def test_quantiles(a: float, b: float, share: float) -> None:
    assert beta_quantile(a, b, share) == pytest.approx(stats.beta.ppf(share, a, b), rel=1e-6)


@given(
    st.integers(2, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.floats(1e-6, 0.5),
)
def test_share_beyond_an_order_statistic(n_and_k: tuple[int, int], doubt: float) -> None:
    # With that share, fewer than k of n lie beyond with the probability of the doubt.
    n, k = n_and_k
    share = largest_share(n, k, doubt)
    assert stats.binom.cdf(k - 1, n, share) == pytest.approx(doubt, rel=1e-3)
