"""Checkpoints as safetensors with JSON in their header, written in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from makellos.errors import ConfigurationError, StorageError

__all__ = ["claim_folder", "pack", "read_checkpoint", "unpack", "write_checkpoint", "write_text"]

RUN, LAST, BEST, LOSSES, BOARD = (
    *("run.json", "last.safetensors", "best.safetensors", "losses.csv"),
    "tensorboard",
)
_HEADER = "makellos"
_FREE = {"epochs", "encoder_epochs", "patience"}  # a resumed run may differ in these


def claim_folder(folder: Path, identity: Mapping[str, Any], *, resume: bool) -> bool:
    """Make a run directory this run's own, and tell whether there is a checkpoint to go on from.

    Without `resume` an earlier run in it is removed. Raises `StorageError` for a folder that holds
    something else and where nothing can be written, `ConfigurationError` for the run of another
    detector, of other parameters or on other parts.
    """
    try:
        held = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
        if held and RUN not in held:
            raise StorageError(
                f"{folder} holds something else than a training run; it is left alone. Choose "
                "another name for the model, or move the folder away."
            )
        folder.mkdir(parents=True, exist_ok=True)
        there = resume and (folder / LAST).is_file()
        if there:
            _check_identity(folder, identity)
            return True
        _remove_run(folder)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be used for a training run: {error.strerror}. Choose another folder."
        ) from error
    write_text(folder / RUN, json.dumps(identity, indent=1, sort_keys=True, default=str) + "\n")
    return False


def pack(networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> dict[str, Any]:
    """Return the weights and optimizers' states: ``tensors`` by name, ``optimizers`` as plain data.

    Nothing is copied that lies on the processor; write it before the next step.
    """
    tensors = {
        f"network/{name}/{key}": values.detach().cpu().contiguous()
        for name, network in networks.items()
        for key, values in network.state_dict().items()
    }
    plain: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        plain[name] = {"groups": state["param_groups"], "state": {}}
        for number, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{number}/{key}"] = value.detach().cpu().contiguous()
                else:
                    plain[name]["state"].setdefault(str(number), {})[key] = value
    return {"tensors": tensors, "optimizers": plain}


def unpack(
    tensors: Mapping[str, Tensor],
    optimizer_data: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    path: Path,
) -> None:
    """Load what `pack` returned; raises `ConfigurationError` where a network is of another form."""
    for name, network in networks.items():
        prefix = f"network/{name}/"
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        expected = {key: tuple(values.shape) for key, values in network.state_dict().items()}
        if {key: tuple(values.shape) for key, values in weights.items()} != expected:
            raise ConfigurationError(
                f"{path} holds no {name} of this form: it is the checkpoint of another detector, "
                "size or width. Fit without --resume, or with the parameters of that run."
            )
        network.load_state_dict(weights)
    for name, optimizer in optimizers.items():
        data = optimizer_data[name]
        state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in data["state"].items()}
        prefix = f"optimizer/{name}/"
        for key, stored in tensors.items():
            if key.startswith(prefix):
                number, _, entry = key.removeprefix(prefix).partition("/")
                state.setdefault(int(number), {})[entry] = stored
        optimizer.load_state_dict({"state": state, "param_groups": data["groups"]})


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and plain data in one step: `path` is the old checkpoint or the whole new one.

    Raises `StorageError` when the disk says no; the old one stays.
    """
    _replace(path, save(dict(tensors), {_HEADER: json.dumps(state)}))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, as `write_checkpoint` does."""
    _replace(path, text.encode())


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the plain data of a checkpoint.

    Raises `StorageError` for a file that is missing, damaged or no checkpoint.
    """
    try:
        with safe_open(path, "pt") as stored:
            state = json.loads((stored.metadata() or {})[_HEADER])
            return {name: stored.get_tensor(name) for name in stored.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StorageError(
            f"{path} is no checkpoint, or a damaged one ({error}). Fit without --resume to begin "
            "anew."
        ) from error


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators, as tensors of bytes."""
    states = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on with the draws where `random_states` was called."""
    torch.set_rng_state(states["random/cpu"])
    if device.type == "cuda" and "random/cuda" in states:
        torch.cuda.set_rng_state(states["random/cuda"], device)


def _check_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{folder / RUN} cannot be read ({error}). Fit without --resume to begin anew."
        ) from error
    now = json.loads(json.dumps(identity, default=str))
    differing = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted({*before, *now} - _FREE)
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise ConfigurationError(
            f"The run in {folder} cannot go on, for it is another one: {'; '.join(differing)}. "
            "Fit as before, or without --resume to begin anew."
        )


def _remove_run(folder: Path) -> None:
    for name in (LAST, BEST, LOSSES, RUN):
        (folder / name).unlink(missing_ok=True)
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    board = folder / BOARD
    if board.is_dir():
        for events in board.glob("events.out.tfevents.*"):
            events.unlink()


def _replace(path: Path, raw: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StorageError(
            f"{path} could not be written: {error.strerror}. The checkpoint before it is whole; "
            "make room and go on with --resume."
        ) from error
