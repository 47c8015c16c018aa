"""The two steps of transfer learning: a head on a frozen backbone, then the last stages with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from makellos.data.progress import Progress
from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.detectors.networks.classifier_training import FineTuneTask, HeadTask
from makellos.training.loop import epochs_for, train
from makellos.training.pictures import Pictures
from makellos.training.settings import Training

__all__ = ["FineTuning", "LabelledAugmentation", "Settings"]

_N_HEAD_STEPS = 400
_HEAD_BATCH = 64
_BATCH = 16  # pictures that pass the network at once where nothing is learned


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold the parameters of training, named as the classifier's; `n_steps` is of the second."""

    unfreeze: int
    epochs: int
    n_steps: int
    head_epochs: int
    batch_size: int
    learning_rate: float
    backbone_learning_rate: float
    weight_decay: float
    dropout: float
    label_smoothing: float
    pointing: float
    flips: str
    quarter_turns: bool
    zoom: float
    brightness: float
    patience: int


class LabelledAugmentation:
    """Mirror, turn, enlarge and move, brighten the pictures of a batch, each by its own draw.

    What follows the first `n_channels` channels, a mask, moves with the picture and keeps its
    values. What a move uncovers is mirrored in.
    """

    def __init__(
        self, n_channels: int, *, flips: str, quarter_turns: bool, zoom: float, brightness: float
    ) -> None:
        self.n_channels = n_channels
        self.axes = {"none": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}[flips]
        self.quarter_turns, self.zoom, self.brightness = quarter_turns, zoom, brightness

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the batch N×C×H×W changed, in [0, 1]."""
        for axis in self.axes:
            batch = torch.where(_drawn(batch), batch.flip(axis), batch)
        if self.quarter_turns and batch.shape[2] == batch.shape[3]:
            # Every second picture by a quarter; mirrored ones make it all four.
            batch = torch.where(_drawn(batch), batch.transpose(2, 3).flip(3), batch)
        if self.zoom:
            batch = self._move(batch)
        if self.brightness:
            batch = self._brighten(batch)
        return batch.contiguous(memory_format=torch.channels_last)

    def _move(self, batch: Tensor) -> Tensor:
        n = len(batch)
        matrices = torch.zeros(n, 2, 3)
        scales = 1 + self.zoom * (2 * torch.rand(n, 2) - 1)
        matrices[:, 0, 0], matrices[:, 1, 1] = scales[:, 0], scales[:, 1]
        matrices[:, :, 2] = self.zoom / 2 * (2 * torch.rand(n, 2) - 1)
        places = F.affine_grid(matrices.to(batch.device), list(batch.shape), align_corners=False)
        moved = F.grid_sample(batch, places, padding_mode="reflection", align_corners=False)
        return moved.clamp(0, 1)

    def _brighten(self, batch: Tensor) -> Tensor:
        pictures, rest = batch[:, : self.n_channels], batch[:, self.n_channels :]
        contrast, offset = (_spread(batch, self.brightness) for _ in range(2))
        mean = pictures.mean((1, 2, 3), keepdim=True)
        changed = ((pictures - mean) * (1 + contrast) + mean + offset / 2).clamp(0, 1)
        return torch.cat([changed, rest], 1)


class FineTuning:
    """Train a network on pictures with classes, validated by others that may be none."""

    def __init__(
        self,
        network: ClassifierNetwork,
        pictures: Pictures,
        validation: Pictures,
        class_weights: NDArray[np.float64],
        balance: NDArray[np.float64],
        settings: Settings,
        *,
        training: Training,
        progress: Progress,
        identity: Mapping[str, Any],
    ) -> None:
        self.network, self.settings = network, settings
        self.pictures, self.validation = pictures, validation
        self.class_weights = torch.from_numpy(class_weights).float()
        self.balance = torch.from_numpy(balance).float()
        self.training, self.progress, self.identity = training, progress, dict(identity)
        self.n_channels = 3 if pictures.shape[0] > 2 else 1  # a mask may follow
        self.began_anew = True

    def train_head(self) -> None:
        """Train the head on features of the frozen backbone, computed once."""
        settings = self.settings
        learn, validation = self._pooled(self.pictures), self._pooled(self.validation)
        n_epochs = settings.head_epochs or epochs_for(_N_HEAD_STEPS, learn.n, _HEAD_BATCH)
        task = HeadTask(
            self.network.head,
            self.class_weights,
            balance=self.balance,
            learning_rate=5 * settings.learning_rate,
            n_steps=n_epochs * max(1, learn.n // _HEAD_BATCH),
        )
        # Epochs of this step are no epochs of the run, unless it is all of it.
        heard = None if settings.unfreeze else self.training.on_epoch
        outcome = train(
            task,
            learn,
            identity={**self.identity, "step": "head"},
            n_epochs=n_epochs,
            batch_size=_HEAD_BATCH,
            training=replace(self.training.inside("head"), on_epoch=heard),
            progress=self.progress,
            label="training the head",
            validation=validation if validation.n else None,
        )
        self.began_anew = outcome.went_on

    def fine_tune(self) -> None:
        """Train the last stages and the head on augmented pictures."""
        settings, n = self.settings, self.pictures.n
        n_epochs = settings.epochs or epochs_for(settings.n_steps, n, settings.batch_size)
        self.network.unfreeze(settings.unfreeze)
        # A checkpoint of this step belongs to a head that was trained before it.
        resume = self.training.resume and not self.began_anew
        where = replace(self.training.inside("network"), resume=resume)
        task = FineTuneTask(
            self.network,
            self.class_weights,
            balance=self.balance,
            learning_rate=settings.learning_rate,
            backbone_learning_rate=settings.backbone_learning_rate,
            weight_decay=settings.weight_decay,
            dropout=settings.dropout,
            label_smoothing=settings.label_smoothing,
            pointing=settings.pointing,
            n_channels=self.n_channels,
            n_steps=n_epochs * max(1, n // settings.batch_size),
        )
        train(
            task,
            self.pictures,
            identity={**self.identity, "step": "fine-tuning"},
            n_epochs=n_epochs,
            batch_size=settings.batch_size,
            training=where,
            progress=self.progress,
            label="fine-tuning",
            augment=LabelledAugmentation(
                self.n_channels,
                flips=settings.flips,
                quarter_turns=settings.quarter_turns,
                zoom=settings.zoom,
                brightness=settings.brightness,
            ),
            validation=self.validation if self.validation.n else None,
            patience=settings.patience,
            # Of few validation parts the lowest loss is often one epoch's luck; rates that fall to
            # zero end where it is low.
            keep_best=settings.patience > 0,
        )

    def validated(self) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return logits (N,) or (N, K) and classes (N,) of the validation pictures."""
        pooled, n = self._pooled(self.validation), self.validation.n
        with torch.no_grad():
            logits = self.network.head(pooled.batch(range(n)).flatten(1)).double().numpy()
        targets = self.validation.targets(range(n))
        classes = np.zeros(0, np.intp) if targets is None else targets.numpy().astype(np.intp)
        return (logits[:, 0] if logits.shape[1] == 1 else logits), classes

    def _pooled(self, pictures: Pictures) -> Pictures:
        """Return the features N×C×1×1 that the head sees of pictures, with their classes."""
        self.network.eval()
        pooled = np.zeros((pictures.n, self.network.head.in_features, 1, 1), np.float32)
        for start in range(0, pictures.n, _BATCH):
            chosen = range(start, min(start + _BATCH, pictures.n))
            batch = pictures.batch(chosen)[:, : self.n_channels]
            batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                features = self.network.features(batch).mean((2, 3), keepdim=True)
            pooled[chosen.start : chosen.stop] = features.numpy()
            self.progress("computing features", chosen.stop, pictures.n)
        targets = pictures.targets(range(pictures.n))
        return Pictures(
            pooled,
            targets=None if targets is None else targets.numpy(),
            known_as=pictures.fingerprint(),
        )


def _drawn(batch: Tensor) -> Tensor:
    return (torch.rand(len(batch)) < 0.5).to(batch.device).view(-1, 1, 1, 1)


def _spread(batch: Tensor, share: float) -> Tensor:
    return (share * (2 * torch.rand(len(batch)) - 1)).to(batch.device).view(-1, 1, 1, 1)
