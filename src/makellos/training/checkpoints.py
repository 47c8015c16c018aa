"""Checkpoints as safetensors with JSON in their header, written in one step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from makellos.errors import ConfigurationError, StorageError
from makellos.storage import storage_errors, write_bytes, write_text

__all__ = [
    "check_identity",
    "claim_folder",
    "pack",
    "read_checkpoint",
    "unpack",
    "weights_of",
    "write_checkpoint",
]

RUN, LAST, BEST = "run.json", "last.safetensors", "best.safetensors"
LOSSES, BOARD = "losses.csv", "tensorboard"
_HEADER = "makellos"
_FREE = {"epochs", "encoder_epochs", "patience"}  # a resumed run may differ in these
_PICTURES = {"pictures": "the pictures to learn from", "validation": "the pictures set aside"}
GO_ON = "The last checkpoint, if any, is intact; make room and continue with --resume."


def claim_folder(folder: Path, identity: Mapping[str, Any], *, resume: bool) -> bool:
    """Make a run directory this run's own, and tell whether there is a checkpoint to go on from.

    Without `resume` an earlier run in it is removed. Raises `StorageError` for a folder that holds
    something else and where nothing can be written.
    """
    advice = "Close any program that has files in it open, or choose another name for the model."
    with storage_errors(f"{folder} cannot be used for a training run", advice):
        found = folder.iterdir() if folder.is_dir() else ()
        # Hidden files are the halves that a killed run left, or the file manager's.
        held = [path.name for path in found if path.is_file() and not path.name.startswith(".")]
        if held and RUN not in held:
            raise StorageError(
                f"{folder} holds something other than a training run; it is left alone. Choose "
                "another name for the model, or move the folder away."
            )
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".*.partial"):
            partial.unlink()
        if resume and (folder / LAST).is_file():
            return True
        _remove_run(folder)
    text = json.dumps(identity, indent=1, sort_keys=True, default=str) + "\n"
    write_text(folder / RUN, text, GO_ON)
    return False


def pack(networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]) -> dict[str, Any]:
    """Return the weights and optimizers' states: ``tensors`` by name, ``optimizers`` as plain data.

    The tensors are copies: training may go on.
    """
    tensors = {
        f"network/{name}/{key}": _copy(values)
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
                    tensors[f"optimizer/{name}/{number}/{key}"] = _copy(value)
                else:
                    plain[name]["state"].setdefault(str(number), {})[key] = value
    return {"tensors": tensors, "optimizers": plain}


def _copy(values: Tensor) -> Tensor:
    return values.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def unpack(
    tensors: Mapping[str, Tensor],
    optimizer_data: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    path: Path,
) -> None:
    """Load what `pack` returned; raises `ConfigurationError` where a network is of another form."""
    for name, network in networks.items():
        weights = weights_of(tensors, name)
        expected = {key: tuple(values.shape) for key, values in network.state_dict().items()}
        if {key: tuple(values.shape) for key, values in weights.items()} != expected:
            raise ConfigurationError(
                f"{path} does not hold a matching {name}: it is the checkpoint of another "
                "detector, size or width. Fit without --resume, or with the parameters of that run."
            )
        network.load_state_dict(weights)
    if optimizer_data.keys() != optimizers.keys():
        raise ConfigurationError(
            f"{path} holds optimizers of {_listed(optimizer_data)}, but this detector has those of "
            f"{_listed(optimizers)}: it is another detector's checkpoint. Fit without --resume."
        )
    for name, optimizer in optimizers.items():
        data = optimizer_data[name]
        state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in data["state"].items()}
        prefix = f"optimizer/{name}/"
        for key, stored in tensors.items():
            if key.startswith(prefix):
                number, _, entry = key.removeprefix(prefix).partition("/")
                state.setdefault(int(number), {})[entry] = stored
        optimizer.load_state_dict({"state": state, "param_groups": data["groups"]})
        _lay_out_as_weights(optimizer)


def weights_of(tensors: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the weights of one network, by its name, among those that `pack` returned."""
    prefix = f"network/{network}/"
    return {key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)}


def _listed(names: Mapping[str, Any]) -> str:
    return " and ".join(sorted(names)) or "nothing"


def _lay_out_as_weights(optimizer: Optimizer) -> None:
    """Give states the memory format of their weights, in which steps are fast and bits the same."""
    for weights, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weights.shape:
                state[key] = torch.empty_like(weights, dtype=value.dtype).copy_(value)


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and plain data in one step: `path` is the old checkpoint or the whole new one.

    Raises `StorageError` when the disk says no; the old one stays.
    """
    write_bytes(path, save(dict(tensors), {_HEADER: json.dumps(state)}), GO_ON)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the plain data of a checkpoint.

    Raises `StorageError` for a file that is missing, damaged or no checkpoint.
    """
    try:
        with safe_open(path, "pt") as stored:
            state = json.loads((stored.metadata() or {})[_HEADER])
            # Copies: a file that is mapped into memory cannot be replaced on Windows.
            return {name: stored.get_tensor(name).clone() for name in stored.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StorageError(
            f"{path} is not a checkpoint, or is damaged ({error}). Fit without --resume to start "
            "over."
        ) from error


def check_identity(before: Mapping[str, Any], identity: Mapping[str, Any], path: Path) -> None:
    """Raise `ConfigurationError` that names what differs, unless a checkpoint is of this run.

    More epochs and another patience may be asked of the same run.
    """
    now = json.loads(json.dumps(identity, default=str))
    differing = [
        f"{_PICTURES[key]} have changed"
        if key in _PICTURES
        else f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted({*before, *now} - _FREE)
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise ConfigurationError(
            f"{path} is the checkpoint of another run: {'; '.join(differing)}. Fit as before, or "
            "without --resume to start over."
        )


def _remove_run(folder: Path) -> None:
    # What makes the folder a run's goes last, so that a removal that was broken off can go on.
    for name in (LAST, BEST, LOSSES):
        (folder / name).unlink(missing_ok=True)
    for events in (folder / BOARD).glob("events.out.tfevents.*"):
        events.unlink()
    (folder / RUN).unlink(missing_ok=True)
