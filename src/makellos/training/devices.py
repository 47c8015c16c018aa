"""The device that is trained on, by Lightning Fabric: processor, CUDA, ROCm, MPS or XPU."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.accelerator import Accelerator

from makellos.errors import ConfigurationError
from makellos.training.settings import Training

__all__ = ["XPUAccelerator", "open_fabric", "usable_devices"]


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
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found.append("xpu")
    return [*found, "cpu"]


def open_fabric(training: Training, *, mixed: bool) -> Fabric:
    """Return Fabric on the device and in the precision of `training`, its processes started.

    `mixed` says whether bf16 helps the networks at hand; it decides where the precision is
    ``auto``. Raises `ConfigurationError` for a device that torch cannot use here.
    """
    usable = usable_devices()
    device = usable[0] if training.device == "auto" else training.device
    if device not in usable:
        raise ConfigurationError(
            f"torch cannot use {device!r} on this machine; it can use {' and '.join(usable)}. "
            "Choose one of these, or 'auto'."
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    many = training.n_devices > 1 or training.n_nodes > 1
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
                strategy="ddp" if many else "auto",
                precision="bf16-mixed" if bf16 else "32-true",
            )
            if many:
                fabric.launch()
    except (ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"{training.n_devices} devices of kind {device!r} cannot be used: {error}. Give "
            "fewer with --devices."
        ) from error
    return fabric


def _has_fast_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        # Without AMX a processor emulates bf16, slower than float32.
        return bool(torch.cpu._is_amx_tile_supported())
    return device == "xpu"
