"""Discoveries in a batch: which parts to take for damaged so that few of them are good.

A budget bounds how many of the good parts are rejected. Of a batch one may rather want to bound how
many of those taken out are good: the false discovery rate (Benjamini and Hochberg 1995). It holds
for conformal p-values, although all hang on the same calibration (Bates et al. 2023, theorem 2);
where parts are grouped or cross-fitted it holds as the p-values themselves do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import ConfigurationError, InputError

__all__ = ["check_discoveries", "q_values"]


def q_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return the q-values (n,) of a batch with `p_values` (n,), each in [0, 1].

    Taking out all parts with a q-value of at most q, on average at most the share q of them are
    good. Raises `InputError` for p-values out of range.

    >>> q_values([0.01, 0.5, 0.02, 0.9]).round(2).tolist()
    [0.04, 0.67, 0.04, 0.9]
    """
    found = np.asarray(p_values, np.float64)
    if found.ndim != 1 or not ((found >= 0) & (found <= 1)).all():
        raise InputError(
            f"P-values have the shape {found.shape}; expected a row of numbers from 0 to 1, one "
            "for each part."
        )
    order = np.argsort(found, kind="stable")
    scaled = found[order] * found.size / np.arange(1, found.size + 1)
    result = np.empty_like(found)
    result[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return result


def check_discoveries(share: float) -> None:
    """Raise `ConfigurationError` for a false discovery rate that is out of range."""
    if not 0.0 < share < 1.0:
        raise ConfigurationError(
            f"The share of false discoveries is {share:g}; expected a share above 0 and below 1, "
            "such as 0.1 where one in ten parts taken out may be good."
        )
