"""A small network that tells damaged places from good ones, and its training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from makellos.training.task import Task, Update, half_cosine

__all__ = ["PlaceHead", "PlaceTask"]


class PlaceHead(nn.Module):  # type: ignore[misc]
    """Give embeddings N×C the logits N of being damaged, by one hidden layer."""

    def __init__(self, n_channels: int, hidden_units: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_channels, hidden_units)
        self.out = nn.Linear(hidden_units, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.out(self.hidden(embeddings).relu())[:, 0]
        return logits


class PlaceTask(Task):
    """Train a head on standardised embeddings N×C×1×1 of good (0) and damaged (1) places.

    To half of the good places of a batch Gaussian noise of `noise` standard deviations is added,
    and they count as damaged as well; 0 leaves them out.
    """

    mixed_precision = False

    def __init__(self, head: PlaceHead, *, learning_rate: float, noise: float) -> None:
        self.head, self.learning_rate, self.noise = head, learning_rate, noise
        self.networks = {"head": head}
        self.optimizers = {"head": AdamW(head.parameters(), learning_rate, weight_decay=0.01)}

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        if self.targets is None:
            raise ValueError("a head learns from places with targets")
        self.set_rate(self.learning_rate * half_cosine(number / self.n_steps))
        places, targets = batch.flatten(1), self.targets
        if self.noise:
            good = places[targets == 0][::2]
            places = torch.cat([places, good + self.noise * torch.randn_like(good)])
            targets = torch.cat([targets, targets.new_ones(len(good))])
        logits = self.head(places).float()
        loss = F.binary_cross_entropy_with_logits(logits, targets.float())
        update(loss, "head")
        accuracy = ((logits > 0) == (targets > 0)).float().mean()
        return {"loss": loss.detach(), "accuracy": accuracy.detach()}
