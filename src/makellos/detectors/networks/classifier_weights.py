"""Take a classifier apart into arrays, and put it together again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.detectors.networks.dense_classifier import DenseNetwork
from makellos.errors import ModelFileError

__all__ = ["rebuild", "weights_of"]


def weights_of(network: ClassifierNetwork, temperature: float) -> dict[str, NDArray[np.float32]]:
    """Return what rebuilds a network, as arrays by name."""
    kept = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    arrays = {name: values.detach().cpu().float().numpy() for name, values in kept.items()}
    return {**arrays, "temperature": np.array([temperature], np.float32)}


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
    state = {k: torch.from_numpy(np.array(v)) for k, v in weights.items() if k != "temperature"}
    wanted = {k for k in rebuilt.state_dict() if not k.endswith("num_batches_tracked")}
    have = {name: values.shape for name, values in rebuilt.state_dict().items() if name in wanted}
    wrong = {*wanted.symmetric_difference(state)}
    wrong |= {name for name in wanted & set(state) if state[name].shape != have[name]}
    if wrong or "temperature" not in weights:
        raise ModelFileError(
            f"The weights in the model file do not fit {network}: {len(wrong)} tensors are "
            "missing, too many or of another shape. Fit the model again, or use the version of "
            "timm that it was fitted with; 'makellos info' names it."
        )
    rebuilt.load_state_dict(state, strict=False)
    return rebuilt.eval(), float(weights["temperature"][0])
