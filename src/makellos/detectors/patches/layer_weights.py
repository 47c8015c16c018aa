"""Weighing: how much layers, a network and the mean of a map count.

Small damage stands out in the maximum of fine layers, damage that is wide and faint in the mean of
the coarsest, whose patches see much of the part. So the map holds the fine layers relative to their
mean in the picture, which changes with light and focus, and the coarsest by a quarter, for a few
good parts stand out in it by far; its mean counts beside its maximum. Labelled parts may tell more.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ENOUGH", "Weights", "summed_up", "weights_told"]

ENOUGH = 5  # labelled parts from which on they are asked
_FINENESS = (0.0, 1.0, 2.0, -1.0, -2.0)
_SHARES = (1.0, 0.5, 0.25, 0.0, 2.0)
_MEANS = (0.0, 2.0, 4.0, 8.0, 16.0)
_COARSEST = 0.25  # weight of the coarsest layer in the map
_WHOLE = 8.0  # weight of the map's mean: twice the mean distance of the coarsest layer
_TAIL = 0.01  # of good parts are rejected where the settings are compared
_STEEPNESS = 4.0  # scores waver by so much less than the threshold lies above the median
_BEYOND = 0.05  # of damaged parts are found by chance alone, whatever the setting

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """What counts how much in a score.

    A layer counts 2 to the power `fineness` times as much as the next coarser one, the network
    `share` of what its weight says, and `mean` times the mean of the map is added to its maximum.
    Beside that, the coarsest of several layers counts by a quarter.
    """

    fineness: float = 0.0
    share: float = 1.0
    mean: float = _WHOLE

    def of_layers(self, n_layers: int) -> NDArray[np.float32]:
        """Return the weight of each layer, the finest first.

        >>> [f"{weight:.2f}" for weight in Weights(fineness=1).of_layers(3)]
        ['1.71', '0.86', '0.11']
        """
        weights = 2.0 ** (-self.fineness * np.arange(n_layers))
        weights /= weights.mean()
        if n_layers > 1:
            weights[-1] *= _COARSEST
        return np.asarray(weights, np.float32)

    def of_mean(self, n_layers: int) -> float:
        """Return the weight of the map's mean, of which a single layer makes the whole."""
        return self.mean if n_layers > 1 else self.mean * _COARSEST


def combined(layers: Maps, weights: NDArray[np.float32]) -> Maps:
    """Return the map (h, w) of maps of distances (L, h, w), the finest first, as `PatchCore` does.

    >>> maps = np.float32([[[0, 0, 0], [0, 9, 0], [0, 0, 0]], np.full((3, 3), 4)])
    >>> [f"{value:.2f}" for value in combined(maps, np.float32([1, 0.25]))[1]]
    ['0.94', '0.60', '0.94']
    """
    relative = layers[:-1] - layers[:-1].mean((1, 2), keepdims=True)
    return _smoothed(np.tensordot(weights, np.concatenate([relative, layers[-1:]]), 1))


def summed_up(layers: Maps, logits: Maps) -> NDArray[np.float64]:
    """Return maximum and mean of a part's map for every fineness and share, fineness×shares×2.

    `layers` (L, h, w) are its maps of distances, the finest first, and `logits` (h, w) what the
    network adds at its full weight, neither smoothed. As fine layers do, they count relative to
    their mean, which would otherwise count as much as the coarsest layer's.
    """
    distances = [combined(layers, Weights(each).of_layers(len(layers))) for each in _FINENESS]
    added = _smoothed(logits - logits.mean())
    maps = [[each + np.float32(share) * added for share in _SHARES] for each in distances]
    return np.array([[(each.max(), each.mean()) for each in row] for row in maps])


def weights_told(
    figures: NDArray[np.float64], is_good: NDArray[np.bool_], *, by_mean: bool = True
) -> Weights:
    """Return the weights that labelled parts speak for; those by default of fewer than `ENOUGH`.

    `figures` (n, fineness, shares, 2) are those of `summed_up`, of good and of damaged parts that
    the network has not seen. The weights are a mean over all settings, each counting as much as it
    is likely that the threshold it sets finds every damaged part: the product over them of a
    logistic function of how far they lie above it, which does not fall to zero, so that a part
    that no setting finds decides nothing. Unlike the best setting, a mean changes little where one
    part more or less is labelled. Without `by_mean` the mean of the map counts as by default.
    """
    if np.count_nonzero(~is_good) < ENOUGH or not is_good.any():
        return Weights()
    settings = [Weights(*each) for each in product(_FINENESS, _SHARES, _MEANS)]
    maxima, means = (figures[..., i].reshape(len(figures), -1) for i in (0, 1))
    scores = maxima[..., np.newaxis] + np.array(_MEANS) * means[..., np.newaxis]
    scores = scores.reshape(len(figures), len(settings))
    threshold, usual = np.quantile(scores[is_good], [1 - _TAIL, 0.5], axis=0)
    above = (scores[~is_good] - threshold) / np.maximum(threshold - usual, 1e-12)
    found = 1 / (1 + np.exp(np.clip(-_STEEPNESS * above, -50, 50)))
    likely = np.log(_BEYOND + (1 - _BEYOND) * found).sum(0)
    likely[[each.mean != _WHOLE and not by_mean for each in settings]] = -np.inf
    chances = np.exp(likely - likely.max())
    told = np.average([astuple(each) for each in settings], axis=0, weights=chances)
    return Weights(*map(float, told))


def _smoothed(values: Maps) -> Maps:
    """Average over 3×3 neighbours, outside of which lies the mean, which stays as it is.

    A picture's border is no damage.
    """
    mean = values.mean()
    found = cv2.blur(values - mean, (3, 3), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(found - found.mean() + mean)
