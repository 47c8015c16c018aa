"""Where and how a detector is trained: run folder, resuming, devices, precision."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from makellos.data.memory import Means
from makellos.errors import ConfigurationError, suggest

__all__ = ["DEVICES", "PRECISIONS", "Training", "is_first_process", "run_folder"]

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
PRECISIONS = ("auto", "f32", "bf16")
# What others call them.
_OTHERS = {
    **dict.fromkeys(("gpu", "nvidia", "amd", "rocm", "hip"), "cuda"),
    **dict.fromkeys(("metal", "apple", "mac"), "mps"),
    **dict.fromkeys(("intel", "arc"), "xpu"),
    **dict.fromkeys(("fp32", "float32", "32", "full", "single"), "f32"),
    **dict.fromkeys(("bfloat16", "bf16-mixed", "amp", "mixed", "16", "fp16", "half"), "bf16"),
}
# How Lightning and torchrun number the processes that train together.
_RANKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Say where and how to train; apart from rounding, what is learned does not depend on it.

    `folder` is the run directory (None: nothing of the run is kept). `resume` continues from the
    checkpoint in it. `device` is ``auto``, ``cpu``, ``cuda`` (also for ROCm), ``mps`` or ``xpu``;
    `n_devices` of them are used on each of `n_nodes` machines. `precision` is ``f32``, ``bf16``
    (mixed) or ``auto``. At least `checkpoint_seconds` pass between two checkpoints, and at least
    twenty times as long as writing one takes; 0 writes one after every step. `on_epoch` is called
    after each epoch with its number, from 1, and its losses by name (those of held-out parts begin
    with ``validation_``); what it raises ends the training. `means` bound what a detector that is
    not trained uses.

    Raises `ConfigurationError` for an unknown device or precision, and for counts below 1.
    """

    folder: Path | None = None
    resume: bool = False
    device: str = "auto"
    n_devices: int = 1
    n_nodes: int = 1
    precision: str = "auto"
    checkpoint_seconds: float = 10.0
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = field(default=None, repr=False)
    means: Means = field(default_factory=Means)

    def __post_init__(self) -> None:
        known = {"device": (self.device, DEVICES), "precision": (self.precision, PRECISIONS)}
        for name, (value, accepted) in known.items():
            if value not in accepted:
                raise ConfigurationError(
                    f"There is no {name} {value!r}. {suggest(value, accepted, _OTHERS)}"
                )
        for name, number in (("devices", self.n_devices), ("nodes", self.n_nodes)):
            if number < 1:
                raise ConfigurationError(
                    f"The number of {name} is {number}; expected a whole number, at least 1."
                )

    def inside(self, name: str) -> Self:
        """Return the same for a run of its own in the folder `name` of this run's."""
        return replace(self, folder=None if self.folder is None else self.folder / name)


def is_first_process() -> bool:
    """Tell whether this process goes on after training; the others only help with it."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def run_folder(model: Path) -> Path:
    """Return the run directory of a model's training."""
    return model.with_name(f"{model.name}.run")
