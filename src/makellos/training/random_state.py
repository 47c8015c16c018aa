"""States of torch's random generators: seeded, kept in checkpoints, left undisturbed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["random_states", "seeded", "set_random_states"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a while, and leave them afterwards as they were."""
    # By itself it would wake every GPU of the machine, and warn about that.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators, as tensors of bytes."""
    states = {"random/cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[f"random/{device.type}"] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on with the draws where `random_states` was called."""
    torch.set_rng_state(states["random/cpu"])
    kept = states.get(f"random/{device.type}")
    if device.type != "cpu" and kept is not None:
        torch.get_device_module(device).set_rng_state(kept)
