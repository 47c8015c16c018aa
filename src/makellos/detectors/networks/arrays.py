"""Take networks apart into arrays by name, and put them together again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["arrays_of", "load_arrays", "misfits"]


def arrays_of(network: nn.Module, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    """Return a network's weights and running figures, named `prefix` and their own name."""
    return {
        prefix + name: values.detach().cpu().float().numpy().copy()
        for name, values in network.state_dict().items()
        if values.is_floating_point()  # counters of batches are of no use after training
    }


def load_arrays(
    network: nn.Module, arrays: Mapping[str, NDArray[np.float32]], prefix: str = ""
) -> set[str]:
    """Give a network what `arrays_of` took from one like it, in evaluation mode.

    Returns the names of arrays that are missing, too many or of another shape, in which case the
    network stays as it is.
    """
    wrong = misfits(network, arrays, prefix)
    if not wrong:
        given = _given(arrays, prefix)
        network.load_state_dict(
            {name: torch.from_numpy(np.array(values)) for name, values in given.items()},
            strict=False,
        )
        network.eval()
    return wrong


def misfits(
    network: nn.Module, arrays: Mapping[str, NDArray[np.float32]], prefix: str = ""
) -> set[str]:
    """Return the names of arrays that a network lacks, has not, or has of another shape."""
    given = {name: values.shape for name, values in _given(arrays, prefix).items()}
    own = network.state_dict().items()
    shapes = {name: tuple(each.shape) for name, each in own if each.is_floating_point()}
    wrong = shapes.keys() ^ given.keys()
    return wrong | {name for name in shapes.keys() & given.keys() if shapes[name] != given[name]}


def _given(
    arrays: Mapping[str, NDArray[np.float32]], prefix: str
) -> dict[str, NDArray[np.float32]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
