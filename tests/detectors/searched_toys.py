"""Detectors that fit in a moment and whose best parameters are known, for searches."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph, parameter
from makellos.detectors.parameters import SEED
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
    learns = "labels"
    trains = True

    rate: float = parameter(1.0, ".", within=(1e-6, 10.0), search=(1e-3, 3.0), logarithmic=True)
    kind: str = parameter("good", "Of the loss.", choices=("good", "bad"))
    epochs: int = parameter(18, "Epochs; 0 makes 12.", within=(0, 1000))
    ends_after: int = parameter(0, "Epochs to stop at.", within=(0, 1000))
    seed: int = SEED

    presets: ClassVar[dict[str, dict[str, int]]] = {"fast": {"epochs": 9}}
    seen: ClassVar[list[list[Part]]] = []

    def packages(self) -> tuple[str, ...]:
        return ()

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

    noise: float = parameter(0.03, "Added.", within=(0.0, 5.0), search=(0.0, 0.06))
    seed: int = SEED

    seen: ClassVar[list[list[str]]] = []

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

    epochs: int = parameter(0, "Epochs; 0 makes 18.", within=(0, 1000))

    asked: ClassVar[list[int]] = []

    def packages(self) -> tuple[str, ...]:
        return ()

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        n_epochs = self.epochs or AUTOMATIC
        self.asked.append(self.epochs)
        for epoch in range(1, n_epochs + 1):
            if training.on_epoch is not None:
                training.on_epoch(epoch, {"loss": 1 / epoch})
        self._learn(parts, progress)


TOYS = (ToyClassifier, ToySearched, ToyTrained)
