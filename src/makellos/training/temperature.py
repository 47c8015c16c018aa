"""Temperature scaling: one number that makes a classifier's probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import InputError

__all__ = ["fit_temperature"]

Floats = NDArray[np.float64]

LOWEST, HIGHEST = 0.05, 20.0
_HALVINGS = 60  # of the logarithm's range, down to the last digits of a double


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Return the temperature T by which logits are divided before the sigmoid or softmax.

    It minimises the negative log-likelihood of the true classes (Guo et al. 2017, arXiv
    1706.04599) over [0.05, 20]. Where the logits separate the classes, ever sharper probabilities
    are ever likelier, which a few parts do not bear out: T is 1 then. Above 1 the classifier was
    too sure, below 1 not sure enough. `logits` are (n, K) for K classes, or (n,) or (n, 1) for
    two, then of class 1; `targets` (n,) are the indices of the true classes. Use parts that the
    classifier did not learn from. With fewer than 2 parts, or parts of one class alone, nothing
    can be fitted and T is 1. Raises InputError for logits that are not finite, for targets that
    are no classes and for lengths that differ.

    >>> float(round(fit_temperature([2.0, 2.0, 2.0, -2.0], [1, 1, 0, 0]), 3))
    1.82
    """
    scores = _check_logits(logits)
    classes = _check_targets(targets, scores)
    if len(scores) < 2 or (classes == classes[0]).all():
        return 1.0
    # The likelihood is concave in 1 / T, so that its slope changes sign at most once.
    low, high = -np.log(HIGHEST), -np.log(LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(scores, classes, np.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    if _slope(scores, classes, 1 / LOWEST) < 0:
        return 1.0
    found = float(np.clip(np.exp(-(low + high) / 2), LOWEST, HIGHEST))
    return min((1.0, found), key=lambda t: _negative_log_likelihood(scores, classes, 1 / t))


def _slope(scores: Floats, classes: NDArray[np.intp], sharpness: float) -> float:
    """Return the derivative of the negative log-likelihood with respect to 1 / T."""
    shares = np.exp(_log_softmax(scores * sharpness))
    of_truth = scores[np.arange(len(scores)), classes]
    return float(np.mean((shares * scores).sum(axis=1) - of_truth))


def _negative_log_likelihood(scores: Floats, classes: NDArray[np.intp], sharpness: float) -> float:
    logs = _log_softmax(scores * sharpness)
    return float(-np.mean(logs[np.arange(len(scores)), classes]))


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(axis=1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _check_logits(logits: ArrayLike) -> Floats:
    """Return logits (n, K), K at least 2, the largest of each part at 0."""
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise InputError(
            f"Temperature scaling takes finite logits (parts, classes), or (parts,) for two "
            f"classes; received shape {np.shape(logits)} with "
            f"{int((~np.isfinite(scores)).sum())} that are not finite. Check the training."
        )
    return scores


def _check_targets(targets: ArrayLike, scores: Floats) -> NDArray[np.intp]:
    given = np.asarray(targets)
    n, n_classes = scores.shape
    if given.shape != (n,):
        raise InputError(
            f"{n} parts have logits, but the targets have the shape {given.shape}; expected one "
            "target per part. Pass both in the same order."
        )
    if given.size and (
        given.dtype.kind not in "biu" or given.min() < 0 or given.max() >= n_classes
    ):
        raise InputError(
            f"The targets are {given.dtype} from {given.min()} to {given.max()}; expected the "
            f"indices of {n_classes} classes, 0 to {n_classes - 1}."
        )
    return given.astype(np.intp)
