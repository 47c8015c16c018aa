"""The two steps of transfer learning: a head on a frozen backbone, then the last stages with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from makellos.data.progress import Progress
from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.detectors.networks.classifier_training import (
    DenseHeadTask,
    FineTuneTask,
    HeadTask,
    Settings,
)
from makellos.detectors.networks.dense_classifier import DenseNetwork
from makellos.detectors.networks.frozen_features import FrozenFeatures
from makellos.training.loop import epochs_for, train
from makellos.training.pictures import Pictures
from makellos.training.settings import Training

__all__ = ["FineTuning", "LabelledAugmentation"]

_N_HEAD_STEPS = 400
_HEAD_BATCH = 64
_N_DENSE_STEPS = 240
_SEEN = 0.7  # share of a mask that stays in the picture
_DENSE_FACTOR = 2  # batches of the frozen backbone to those of fine-tuning
_BATCH = 16  # pictures that pass the network at once where nothing is learned


class LabelledAugmentation:
    """Mirror, turn, shear, enlarge and move, brighten pictures of a batch, each by its own draw.

    `rotation` and `shear` are the largest angles in degrees, `zoom` and `brightness` shares.

    What follows the first `n_channels` channels, a mask, moves with the picture and keeps its
    values. What a move uncovers is mirrored in. A move that takes much of a defect out of the
    picture is not made: its label would be wrong.
    """

    def __init__(
        self,
        n_channels: int,
        *,
        flips: str,
        quarter_turns: bool,
        rotation: float = 0.0,
        shear: float = 0.0,
        zoom: float,
        brightness: float,
    ) -> None:
        self.n_channels = n_channels
        self.axes = {"none": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}[flips]
        self.quarter_turns, self.zoom, self.brightness = quarter_turns, zoom, brightness
        self.rotation, self.shear = math.radians(rotation), math.radians(shear)

    @property
    def changes(self) -> bool:
        """Tell whether copies of a picture differ from it."""
        moves = self.zoom or self.rotation or self.shear
        return bool(self.axes or self.quarter_turns or moves or self.brightness)

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the batch N×C×H×W changed, in [0, 1]."""
        for axis in self.axes:
            batch = torch.where(_drawn(batch), batch.flip(axis), batch)
        return self._unmirrored(batch)

    def copy(self, batch: Tensor, number: int) -> Tensor:
        """Return the copy of a `number` of the batch: it tells the mirrors, the rest is drawn."""
        for place, axis in enumerate(self.axes):
            if number >> place & 1:
                batch = batch.flip(axis)
        return self._unmirrored(batch)

    def _unmirrored(self, batch: Tensor) -> Tensor:
        if self.quarter_turns and batch.shape[2] == batch.shape[3]:
            # Every second picture by a quarter; mirrored ones make it all four.
            batch = torch.where(_drawn(batch), batch.transpose(2, 3).flip(3), batch)
        if self.zoom or self.rotation or self.shear:
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
        if self.rotation or self.shear:
            matrices = self._turned(matrices, batch.shape[2] / batch.shape[3])
        places = F.affine_grid(matrices.to(batch.device), list(batch.shape), align_corners=False)
        moved = F.grid_sample(batch, places, padding_mode="reflection", align_corners=False)
        moved = moved.clamp(0, 1)
        if moved.shape[1] == self.n_channels:
            return moved
        before, after = (each[:, -1:].sum((2, 3), keepdim=True) for each in (batch, moved))
        return torch.where(after < _SEEN * before, batch, moved)

    def _turned(self, matrices: Tensor, aspect: float) -> Tensor:
        """Return motions n×2×3, in halves of width and height, turned and sheared by a draw."""
        turns, shears = (
            largest * (2 * torch.rand(len(matrices)) - 1) for largest in (self.rotation, self.shear)
        )
        cosines, sines, slants = turns.cos(), turns.sin(), shears.tan()
        rows = [
            torch.stack([cosines, (cosines * slants - sines) * aspect], 1),
            torch.stack([sines / aspect, sines * slants + cosines], 1),
        ]
        return torch.stack(rows, 1) @ matrices

    def _brighten(self, batch: Tensor) -> Tensor:
        pictures, rest = batch[:, : self.n_channels], batch[:, self.n_channels :]
        contrast, offset = (_spread(batch, self.brightness) for _ in range(2))
        mean = pictures.mean((1, 2, 3), keepdim=True)
        changed = ((pictures - mean) * (1 + contrast) + mean + offset / 2).clamp(0, 1)
        return torch.cat([changed, rest], 1)


