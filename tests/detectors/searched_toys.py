"""Detectors that fit in a moment and whose best parameters are known, for searches."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import ClassVar

import numpy as np

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph, Parameter
from makellos.errors import TrainingError
from makellos.inspection.preprocessing import Preprocessing
from makellos.training import Training

BEST_RATE = 0.1
AUTOMATIC = 18  # epochs that 0 makes


def _toy_detector() -> ModuleType:
    place = Path(__file__).parents[1] / "toy_detector.py"
    spec = importlib.util.spec_from_file_location("toy_detector", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ToyDetector = _toy_detector().ToyDetector


class ToyClassifier(Detector):
    """Have the lower a validation loss the nearer `rate` is to 0.1, and fail above 5."""

    name = "toy_classifier"
    summary = "a loss that is known, for tests"
    needs_labels = True
    trains = True
    parameters = MappingProxyType(
        {
            "rate": Parameter(
                default=1.0, low=1e-6, high=10.0, search=(1e-3, 3.0), logarithmic=True, meaning="."
            ),
            "kind": Parameter(default="good", choices=("good", "bad"), meaning="Of the loss."),
            "epochs": Parameter(default=18, low=0, high=1000, meaning="Epochs; 0 makes 12."),
            "ends_after": Parameter(default=0, low=0, high=1000, meaning="Epochs to stop at."),
            "seed": Parameter(default=0, low=0, meaning="Seed."),
        }
    )
    presets: ClassVar[dict[str, dict[str, int]]] = {"fast": {"epochs": 9}}
    seen: ClassVar[list[list[Part]]] = []

    def __init__(
        self,
        *,
        rate: float = 1.0,
        kind: str = "good",
        epochs: int = 18,
        ends_after: int = 0,
        seed: int = 0,
    ) -> None:
        self.rate = rate
        self.kind = kind
        self.epochs = epochs
        self.ends_after = ends_after
        self.seed = seed

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        self.seen.append(list(parts))
        if self.rate > 5:
            raise TrainingError(f"Training diverged at rate {self.rate:g}.")
        distance = abs(math.log10(self.rate / BEST_RATE)) + (self.kind == "bad")
        for epoch in range(1, (self.ends_after or self.epochs or 12) + 1):
            if training.on_epoch is not None:
                training.on_epoch(epoch, {"loss": 0.0, "validation_loss": distance + 1 / epoch})
        self.fitted_ = True

    def _build_graph(self) -> Graph:
        raise NotImplementedError


class ToySearched(ToyDetector):  # type: ignore[misc,valid-type]
    """Learn the mean of every cell from `side` × `side` pixels; `noise` spoils it."""

    name = "toy_searched"
    parameters = MappingProxyType(
        {
            "noise": Parameter(
                default=0.03, low=0.0, high=5.0, search=(0.0, 0.06), meaning="Added."
            ),
            "seed": Parameter(default=0, low=0, meaning="Seed of the noise."),
        }
    )
    seen: ClassVar[list[list[str]]] = []

    def __init__(self, *, noise: float = 0.03, seed: int = 0) -> None:
        self.noise = noise
        self.seed = seed

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self.seen.append([part.name for part in parts])
        prepare = Preprocessing(height=128, width=128)
        total = np.zeros((32, 32))
        for part in parts:
            gray = prepare(part.read())[0].mean(axis=0)
            total += gray.reshape(32, 4, 32, 4).mean(axis=(1, 3))
        noise = np.random.default_rng(self.seed).normal(0, self.noise, total.shape)
        self.means_ = (total / len(parts) + noise).astype(np.float32)


class ToyTrained(ToySearched):
    """Do the same in epochs, which take the noise away."""

    name = "toy_trained"
    trains = True
    parameters = MappingProxyType(
        {
            **ToySearched.parameters,
            "epochs": Parameter(default=0, low=0, high=1000, meaning="Epochs; 0 makes 18."),
        }
    )
    asked: ClassVar[list[int]] = []

    def __init__(self, *, noise: float = 0.03, seed: int = 0, epochs: int = 0) -> None:
        super().__init__(noise=noise, seed=seed)
        self.epochs = epochs

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        n_epochs = self.epochs or AUTOMATIC
        self.asked.append(self.epochs)
        for epoch in range(1, n_epochs + 1):
            if training.on_epoch is not None:
                training.on_epoch(epoch, {"loss": 1 / epoch})
        self._learn(parts, progress)


TOYS = (ToyClassifier, ToySearched, ToyTrained)
