"""Several processes that train one network: batches shared out, gradients and losses averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from makellos.errors import ConfigurationError, HelperProcessError, TrainingError

__all__ = [
    "average",
    "average_buffers",
    "draw_apart",
    "mean_over_processes",
    "of_the_first",
    "shared_out",
]

T = TypeVar("T")


def shared_out(batch_size: int, n_processes: int) -> int:
    """Return the batch size, at most `batch_size`, that gives each process as many pictures.

    Raises `ConfigurationError` where there is less than a picture for each.
    """
    if batch_size < n_processes:
        raise ConfigurationError(
            f"Batches of {batch_size} pictures cannot be shared among {n_processes} devices. Use "
            "fewer --devices, or a larger batch_size."
        )
    return batch_size - batch_size % n_processes


def draw_apart(rank: int, step: int) -> None:
    """Seed process `rank` for draws of its own; the first keeps the generators as they are."""
    if rank > 0:
        torch.manual_seed(torch.initial_seed() + 1_000_003 * rank + step)


def mean_over_processes(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the mean of a contiguous tensor over the processes; all of them must call it."""
    with _with_the_others(fabric):
        return cast(Tensor, fabric.all_reduce(values, reduce_op="mean"))


def of_the_first(fabric: Fabric, value: T) -> T:
    """Return the value that the first process has; all of them must call it."""
    with _with_the_others(fabric):
        return fabric.broadcast(value)


@contextmanager
def _with_the_others(fabric: Fabric) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1:
            raise
        if fabric.global_rank > 0:
            raise HelperProcessError("The first process says why.", exit_code=1) from None
        raise TrainingError(
            "Another process training together with this one has ended; its message says why. "
            "The last checkpoint is intact: continue with --resume."
        ) from error


def average(fabric: Fabric, tensors: Sequence[Tensor]) -> None:
    """Set tensors to their means over the processes, in one message."""
    if tensors and fabric.world_size > 1:
        together = torch.cat([values.float().flatten() for values in tensors])
        together = mean_over_processes(fabric, together)
        pieces = together.split([values.numel() for values in tensors])
        for values, piece in zip(tensors, pieces, strict=True):
            values.copy_(piece.view(values.shape))


def average_buffers(fabric: Fabric, networks: Iterable[nn.Module]) -> None:
    """Give all processes the same running means of batch norm."""
    buffers = [values for network in networks for values in network.buffers()]
    average(fabric, [values for values in buffers if values.is_floating_point()])