@dataclass(eq=False)
class FineTuning:
    """Train a network on pictures with classes, validated by others that may be none.

    `class_weights` count the classes in the loss learned from, `balance` in that of validation.
    """

    network: ClassifierNetwork
    pictures: Pictures
    validation: Pictures
    class_weights: Tensor
    balance: Tensor
    settings: Settings
    _: KW_ONLY
    training: Training
    progress: Progress
    identity: Mapping[str, Any]
    began_anew: bool = field(default=True, init=False)

    @property
    def n_channels(self) -> int:
        """Return how many channels are the picture's; a mask may follow."""
        return 3 if self.pictures.shape[0] > 2 else 1

    def train_head(self) -> None:
        """Train the head on the frozen backbone: one linear layer on features computed once."""
        if isinstance(self.network, DenseNetwork):
            self._train_dense_head(self.network, self._frozen(self.network))
        else:
            self._train_linear_head()

    def fine_tune(self) -> None:
        """Train the last stages and the head on augmented pictures."""
        settings, n = self.settings, self.pictures.n
        # A checkpoint of this step belongs to a head that was trained before it.
        resume = self.training.resume and not self.began_anew
        # The neck and head of places are trained by then, and go on as slowly as what they read.
        dense = isinstance(self.network, DenseNetwork)
        self.network.unfreeze(settings.unfreeze)
        task = FineTuneTask(
            self.network,
            self.class_weights,
            balance=self.balance,
            learning_rate=settings.backbone_learning_rate if dense else settings.learning_rate,
            n_channels=self.n_channels,
            settings=settings,
        )
        train(
            task,
            self.pictures,
            identity={**self.identity, "step": "fine-tuning"},
            n_epochs=settings.epochs or epochs_for(settings.n_steps, n, settings.batch_size),
            batch_size=settings.batch_size,
            training=replace(self.training.inside("network"), resume=resume),
            progress=self.progress,
            label="fine-tuning",
            augment=self._augmentation,
            validation=self.validation if self.validation.n else None,
            patience=settings.patience,
            # Of few validation parts the lowest loss is often one epoch's luck; rates that fall to
            # zero end where it is low.
            keep_best=settings.patience > 0,
        )

    def cross_fit_heads(
        self, left_out: Sequence[NDArray[np.intp]]
    ) -> tuple[list[DenseNetwork], NDArray[np.float64], NDArray[np.intp]]:
        """Train the dense head, and others that have not seen some pictures.

        `left_out` are the numbers of those that each leaves out. Returns their networks, which
        share the frozen body, and the logits (n,) or (n, K) and classes (n,) of what they left out.
        """
        network = self.network
        if not isinstance(network, DenseNetwork):
            raise TypeError("only heads that judge places share what a frozen body shows")
        frozen = self._frozen(network)
        heads, logits = [], []
        for fold, numbers in enumerate(left_out, start=1):
            head = deepcopy(network, {id(network.body): network.body})
            self._train_dense_head(head, frozen, numbers, fold)
            heads.append(head)
            logits.append(frozen.logits(head, numbers))
        self._train_dense_head(network, frozen)
        return heads, *_judged(np.concatenate(logits), self.pictures, np.concatenate(left_out))

    def _frozen(self, network: DenseNetwork) -> FrozenFeatures:
        augmentation = self._augmentation
        change = augmentation.copy if augmentation.changes else None
        return FrozenFeatures(network, self.pictures, self.n_channels, change, self.progress)

    def _train_dense_head(
        self,
        network: DenseNetwork,
        frozen: FrozenFeatures,
        left_out: Sequence[int] | NDArray[np.intp] = (),
        fold: int = 0,
    ) -> None:
        settings = self.settings
        numbers = np.setdiff1d(np.arange(self.pictures.n), np.asarray(left_out, np.intp))
        frozen.measure(network, numbers)
        learned = frozen.of(numbers)
        validation = None
        if self.validation.n:
            held_out = FrozenFeatures(
                network, self.validation, self.n_channels, None, self.progress
            )
            validation = held_out.of(np.arange(self.validation.n))
        # Epochs of this step are no epochs of the run, unless it is all of it.
        heard = None if settings.unfreeze or fold else self.training.on_epoch
        where = self.training.inside(f"fold-{fold}" if fold else "head")
        batch_size = _DENSE_FACTOR * settings.batch_size
        n_epochs = settings.head_epochs or epochs_for(_N_DENSE_STEPS, learned.n, batch_size)
        outcome = train(
            DenseHeadTask(
                network, frozen.layout, self.class_weights, balance=self.balance, settings=settings
            ),
            learned,
            identity={**self.identity, "step": "head", "fold": fold},
            n_epochs=n_epochs,
            batch_size=batch_size,
            training=replace(where, on_epoch=heard),
            progress=self.progress,
            label=f"cross-fit {fold}: training the head" if fold else "training the head",
            validation=validation,
            keep_best=False,
        )
        self.began_anew = outcome.went_on

    def _train_linear_head(self) -> None:
        settings = self.settings
        learn, validation = self._pooled(self.pictures), self._pooled(self.validation)
        task = HeadTask(
            self.network.head,
            self.class_weights,
            balance=self.balance,
            learning_rate=5 * settings.learning_rate,
        )
        # Epochs of this step are no epochs of the run, unless it is all of it.
        heard = None if settings.unfreeze else self.training.on_epoch
        outcome = train(
            task,
            learn,
            identity={**self.identity, "step": "head"},
            n_epochs=settings.head_epochs or epochs_for(_N_HEAD_STEPS, learn.n, _HEAD_BATCH),
            batch_size=_HEAD_BATCH,
            training=replace(self.training.inside("head"), on_epoch=heard),
            progress=self.progress,
            label="training the head",
            validation=validation if validation.n else None,
        )
        self.began_anew = outcome.went_on

    @property
    def _augmentation(self) -> LabelledAugmentation:
        settings = self.settings
        return LabelledAugmentation(
            self.n_channels,
            flips=settings.flips,
            quarter_turns=settings.quarter_turns,
            rotation=settings.rotation,
            shear=settings.shear,
            zoom=settings.zoom,
            brightness=settings.brightness,
        )

    def validated(self) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return logits (N,) or (N, K) and classes (N,) of the validation pictures."""
        found = [np.zeros((0, self.network.head.out_features))]
        self.network.eval()
        with torch.no_grad():
            found += [
                self.network(each).double().numpy() for each in self._batches(self.validation)
            ]
        return _judged(np.concatenate(found), self.validation, np.arange(self.validation.n))

    def _pooled(self, pictures: Pictures) -> Pictures:
        """Return the features N×C×1×1 that the head sees of pictures, with their classes."""
        self.network.eval()
        with torch.no_grad():
            found = [
                self.network.features(batch).mean((2, 3), keepdim=True).numpy()
                for batch in self._batches(pictures)
            ]
        n_channels = self.network.head.in_features
        pooled = np.concatenate([np.zeros((0, n_channels, 1, 1), np.float32), *found])
        targets = pictures.targets(range(pictures.n))
        return Pictures(
            pooled,
            targets=None if targets is None else targets.numpy(),
            known_as=pictures.fingerprint(),
        )

    def _batches(self, pictures: Pictures) -> Iterator[Tensor]:
        """Yield all pictures in order, without their masks."""
        for start in range(0, pictures.n, _BATCH):
            chosen = range(start, min(start + _BATCH, pictures.n))
            batch = pictures.batch(chosen)[:, : self.n_channels]
            yield batch.contiguous(memory_format=torch.channels_last)
            self.progress("computing features", chosen.stop, pictures.n)


def _judged(
    logits: NDArray[np.float64], pictures: Pictures, numbers: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return logits (N,) or (N, K) and classes (N,) of some pictures."""
    targets = pictures.targets(numbers)
    classes = np.zeros(0, np.intp) if targets is None else targets.numpy().astype(np.intp)
    return (logits[:, 0] if logits.shape[1] == 1 else logits), classes


def _drawn(batch: Tensor) -> Tensor:
    return (torch.rand(len(batch)) < 0.5).to(batch.device).view(-1, 1, 1, 1)


def _spread(batch: Tensor, share: float) -> Tensor:
    return (share * (2 * torch.rand(len(batch)) - 1)).to(batch.device).view(-1, 1, 1, 1)
