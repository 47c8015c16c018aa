"""Training that goes wrong says so, and the last checkpoint stays whole."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tasks import Run, SmallAutoencoder, SmallGAN, noise_pictures, same_weights
from torch import Tensor

from makellos.errors import ConfigurationError, StorageError, TrainingError
from makellos.training import Training
from makellos.training.checkpoints import BEST, LAST, read_checkpoint
from makellos.training.devices import open_fabric
from makellos.training.task import Update


class Failing(SmallAutoencoder):
    """Do something at a step."""

    def __init__(self, when: int, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.when, self.what = when, what

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        losses = super().step(batch, update, number)
        return {"loss": self.what(losses["loss"])} if number == self.when else losses


def failing(when: int, what: Callable[[Tensor], Tensor]) -> Callable[[], SmallAutoencoder]:
    return lambda: Failing(when, what)


def out_of_memory(_: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def out_of_memory_on_a_processor(_: Tensor) -> Tensor:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
    )


def bad_input(_: Tensor) -> Tensor:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (lambda loss: loss * float("nan"), "the loss is nan at step 7"),
        (lambda loss: loss * float("inf"), "the loss is inf at step 7"),
        (lambda loss: loss * 0 + 3e9, r"the loss has grown to 3e\+09 at step 7"),
        (out_of_memory, "cpu does not have enough memory for batches of 16 .*batch_size=8 "),
        (out_of_memory_on_a_processor, "does not have enough memory"),
    ],
)
def test_a_failing_step_is_named_and_the_run_can_go_on(
    tmp_path: Path, what: Callable[[Tensor], Tensor], named: str
) -> None:
    with pytest.raises(TrainingError, match=named):
        Run(tmp_path, make=failing(7, what)).go()
    _, held = read_checkpoint(tmp_path / LAST)
    assert held["state"]["step"] == 7
    assert same_weights(Run(tmp_path).go(resume=True)[0], Run().go()[0])


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1"):
        Run(make=failing(7, bad_input)).go()


def test_a_batch_of_one_cannot_be_halved() -> None:
    with pytest.raises(TrainingError) as told:
        Run(make=failing(7, out_of_memory), batch_size=1, calm=True).go()
    assert "batch_size" not in str(told.value)
    assert "image_size" in str(told.value)


def test_a_validation_loss_that_is_no_number_is_named() -> None:
    class NoNumber(SmallAutoencoder):
        def validate(self, batch: Tensor) -> dict[str, Tensor]:
            return {"loss": torch.tensor(float("nan"))}

    with pytest.raises(TrainingError, match="validation loss loss is nan"):
        Run(make=NoNumber).go()


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path: Path) -> None:
    """A loss is finite once more in the step that spoils the weights."""

    class Spoilt(SmallAutoencoder):
        def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
            losses = super().step(batch, update, number)
            if number == 7:
                with torch.no_grad():
                    self.network[0].weight[0, 0, 0, 0] = float("inf")
            return losses

    with pytest.raises(TrainingError, match=r"weights of the autoencoder .* at step 8"):
        Run(tmp_path, make=Spoilt).go()
    tensors, held = read_checkpoint(tmp_path / LAST)
    assert held["state"]["step"] == 7
    assert all(values.isfinite().all() for values in tensors.values())


def full_disk(fails: Callable[[Path], bool]) -> Callable[..., Any]:
    """Return a `Path.open` that finds no room for files that `fails` names."""
    really = Path.open

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        stream = really(path, mode, *arguments, **options)
        if "r" not in mode and fails(path):
            if ".partial" not in path.name:
                stream.close()
            return FullFile(stream, no_room)
        return stream

    return opened


class FullFile:
    """Be a file on a disk that has become full."""

    def __init__(self, stream: Any, no_room: Callable[..., int]) -> None:
        self.name, self.write, self.fileno = stream.name, no_room, stream.fileno
        self.close = stream.close
        self.flush = lambda: None

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.mark.parametrize("name", [LAST, BEST, "losses.csv", "tfevents"])
def test_a_full_disk_is_told_and_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Run(tmp_path, epochs=2).go()
    before = read_checkpoint(tmp_path / LAST)[1]["state"]
    monkeypatch.setattr(Path, "open", full_disk(lambda path: name in path.name))
    with pytest.raises(StorageError, match=r"No space left on device.*--resume"):
        Run(tmp_path, epochs=6).go(resume=True)
    monkeypatch.undo()
    after = read_checkpoint(tmp_path / LAST)[1]["state"]
    assert after["step"] >= before["step"]
    assert not list(tmp_path.glob(".*.partial"))
    assert same_weights(Run(tmp_path, epochs=6).go(resume=True)[0], Run(epochs=6).go()[0])


def test_a_checkpoint_is_replaced_only_when_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    Run(tmp_path, epochs=2).go()
    before = (tmp_path / LAST).read_bytes()
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError):
        Run(tmp_path, epochs=3, validates=True).go(resume=True)
    assert (tmp_path / LAST).read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be used"):
        Run(tmp_path / "run").go()


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(StorageError, match="cannot be used"):
        Run(tmp_path / "run").go()
    assert (tmp_path / "run").read_text() == "mine"


def test_a_file_that_is_open_elsewhere_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses while a virus scanner or an indexer looks at the old file."""
    really, refused = Path.replace, [2]

    def replace(path: Path, target: Path) -> Path:
        if refused[0]:
            refused[0] -= 1
            raise PermissionError(errno.EACCES, "in use")
        return really(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    Run(tmp_path, epochs=1).go()
    assert (tmp_path / LAST).is_file()


GAN: dict[str, Any] = {"epochs": 130, "batch_size": 28, "augment": None, "validates": False}


def test_a_collapsed_generator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="generator collapsed at step") as told:
        Run(tmp_path, make=lambda: SmallGAN(collapsed=True), checkpoint_seconds=9, **GAN).go()
    step = int(str(told.value).split("at step ")[1].split(":")[0])
    assert 0.2 * 260 + 100 <= step < 260


