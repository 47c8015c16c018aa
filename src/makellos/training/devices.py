"""The device that is trained on, by Lightning Fabric: processor, CUDA, ROCm, MPS or XPU."""

from __future__ import annotations

import atexit
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.accelerator import Accelerator
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from lightning_fabric.strategies.strategy import Strategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from makellos.errors import ConfigurationError
from makellos.training.settings import Training

__all__ = ["XPUAccelerator", "open_fabric", "precision_of", "usable_devices"]


class XPUAccelerator(Accelerator):
    """Let Fabric train on Intel GPUs, which torch knows as ``xpu``."""

    def setup_device(self, device: torch.device) -> None:
        """Make `device` the current one."""
        torch.xpu.set_device(device)

    def teardown(self) -> None:
        """Give cached memory back."""
        torch.xpu.empty_cache()

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        """Return the numbers of the devices that a count or a list means."""
        return list(range(devices)) if isinstance(devices, int) else devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """Return the devices of these numbers."""
        return [torch.device("xpu", number) for number in XPUAccelerator.parse_devices(devices)]

    @staticmethod
    def auto_device_count() -> int:
        """Return how many there are."""
        return int(torch.xpu.device_count())

    @staticmethod
    def is_available() -> bool:
        """Tell whether there is one."""
        return bool(torch.xpu.is_available())

    @staticmethod
    def name() -> str:
        """Return the name that torch has for it."""
        return "xpu"


def usable_devices() -> list[str]:
    """Return what torch can train on here, the fastest first."""
    known = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
    return [*(name for name, module in known.items() if module.is_available()), "cpu"]


def open_fabric(training: Training, *, mixed: bool) -> Fabric:
    """Return Fabric on the device and in the precision of `training`, its processes started.

    `mixed` says whether bf16 helps the networks at hand; it decides where the precision is
    ``auto``. Raises `ConfigurationError` for a device that torch cannot use here.
    """
    device = _choose(training)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    many = training.n_devices > 1 or training.n_nodes > 1
    strategy: Strategy | str = "ddp" if many else "auto"
    if device == "xpu" and not many:
        # What Fabric does not know by name it would put on the processor.
        strategy = SingleDeviceStrategy(torch.device("xpu", 0))
    bf16 = training.precision == "bf16" or (
        training.precision == "auto" and mixed and _has_fast_bf16(device)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fabric = Fabric(
                accelerator=XPUAccelerator() if device == "xpu" else device,
                devices=training.n_devices,
                num_nodes=training.n_nodes,
                strategy=strategy,
                plugins=[MixedPrecision("bf16-mixed", device)] if bf16 else None,
            )
            if many:
                fabric.launch()
                atexit.unregister(_part)
                atexit.register(_part)
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise ConfigurationError(
            f"{training.n_devices} {device} devices on each of {training.n_nodes} machines could "
            f"not start together: {error}. Use fewer with --devices or --nodes."
        ) from error
    return fabric


def _part() -> None:
    """Leave the other processes in order; what still runs in the group's threads would abort."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def precision_of(fabric: Fabric) -> Iterator[None]:
    """Compute in the precision of a run, with weights as they are now.

    Weights change within a step, and autocast would go on with the bf16 copies that it keeps.
    """
    kept = torch.is_autocast_cache_enabled()
    with fabric.autocast():
        torch.set_autocast_cache_enabled(False)
        try:
            yield
        finally:
            torch.set_autocast_cache_enabled(kept)


def _choose(training: Training) -> str:
    usable = usable_devices()
    device = usable[0] if training.device == "auto" else training.device
    if device not in usable:
        raise ConfigurationError(
            f"torch cannot use {device!r} on this machine; it can use {' and '.join(usable)}. "
            "Choose one of these, or 'auto'."
        )
    n_there = 1 if device == "mps" else torch.get_device_module(device).device_count()
    if device != "cpu" and training.n_devices > n_there:
        raise ConfigurationError(
            f"{training.n_devices} devices of kind {device!r} were asked for, but this machine has "
            f"{n_there}. Use at most {n_there} with --devices."
        )
    return device


def _has_fast_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        # Without AMX a processor emulates bf16, slower than float32.
        return bool(torch.cpu._is_amx_tile_supported())
    return device == "xpu"
