"""The beta distribution: of shares that are known from a few parts, and of order statistics."""

from __future__ import annotations

import math
import sys

__all__ = ["beta_quantile", "beta_share", "log_beta"]

_MOST_STEPS = 100_000  # of a continued fraction; about the root of its parameters are needed
_TINY = 1e-300


def beta_share(a: float, b: float, below: float) -> float:
    """Return the probability that Beta(a, b) lies below a value in [0, 1].

    It is the regularised incomplete beta function, by its continued fraction (Abramowitz and
    Stegun 26.5.8).
    """
    if below <= 0 or below >= 1:
        return float(below >= 1)
    if below > (a + 1) / (a + b + 2):  # there the fraction of the other side converges
        return 1.0 - beta_share(b, a, 1.0 - below)
    log_front = a * math.log(below) + b * math.log1p(-below) - log_beta(a, b)
    return math.exp(log_front) / (a * _fraction(a, b, below))


def beta_quantile(a: float, b: float, share: float) -> float:
    """Return the value in [0, 1] that Beta(a, b) stays below with a probability of `share`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_share(a, b, middle) < share:
            low = middle
        else:
            high = middle
    return high


def _fraction(a: float, b: float, x: float) -> float:
    """Return 1 + d1 / (1 + d2 / (1 + ...)), from its front (the method of Lentz)."""
    whole = c = 1.0
    d = 0.0
    for step in range(1, _MOST_STEPS):
        m, is_odd = divmod(step, 2)
        if is_odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / ((1.0 + term * d) or _TINY)
        c = (1.0 + term / c) or _TINY
        whole *= c * d
        if abs(c * d - 1.0) < 4 * sys.float_info.epsilon:
            break
    return whole


def log_beta(a: float, b: float) -> float:
    """Return the logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
