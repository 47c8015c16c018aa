"""PyOD's detectors as they are used here: how each is made, and what is kept of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError
from makellos.inspection.external_runtime import require_runtime

__all__ = [
    "METHODS",
    "NETWORKS",
    "SURE",
    "JointTails",
    "Matrix",
    "fitted",
    "guarded",
    "require",
    "standardisation",
    "standardise",
]

Matrix = NDArray[np.float64]
Made = TypeVar("Made")

SURE = "KNN, ECOD or GMM"
_FAR = 1e6  # standard deviations; what lies further out is no further away


@dataclass(frozen=True)
class Method:
    """Say how a detector of PyOD is made, and how what it learned is kept.

    ``fitted again`` keeps the rows it learned from and fits to them when a model is opened; so does
    ``joint``, which PyOD scores together with its rows, and for which there are closed forms here;
    ``network`` keeps weights. `bounded` is an argument, with PyOD's default, below the number of
    rows; `rows_per_feature` is what a covariance takes at least.
    """

    module: str
    kept: Literal["fitted again", "joint", "network"] = "fitted again"
    seeded: bool = False
    bounded: tuple[str, int] | None = None
    rows_per_feature: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


METHODS: dict[str, Method] = {
    "AutoEncoder": Method("auto_encoder", "network"),
    "COPOD": Method("copod", "joint"),
    "DeepSVDD": Method("deep_svdd", "network"),
    "ECOD": Method("ecod", "joint"),
    "GMM": Method("gmm", seeded=True),
    # Bins of a given number are counted by code that is compiled, for seconds, at every start.
    "HBOS": Method("hbos", settings={"n_bins": "auto"}),
    "IForest": Method("iforest", seeded=True),
    "INNE": Method("inne", seeded=True),
    "KDE": Method("kde"),
    "KNN": Method("knn", bounded=("n_neighbors", 5)),
    "LODA": Method("loda", seeded=True),
    "LOF": Method("lof", bounded=("n_neighbors", 20)),
    "MCD": Method("mcd", seeded=True, rows_per_feature=2),
    "OCSVM": Method("ocsvm"),
    "PCA": Method("pca", seeded=True, rows_per_feature=1),
    "Sampling": Method("sampling", seeded=True, bounded=("subset_size", 20)),
    "VAE": Method("vae", "network"),
}
NETWORKS = tuple(name for name, method in METHODS.items() if method.kept == "network")


class JointTails:
    """Score a row by its tails among the learned rows and itself, as ECOD and COPOD do.

    PyOD counts within all rows of a batch, and a part's score then depends on its neighbours there.
    """

    def __init__(self, method: str, rows: Matrix) -> None:
        self._method = method
        self._columns = np.sort(rows, axis=0)
        self._sums = [np.sum(rows**power, axis=0) for power in (1, 2, 3)]

    def __call__(self, batch: Matrix) -> Matrix:
        n_rows = len(self._columns) + 1
        below = np.empty(batch.shape)
        above = np.empty(batch.shape)
        for i, column in enumerate(self._columns.T):
            below[:, i] = np.searchsorted(column, batch[:, i], side="right")
            above[:, i] = len(column) - np.searchsorted(column, batch[:, i], side="left")
        left, right = (-np.log((count + 1) / n_rows) for count in (below, above))
        skewness = self._skewness(batch)
        skewed = np.where(skewness < 0, left, np.where(skewness > 0, right, left + right))
        if self._method == "ECOD":
            tails = np.maximum(np.maximum(left, right), skewed)
        else:
            tails = np.maximum((left + right) / 2, skewed)
        return np.asarray(tails.sum(axis=1))

    def _skewness(self, batch: Matrix) -> Matrix:
        """Return the third central moment of each column with each row added to it."""
        n_rows = len(self._columns) + 1
        first, second, third = (
            (total + batch**power) / n_rows for power, total in enumerate(self._sums, start=1)
        )
        return np.asarray(third - 3 * first * second + 2 * first**3)


def standardisation(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return rows with the mean and the deviation of their columns; 1 where one is constant."""
    exact = rows.astype(np.float64)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    constant = deviation <= 1e-6 * np.abs(mean)
    deviation = np.where(constant | (deviation < 1e-30), 1.0, deviation)
    return {
        "rows": rows,
        "mean": mean.astype(np.float32),
        "deviation": deviation.astype(np.float32),
    }


def standardise(weights: Mapping[str, NDArray[np.float32]], rows: NDArray[np.float32]) -> Matrix:
    """Return rows N×F in standard deviations from the mean."""
    values = (rows.astype(np.float64) - weights["mean"]) / weights["deviation"]
    return np.clip(values, -_FAR, _FAR)


def require(method: str) -> None:
    """Raise `MissingRuntimeError` where PyOD is missing, or torch for a network."""
    require_runtime("pyod", "pyod")
    if METHODS[method].kept == "network":
        require_runtime(f"pyod with method {method}", "torch")


def fitted(name: str, rows: Matrix, *, n_neighbors: int, seed: int) -> Any:
    """Return a detector of PyOD, fitted to standardised rows N×F; `n_neighbors` 0: PyOD's own."""
    method, (n_rows, n_features) = METHODS[name], rows.shape
    settings = dict(method.settings)
    if method.seeded:
        settings["random_state"] = seed % 2**32
    if method.bounded:
        argument, default = method.bounded
        wanted = (n_neighbors if argument == "n_neighbors" else 0) or default
        settings[argument] = max(1, min(wanted, n_rows - 1))
    if n_rows < method.rows_per_feature * n_features + 1:
        raise ConfigurationError(
            f"pyod: method {name} needs more than {method.rows_per_feature} parts per feature; "
            f"there are {n_rows} for {n_features} features. Add good parts, or use another "
            f"method, such as {SURE}."
        )
    module = importlib.import_module(f"pyod.models.{method.module}")
    return guarded(name, rows, lambda: getattr(module, name)(**settings).fit(rows))


def guarded(method: str, rows: Matrix, action: Callable[[], Made]) -> Made:
    """Return what an action gives; what PyOD raises becomes a `ConfigurationError`."""
    try:
        return action()
    except (ValueError, ArithmeticError, AssertionError, LookupError, RuntimeError) as error:
        raise ConfigurationError(
            f"pyod: method {method} cannot learn from {len(rows)} parts of {rows.shape[1]} "
            f"features ({error}). Add good parts, or use another method, such as {SURE}."
        ) from error
