"""What a method gives the training loop: networks, optimizers, a step, and what to look at."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Task", "Update", "half_cosine"]


class Update(Protocol):
    """Take one optimisation step: ``update(loss, "generator")``.

    Gradients of that optimizer's parameters are cleared, computed from `loss`, averaged over the
    devices, and the optimizer steps. `retain_graph` keeps the graph for a further backward pass.
    """

    def __call__(self, loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None: ...


class Task(ABC):
    """Train networks on batches N×C×H×W float32 in [0, 1].

    The loop moves `networks` to the device, keeps them and `optimizers` in checkpoints by name,
    and calls `step` in training mode and the rest in evaluation mode without gradients, all under
    the precision of the run. Every draw comes from torch's global generator, which the loop seeds
    and keeps in checkpoints.
    """

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    # Whether bf16 makes these networks faster and no worse, where the device computes it fast.
    mixed_precision: bool = True
    # Classes N of the batch, int64, where pictures have them: set before `step` and `validate`.
    targets: Tensor | None = None
    # What losses are called where a user sees them, if not as `step` names them.
    called: Mapping[str, str] = MappingProxyType({})
    # Steps of the whole run: set before the first one.
    n_steps: int = 1

    @abstractmethod
    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        """Take the optimisation steps of a batch and return losses by name, each a scalar.

        `number` counts the steps of the run from 0. A loss named ``discriminator`` is 0 where the
        discriminator knows every part: where targets are smoothed, the least they allow is taken
        off, or else its victory goes unnoticed.
        """

    def set_rate(self, rate: float) -> None:
        """Give all optimizers a learning rate."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def validate(self, _batch: Tensor) -> dict[str, Tensor]:
        """Return losses of held-out pictures, means over the batch; ``loss`` decides which is best.

        Nothing, as here, means that the last weights are kept.
        """
        return {}

    def validate_all(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """Return losses of all held-out pictures, from batches of them: means of `validate`."""
        sums: dict[str, float] = {}
        n_pictures = 0
        for batch in batches:
            n_pictures += len(batch)
            for name, value in self.validate(batch).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
        return {name: total / n_pictures for name, total in sums.items()}

    def pictures(self, _batch: Tensor) -> dict[str, Tensor]:
        """Return pictures N×C×H×W in [0, 1] to look at, by name, for a batch of real ones."""
        return {}

    def samples(self, _n: int) -> Tensor | None:
        """Return n pictures that a generator makes of random latents; None without generator."""
        return None


def half_cosine(done: float) -> float:
    """Return the share of a learning rate that is left when a share of the steps is done.

    >>> [round(half_cosine(done), 3) for done in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
