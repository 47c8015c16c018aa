"""Take a classifier apart into arrays, and put it together again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from makellos.detectors.networks.arrays import arrays_of, load_arrays
from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.detectors.networks.dense_classifier import DenseNetwork
from makellos.errors import ModelFileError

__all__ = ["rebuild", "weights_of"]


def weights_of(network: ClassifierNetwork, temperature: float) -> dict[str, NDArray[np.float32]]:
    """Return what rebuilds a network, as arrays by name."""
    return {**arrays_of(network), "temperature": np.array([temperature], np.float32)}


def rebuild(
    network: str,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    stride: int = 0,
    standardise: bool = False,
) -> tuple[ClassifierNetwork, float]:
    """Return the network that `weights_of` took apart, in evaluation mode, and its temperature.

    Raises `ModelFileError` for weights that do not fit.
    """
    n_logits = len(weights["head.bias"]) if "head.bias" in weights else 1
    dense = any(name.startswith("neck.") for name in weights)
    kind = DenseNetwork if dense else ClassifierNetwork
    rebuilt = kind(network, n_logits, stride=stride, standardise=standardise)
    wrong = load_arrays(rebuilt, {k: v for k, v in weights.items() if k != "temperature"})
    if wrong or "temperature" not in weights:
        raise ModelFileError(
            f"The weights in the model file do not fit {network}: {len(wrong)} tensors are "
            "missing, unexpected or of another shape. Fit the model again, or use the version of "
            "timm that it was fitted with; 'makellos info' names it."
        )
    return rebuilt, float(weights["temperature"][0])
