"""Take networks apart into arrays by name, and put them together again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["arrays_of", "load_arrays"]


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
    given = {
        name.removeprefix(prefix): torch.from_numpy(np.array(values))
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
    shapes = {k: v.shape for k, v in network.state_dict().items() if v.is_floating_point()}
    wrong = shapes.keys() ^ given.keys()
    wrong |= {k for k in shapes.keys() & given.keys() if shapes[k] != given[k].shape}
    if not wrong:
        network.load_state_dict(given, strict=False)
        network.eval()
    return wrong
