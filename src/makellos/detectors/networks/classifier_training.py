"""Training of classifiers in two steps: the new head alone, then with the backbone's stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.detectors.networks.dense_classifier import DenseNetwork, mask_cover, place_loss
from makellos.detectors.networks.frozen_features import Layout
from makellos.training.task import Task, Update, half_cosine
from makellos.training.temperature import fit_temperature

__all__ = ["DenseHeadTask", "FineTuneTask", "HeadTask", "Settings", "classification_loss"]

_WARM_UP = 0.1  # share of the steps in which the learning rate rises
_IN_MASK = 0.5  # share of white from which a place of a mask belongs to the defect


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
    rotation: float
    shear: float
    zoom: float
    brightness: float
    patience: int


class HeadTask(Task):
    """Train a head on the pooled features N×C×1×1 of a backbone that stands still.

    `class_weights` count the classes in the loss learned from, `balance` in that of held-out parts.
    """

    mixed_precision = False

    def __init__(
        self, head: nn.Linear, class_weights: Tensor, *, balance: Tensor, learning_rate: float
    ) -> None:
        self.head, self.class_weights, self.balance = head, class_weights, balance
        self.networks = {"head": head}
        self.optimizers = {"head": AdamW(head.parameters(), learning_rate, weight_decay=0.01)}
        self.learning_rate = learning_rate

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        self.set_rate(self.learning_rate * half_cosine(number / self.n_steps))
        logits = self.head(batch.flatten(1))
        losses = _losses(logits, _known(self.targets), self.class_weights)
        update(losses["loss"], "head")
        return {name: value.detach() for name, value in losses.items()}

    def validate_all(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """Return loss and accuracy of held-out features, as `validated` does."""
        found = [(self.head(batch.flatten(1)), _known(self.targets)) for batch in batches]
        return validated(found, self.balance)


@dataclass(eq=False)
class DenseHeadTask(Task):
    """Train neck and head of a `DenseNetwork` on rows N×F×1×1 of what its frozen body shows.

    Where rows say what masks cover, these teach the places at `pointing` times the `place_loss`.
    """

    network: DenseNetwork
    layout: Layout
    class_weights: Tensor
    _: KW_ONLY
    balance: Tensor
    settings: Settings

    mixed_precision = False

    def __post_init__(self) -> None:
        network, settings = self.network, self.settings
        network.unfreeze(0)
        network.set_dropout(settings.dropout)
        self.networks = {"network": network}
        learned = network.new_parameters()
        decay = settings.weight_decay
        self.optimizers = {"network": AdamW(learned, settings.learning_rate, weight_decay=decay)}

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        self.set_rate(self.settings.learning_rate * _rate(number / self.n_steps))
        targets, cover = _known(self.targets), self.layout.covered(batch)
        features = self.network.neck.joined(self.layout.maps(batch))
        logits = self.network.logits(features)
        losses = _losses(logits, targets, self.class_weights, self.settings.label_smoothing)
        if cover is not None and self.settings.pointing:
            maps = self.network.class_maps(features)
            losses["pointing"] = place_loss(maps, cover, targets, self.class_weights)
            losses["loss"] = losses["loss"] + self.settings.pointing * losses["pointing"]
        update(losses["loss"], "network")
        return {name: value.detach() for name, value in losses.items()}

    def validate_all(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """Return loss and accuracy of held-out features, as `validated` does."""
        network, layout = self.network, self.layout
        found = [
            (network.logits(network.neck.joined(layout.maps(rows))), _known(self.targets))
            for rows in batches
        ]
        return validated(found, self.balance)


@dataclass(eq=False)
class FineTuneTask(Task):
    """Train the unfrozen stages at one learning rate and the head at another.

    Batches N×C×H×W hold pictures, or N×(C+1)×H×W pictures with masks as their last channel. Masks
    teach the places of a `DenseNetwork`, at `pointing` times the `place_loss`. With another head
    they teach the map of defective parts where to look: of softmax over its places, the share
    inside the mask becomes large, at `pointing` times the negative logarithm of it. Rates rise over
    the first tenth of the steps, and then fall to zero along half a cosine.
    """

    network: ClassifierNetwork
    class_weights: Tensor
    _: KW_ONLY
    balance: Tensor
    learning_rate: float
    n_channels: int
    settings: Settings

    def __post_init__(self) -> None:
        network = self.network
        self.networks = {"network": network}
        learned = [values for values in network.body.parameters() if values.requires_grad]
        self.optimizer = AdamW(
            [
                {"params": learned, "base": self.settings.backbone_learning_rate},
                {"params": network.new_parameters(), "base": self.learning_rate},
            ],
            weight_decay=self.settings.weight_decay,
        )
        self.optimizers = {"network": self.optimizer}
        network.set_dropout(self.settings.dropout)
        # The backward pass of depthwise convolutions takes longer in bf16 on a processor.
        self.mixed_precision = torch.cuda.is_available()

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * _rate(number / self.n_steps)
        targets = _known(self.targets)
        pictures, masks = self._apart(batch)
        features = self.network.features(pictures)
        logits = self.network.logits(features)
        losses = _losses(logits, targets, self.class_weights, self.settings.label_smoothing)
        if masks is not None and self.settings.pointing:
            maps = self.network.class_maps(features)
            if isinstance(self.network, DenseNetwork):
                cover = mask_cover(masks, maps.shape[2:])
                pointing = place_loss(maps, cover, targets, self.class_weights)
            else:
                pointing = _outside(maps, masks, targets)
            losses["pointing"] = pointing
            losses["loss"] = losses["loss"] + self.settings.pointing * losses["pointing"]
        update(losses["loss"], "network")
        return {name: value.detach() for name, value in losses.items()}

    def validate_all(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """Return loss and accuracy of held-out pictures, as `validated` does."""
        found = [(self.network(self._apart(batch)[0]), _known(self.targets)) for batch in batches]
        return validated(found, self.balance)

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """Return each picture's map of the first defect, as bright as it is hot."""
        pictures = self._apart(batch)[0]
        maps = self.network.class_maps(self.network.features(pictures))[:, -1:].relu()
        maps = F.interpolate(maps, size=pictures.shape[2:], mode="bilinear", align_corners=False)
        return {"maps": maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-6)}

    def _apart(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        n = self.n_channels
        return batch[:, :n], batch[:, n:] if batch.shape[1] > n else None


def classification_loss(
    logits: Tensor, targets: Tensor, class_weights: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of logits N×K, or N×1 of the class 1, weighted by class."""
    weights = class_weights.to(logits.device)
    if logits.shape[1] > 1:
        losses = F.cross_entropy(
            logits.float(), targets, reduction="none", label_smoothing=label_smoothing
        )
    else:
        wanted = targets.float() * (1 - label_smoothing) + 0.5 * label_smoothing
        losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), wanted, reduction="none")
    return (losses * weights[targets]).mean()


def validated(found: Sequence[tuple[Tensor, Tensor]], class_weights: Tensor) -> dict[str, float]:
    """Return loss and accuracy of logits N×K and classes N, in batches.

    The loss is that at the best temperature. Networks grow too sure of themselves long before
    they get worse at telling classes apart, and their temperature is set after training.
    """
    logits = torch.cat([each.float() for each, _ in found]).cpu()
    targets = torch.cat([each for _, each in found]).cpu()
    temperature = fit_temperature(logits.double().numpy(), targets.numpy())
    losses = _losses(logits / temperature, targets, class_weights)
    return {name: float(value) for name, value in losses.items()}


def _losses(
    logits: Tensor, targets: Tensor, class_weights: Tensor, label_smoothing: float = 0.0
) -> dict[str, Tensor]:
    loss = classification_loss(logits, targets, class_weights, label_smoothing)
    found = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return {"loss": loss, "accuracy": (found == targets).float().mean()}


def _outside(maps: Tensor, masks: Tensor, targets: Tensor) -> Tensor:
    """Return the negative logarithm of the heat's share inside the masks of defects."""
    inside = F.adaptive_max_pool2d(masks, maps.shape[2:]).flatten(1) > _IN_MASK
    known = (targets > 0) & inside.any(1)
    if not known.any():
        return maps.new_zeros(())
    which = targets.clamp_max(maps.shape[1] - 1)
    if maps.shape[1] == 1:
        which = torch.zeros_like(targets)
    votes = maps.flatten(2)[torch.arange(len(maps), device=maps.device), which].float()
    shares = votes.log_softmax(1)[known].masked_fill(~inside[known], -torch.inf)
    return -torch.logsumexp(shares, 1).mean()


def _known(targets: Tensor | None) -> Tensor:
    if targets is None:
        raise ValueError("a classifier learns from pictures with targets")
    return targets


def _rate(done: float) -> float:
    return min(1.0, done / _WARM_UP + 1e-3) * half_cosine((done - _WARM_UP) / (1 - _WARM_UP))
