"""PyOD's detectors by name, on features of windows of a signal."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.features.pyod_methods import (
    METHODS,
    NETWORKS,
    SURE,
    JointTails,
    Matrix,
    fitted,
    guarded,
    require,
    standardisation,
    standardise,
)
from makellos.detectors.graph import Graph
from makellos.detectors.parameters import parameter
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError, InputError, ModelFileError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import Engine, EngineChoice
from makellos.inspection.external_runtime import ExternalScoring
from makellos.inspection.preprocessing import Vectors

Weights = Mapping[str, NDArray[np.float32]]
Scoring = Callable[[Matrix], Matrix]  # standardised features N×F to scores N

_BATCH = 512  # parts that are scored at once
_SECONDS = 1.0  # that fitting again may take, for every start of an inspector costs them
_N_WITNESSES = 64  # rows whose scores a model keeps, to notice that it scores otherwise here
_N_STEPS = 2000


@register("pyod")
class Pyod(Detector):
    """Score features of a signal's window by a detector of PyOD, named by `method`.

    Zhao et al. 2019 (Journal of Machine Learning Research 20(96)). Features are standardised by
    the parts learned from; PyOD's own settings stay as they are, but for those named here and the
    automatic bins of HBOS. A model holds no pickle: it keeps the features that were learned from
    and fits to them again when it is opened, which `fit` refuses where that takes a second or gives
    other scores; of networks it keeps the weights. A part's score is that of the part alone: ECOD
    and COPOD, which PyOD scores within a batch, see the learned parts and the one in question, and
    the VAE decodes the mean of its latent and draws nothing.

    Left out are detectors that compare the parts of a batch with each other (COF, SOD, SOS, LOCI,
    LMDD, CD, ROD, DIF), that fit or start too slowly (KPCA, ABOD), that may call what is far out
    good (QMCD, HDBSCAN), that need good parts in clusters of unlike size (CBLOF), that draw without
    a seed (AE1SVM) and that need further packages. PyOD's thresholders (`pyod.models.thresholds`)
    are no detectors: they guess a share of outliers from the scores, where the threshold here comes
    from a false-alarm budget on good parts.
    """

    summary = "any of PyOD's detectors, on features of signals"
    runtime = "pyod"
    takes = "features"

    method: str = parameter(
        "KNN",
        f"Name of the detector in PyOD; {', '.join(NETWORKS)} need PyTorch.",
        choices=tuple(METHODS),
        search=("KNN", "LOF", "GMM", "ECOD", "IForest"),
    )
    n_neighbors: int = parameter(0, "Neighbours of KNN and LOF; 0: PyOD's own.", within=(0, 1000))
    epochs: int = parameter(
        0, f"Passes over the parts, for networks; 0: about {_N_STEPS} steps.", within=(0, 100000)
    )
    max_parts: int = parameter(
        2000, "Most parts to learn from; of more, a random subset is used.", within=(2, 100000)
    )
    seed: int = shared.SEED

    @classmethod
    def engines(cls) -> tuple[EngineChoice, ...]:
        """Return the one engine that there is."""
        return (EngineChoice("pyod", "f32"),)

    @classmethod
    def open_engine(
        cls, scoring: ExternalScoring, shape: tuple[int, ...], choice: EngineChoice
    ) -> Engine:
        """Return what scores batches N×F.

        Raises `ConfigurationError` for foreign weights, `ModelFileError` where the PyOD that is
        installed scores otherwise than the one of the fit, `MissingRuntimeError` for a network
        without torch.
        """
        detector, weights = cls(**scoring.parameters), scoring.weights
        _check_shapes(weights, shape, detector.max_parts)
        engine = _PyodEngine(detector, weights, choice)
        rows, known = _witnesses(weights["rows"]), weights["scores"]
        found = engine.run(rows)["score"]
        span = 1e-4 * max(float(np.ptp(known)), 1e-12)
        if not np.allclose(found, known, rtol=1e-4, atol=span):
            raise ModelFileError(
                f"pyod: method {detector.method} scores the parts it learned from differently here "
                "than when it was fitted. Install the versions of pyod and scikit-learn that "
                "'makellos info' names for the model, or fit it again."
            )
        return engine

    def packages(self) -> tuple[str, ...]:
        return ("pyod", "torch") if self.method in NETWORKS else ("pyod",)

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self._check_method()
        features = _load_features(parts, progress)
        progress(f"fitting {self.method}", 0, 1)
        rows = self._subset(features)
        weights = standardisation(rows)
        if METHODS[self.method].kept == "network":
            weights |= self._trained(weights)
            weights["rows"] = _witnesses(rows)
        elif METHODS[self.method].kept == "joint":
            self._check_joint(standardise(weights, rows))
        weights["scores"] = self._scores_twice(weights, rows)
        self.weights_ = weights
        self.n_features_ = rows.shape[1]
        self.notes_ = [] if len(rows) == len(features) else [self._subset_note(len(features))]
        progress(f"fitting {self.method}", 1, 1)

    def _check_method(self) -> None:
        method = METHODS[self.method]
        if self.n_neighbors and (method.bounded or ("",))[0] != "n_neighbors":
            raise ConfigurationError(
                f"{self.name}: n_neighbors is {self.n_neighbors}, but method {self.method} does "
                "not use neighbours. Leave it at 0, or use the method KNN or LOF."
            )
        if self.epochs and method.kept != "network":
            raise ConfigurationError(
                f"{self.name}: epochs is {self.epochs}, but method {self.method} is not a network. "
                f"Leave it at 0, or use the method {' or '.join(NETWORKS)}."
            )

    def _subset(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(features) <= self.max_parts:
            return features
        chosen = np.random.default_rng([self.seed, 5]).permutation(len(features))[: self.max_parts]
        return np.ascontiguousarray(features[np.sort(chosen)])

    def _subset_note(self, n_parts: int) -> str:
        return (
            f"{self.method} learned from {self.max_parts} of {n_parts} parts, drawn at random; "
            "more make a model slower to open (--set max_parts)."
        )

    def _scores_twice(self, weights: Weights, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores of the witnesses; raise unless opening again is quick and the same."""
        choice = EngineChoice("pyod", "f32")
        scores = _PyodEngine(self, weights, choice).run(rows)["score"]
        again, seconds = _timed(lambda: _PyodEngine(self, weights, choice))
        if seconds > _SECONDS:
            raise ConfigurationError(
                f"{self.name}: method {self.method} takes {seconds:.1f} s to refit to "
                f"{len(rows)} parts, and every start of an inspector would take as long; at most "
                f"{_SECONDS:g} s is accepted. Learn from fewer "
                f"(--set max_parts={max(2, len(rows) // 2)}), or use another method, such as "
                f"{SURE}."
            )
        if not np.all(np.abs(scores) < 1e12):
            raise ConfigurationError(
                f"{self.name}: method {self.method} gives good parts unbounded scores: some "
                f"features hardly vary over {len(rows)} parts. Add good parts, or use another "
                f"method, such as {SURE}."
            )
        if not np.allclose(again.run(rows)["score"], scores, rtol=1e-6, atol=0.0):
            raise ConfigurationError(
                f"{self.name}: method {self.method} gives different scores when refitted with "
                f"the same seed, so a model cannot store it. Use another, such as {SURE}."
            )
        return _witnesses(scores)

    def _trained(self, weights: Weights) -> dict[str, NDArray[np.float32]]:
        from makellos.detectors.networks.pyod_networks import train_network

        rows = standardise(weights, weights["rows"])
        batch_size = max(2, min(32, len(rows)))
        epochs = self.epochs or -(-_N_STEPS // (len(rows) // batch_size))
        return guarded(
            self.method,
            rows,
            lambda: train_network(
                self.method, rows, epochs=epochs, batch_size=batch_size, seed=self.seed
            ),
        )

    def _fitted(self, rows: Matrix) -> Any:
        return fitted(self.method, rows, n_neighbors=self.n_neighbors, seed=self.seed)

    def _check_joint(self, rows: Matrix) -> None:
        """Raise unless PyOD gives a few rows, each alone, the scores of the closed form here."""
        few = rows[:: max(1, len(rows) // 8)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that are constant
            model = self._fitted(rows)
            theirs = [model.decision_function(few[i : i + 1])[0] for i in range(len(few))]
        if not np.allclose(JointTails(self.method, rows)(few), theirs, rtol=1e-6, atol=1e-9):
            raise ConfigurationError(
                f"{self.name}: the installed PyOD scores {self.method} differently from the "
                f"known versions. Install pyod 3.6.7, or use another method, such as {SURE}."
            )

    def _build_graph(self) -> Graph:
        scoring = ExternalScoring(self.name, self.get_parameters(), self.weights_)
        return Graph(b"", Vectors(n_features=self.n_features_), Aggregation(), external=scoring)


class _PyodEngine:
    """Score batches N×F of any size; a part that is not finite gets no finite score."""

    batch_size = _BATCH
    reconstructs = False

    def __init__(self, detector: Pyod, weights: Weights, choice: EngineChoice) -> None:
        self.choice = choice
        self._weights = {name: weights[name] for name in ("mean", "deviation")}
        require(detector.method)
        with warnings.catch_warnings():
            # Of few, equal or constant rows; whether the scores are of use is checked by the fit.
            warnings.simplefilter("ignore")
            self._score = _open_scoring(detector, weights, standardise(weights, weights["rows"]))

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the score N of parts N×F."""
        scores = np.full(len(batch), np.nan)
        finite = np.isfinite(batch).all(axis=1)
        if finite.any():
            with np.errstate(all="ignore"):
                scores[finite] = self._score(standardise(self._weights, batch[finite]))
        largest = float(np.finfo(np.float32).max)
        return {"score": np.clip(scores, -largest, largest).astype(np.float32)}


def _load_features(parts: Sequence[Part], progress: Progress) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for i, part in enumerate(parts):
        row = np.asarray(part.read())
        if row.ndim != 1:
            raise InputError(
                f"{part.name}: pyod learns from features of signals and received a picture of "
                f"shape {row.shape}. Fit on recordings with --view features, or use a detector for "
                "pictures, such as patchcore."
            )
        if rows and row.shape != rows[0].shape:
            raise InputError(
                f"{part.name} has {row.size} features, but {parts[0].name} has {rows[0].size}. "
                "Give recordings with the same channels and bands."
            )
        if row.size == 0 or not np.isfinite(row).all():
            raise InputError(
                f"{part.name} has features that are not finite, or none at all. Correct its "
                "recording, or leave it out."
            )
        rows.append(row.astype(np.float32))
        progress("reading features", i + 1, len(parts))
    return np.stack(rows)


def _witnesses(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows[:: max(1, -(-len(rows) // _N_WITNESSES))])


def _check_shapes(weights: Weights, shape: tuple[int, ...], max_parts: int) -> None:
    given = {name: weights[name].shape for name in sorted(weights)}
    rows = given.get("rows", ())
    scores = given.get("scores", ())
    fits = (
        len(rows) == 2
        and rows[0] <= max_parts
        and (rows[1],) == shape == given.get("mean") == given.get("deviation")
        and scores == (len(_witnesses(weights["rows"])),)
    )
    if not fits:
        raise ConfigurationError(
            f"pyod: the weights {given} do not fit {shape} features of at most {max_parts} parts. "
            "Fit the model again."
        )


def _open_scoring(detector: Pyod, weights: Weights, rows: Matrix) -> Scoring:
    kept = METHODS[detector.method].kept
    if kept == "joint":
        return JointTails(detector.method, rows)
    if kept == "network":
        from makellos.detectors.networks.pyod_networks import load_network

        return load_network(detector.method, weights, rows.shape[1])
    score: Scoring = detector._fitted(rows).decision_function
    return score


def _timed(action: Callable[[], _PyodEngine]) -> tuple[_PyodEngine, float]:
    """Return what an action gives and the seconds it takes, without those of other programs."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = action()
    return done, min(time.perf_counter() - wall, time.process_time() - cpu)
