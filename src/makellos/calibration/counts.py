"""The verdict on a recording from the verdicts on its windows."""

from __future__ import annotations

import math

__all__ = ["count_p_value"]


def count_p_value(n_rejected: int, n_windows: int, n_calibration: int, rank: int) -> float:
    """Return how likely a good recording has so many of its windows rejected, or more.

    A window is rejected where its score lies above the `rank` highest of `n_calibration` scores of
    good windows. Where all windows, calibrating and new, are exchangeable, the number of new ones
    above it follows the negative hypergeometric distribution, whatever the scores' own: so no
    window need be independent of the calibration. In [0, 1]; 1 for none rejected.

    >>> round(count_p_value(1, 1, 99, 1), 6)
    0.01
    >>> round(count_p_value(2, 10, 19, 1), 4)
    0.1108
    """
    if n_rejected <= 0:
        return 1.0
    whole = _log_choose(n_calibration + n_windows, n_windows)
    logs = [
        _log_choose(k + rank - 1, k)
        + _log_choose(n_windows - k + n_calibration - rank, n_windows - k)
        - whole
        for k in range(n_rejected, n_windows + 1)
    ]
    return min(1.0, math.fsum(math.exp(each) for each in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