def test_a_collapse_that_comes_too_late_to_be_sure_is_noted() -> None:
    task, outcome = Run(make=lambda: SmallGAN(collapsed=True), **{**GAN, "epochs": 4}).go()
    assert "almost all alike" in outcome.notes[0]
    assert not any(module.training for module in task.networks["generator"].modules())


def test_a_healthy_generator_is_not_refused() -> None:
    assert Run(make=SmallGAN, **GAN).go()[1].notes == []


def test_zero_loss_of_the_discriminator_is_noted() -> None:
    _, outcome = Run(make=lambda: SmallGAN(wins=True), **GAN).go()
    assert len(outcome.notes) == 1
    assert "discriminator's loss is zero" in outcome.notes[0]


def test_a_collapse_is_found_within_an_epoch() -> None:
    """Where there are many pictures, an epoch may be all of training."""
    many = noise_pictures(1200, side=16)
    options = {**GAN, "epochs": 1, "batch_size": 4, "pictures": many}
    with pytest.raises(TrainingError, match="collapsed"):
        Run(make=lambda: SmallGAN(collapsed=True), **options).go()


def test_a_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigurationError, match=r"cannot use 'cuda' .*it can use cpu"):
        open_fabric(Training(device="cuda"), mixed=False)


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match=r"4 devices of kind 'cuda'.*has 1"):
        open_fabric(Training(device="cuda", n_devices=4), mixed=False)


def test_xpu_is_not_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    fabric = open_fabric(Training(device="xpu", precision="bf16"), mixed=False)
    assert fabric.device == torch.device("xpu", 0)
    with fabric.autocast():
        assert torch.is_autocast_enabled("xpu")


@pytest.mark.parametrize("name", ["devices", "nodes"])
def test_counts_below_one(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"number of {name} is 0"):
        Training(**{f"n_{name}": 0})


def test_names_that_there_are_not() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'cuda'"):
        Training(device="cud")
    with pytest.raises(ConfigurationError, match="Did you mean 'bf16'"):
        Training(precision="bf6")


def test_one_picture_is_enough_for_a_batch() -> None:
    one = noise_pictures(1)
    _, outcome = Run(pictures=one, validates=False, calm=True, epochs=2).go()
    assert outcome.n_steps == 2
    assert np.isfinite(outcome.losses["loss"])
