"""PyOD's networks, kept as arrays by name in place of the pickle that PyOD would write."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from makellos.detectors.networks.arrays import arrays_of, load_arrays
from makellos.errors import ConfigurationError

__all__ = ["load_network", "train_network"]

_MODULES = {"AutoEncoder": "auto_encoder", "DeepSVDD": "deep_svdd", "VAE": "vae"}
_PREFIX, _CENTRE = "network.", "centre"
_SEEDS = 2**32


def train_network(
    method: str, rows: NDArray[np.float64], *, epochs: int, batch_size: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Return what a network of PyOD learns from standardised rows N×F, as float32 arrays by name.

    Raises what PyOD raises, mostly `ValueError`.
    """
    with _apart():
        model = _make(method, rows.shape[1], epochs=epochs, batch_size=batch_size, seed=seed)
        np.random.seed(seed % _SEEDS)  # PyOD draws from the global generator
        model.fit(rows)
    network = model.model_ if method == "DeepSVDD" else model.model
    found = arrays_of(network, _PREFIX)
    if method == "DeepSVDD":
        found[_CENTRE] = model.c_.numpy().astype(np.float32)
    return found


def load_network(
    method: str, weights: Mapping[str, NDArray[np.float32]], n_features: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what scores standardised rows N×F with the arrays that `train_network` gave.

    Raises `ConfigurationError` for those of another network.
    """
    with _apart():  # first weights are drawn, and replaced
        model = _make(method, n_features, epochs=1, batch_size=512, seed=0)
        network = _build(method, model, n_features)
    if load_arrays(network, weights, _PREFIX) or (method == "DeepSVDD" and _CENTRE not in weights):
        raise ConfigurationError(
            f"pyod: the weights of the {method} do not fit {n_features} features. Fit the model "
            "again."
        )
    if method == "DeepSVDD":
        model.c_ = torch.from_numpy(np.array(weights[_CENTRE]))
    if method == "VAE":
        network.reparameterize = lambda mean, _log_variance: mean  # a draw would change the score

    def score(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if method == "DeepSVDD":
            return np.asarray(model.decision_function(rows), dtype=np.float64)
        # PyOD's own loader draws from torch's global generator at every call.
        found = model.evaluate([torch.from_numpy(rows.astype(np.float32))])
        return np.asarray(found, dtype=np.float64)

    return score


def _make(method: str, n_features: int, *, epochs: int, batch_size: int, seed: int) -> Any:
    """Return an untrained detector of PyOD, which computes on the processor."""
    module = importlib.import_module(f"pyod.models.{_MODULES[method]}")
    settings: dict[str, Any] = {"random_state": seed % _SEEDS, "verbose": 0}
    settings |= {"preprocessing": False, "batch_size": batch_size}
    if method == "DeepSVDD":
        settings |= {"n_features": n_features, "epochs": epochs}
    else:
        settings |= {"epoch_num": epochs, "device": torch.device("cpu")}
    return getattr(module, method)(**settings)


def _build(method: str, model: Any, n_features: int) -> Any:
    """Give an untrained detector its network, as its fit does, and return that."""
    if method != "DeepSVDD":
        model.feature_size = n_features
        model.build_model()
        return model.model
    module = importlib.import_module("pyod.models.deep_svdd")
    model.model_ = module.InnerDeepSVDD(
        n_features,
        use_ae=model.use_ae,
        hidden_neurons=model.hidden_neurons,
        hidden_activation=model.hidden_activation,
        output_activation=model.output_activation,
        dropout_rate=model.dropout_rate,
        l2_regularizer=model.l2_regularizer,
    )
    return model.model_


@contextmanager
def _apart() -> Iterator[None]:
    """Keep what PyOD does to the random numbers of the whole process inside."""
    drawn, numbers = random.getstate(), np.random.get_state()
    hashing = os.environ.get("PYTHONHASHSEED")
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(drawn)
        np.random.set_state(numbers)
        if hashing is None:
            os.environ.pop("PYTHONHASHSEED", None)
        else:
            os.environ["PYTHONHASHSEED"] = hashing
