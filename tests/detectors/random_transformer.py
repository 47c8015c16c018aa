"""A small vision transformer whose weights are drawn at random, in place of a pretrained one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TRANSFORMER", "random_transformer"]

TRANSFORMER = "test_vit"  # six blocks, 64 channels, patches of 16 pixels
_STRONGER = 8  # than timm's own draws, which leave tokens nearly as they come in


@functools.cache
def random_transformer() -> dict[str, Tensor]:
    """Return the state dict of the whole network.

    Patches are seen by the means of their quarters: what is drawn at random pixel by pixel sees
    the noise of a picture and little else. Perceptrons are strong, so that brightness is more than
    a direction in which everything is alike.
    """
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(TRANSFORMER, pretrained=False)
        state: dict[str, Tensor] = network.state_dict()
        filters = state["patch_embed.proj.weight"]
        quarters = torch.randn(*filters.shape[:2], 2, 2)
        filters.copy_(quarters.repeat_interleave(8, 2).repeat_interleave(8, 3) / 64)
        state["pos_embed"].mul_(5)
        for name, weights in state.items():
            if "mlp" in name and name.endswith("weight"):
                weights.mul_(_STRONGER)
    return state
