"""A run that is killed and resumed ends where one that was never killed ends, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import kill_at
from small_tasks import (
    Run,
    SmallAutoencoder,
    SmallGAN,
    learned_rows,
    noise_pictures,
    same_weights,
)
from torch import Tensor

from makellos.errors import ConfigurationError, StorageError
from makellos.training.checkpoints import BEST, LAST, LOSSES, pack, read_checkpoint, unpack
from makellos.training.task import Task


class StopError(Exception):
    """Break a run off."""


def stop_at(step: int) -> Callable[[Tensor], Tensor]:
    """Return an augmentation that breaks off at its call number `step`."""
    left = [step]

    def augment(batch: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise StopError
        return batch.flip(3) if torch.rand(()) < 0.5 else batch

    return augment


def stopped(run: Run, step: int) -> Run:
    """Break `run` off at a step, and return it as it would be asked for again."""
    augment, run.augment = run.augment, stop_at(step)
    with pytest.raises(StopError):
        run.go()
    run.augment = augment
    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_ten_kills_at_random_moments(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 24, "patience": 20}
    never, outcome = Run(tmp_path / "never", **options).go()
    draw = random.Random(5)
    reached = [
        kill_at(
            draw.randint(2, 8), draw.uniform(0, 0.02), {"folder": str(tmp_path / "a"), **options}
        )
        for _ in range(10)
    ]
    assert 10 < reached[-1] < outcome.n_steps - 1
    assert reached == sorted(reached)
    task, again = Run(tmp_path / "a", **options).go(resume=True)
    assert same_weights(task, never)
    assert again == outcome
    assert learned_rows(tmp_path / "a") == learned_rows(tmp_path / "never")


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5, 13])
@pytest.mark.parametrize("validates", [True, False])
def test_break_at_a_step(tmp_path: Path, step: int, validates: bool) -> None:
    never, outcome = Run(validates=validates).go()
    run = stopped(Run(tmp_path, validates=validates), step)
    task, again = run.go(resume=True)
    assert same_weights(task, never)
    assert again == outcome


def test_checkpoints_far_apart(tmp_path: Path) -> None:
    """Rows that were logged after the last checkpoint are learned, and logged, again."""
    never = Run(tmp_path / "never")
    task, _ = never.go()
    run = stopped(Run(tmp_path / "a"), 5)
    run.checkpoint_seconds = 1000
    run.augment = stop_at(8)
    with pytest.raises(StopError):
        run.go(resume=True)
    run.augment = never.augment
    again, _ = run.go(resume=True)
    assert same_weights(task, again)
    assert learned_rows(tmp_path / "a") == learned_rows(tmp_path / "never")


def test_early_stopping_resumes_to_the_same_end(tmp_path: Path) -> None:
    class Worse(Task):
        """Validate better for two epochs and worse ever after."""

        mixed_precision = False

        def __init__(self) -> None:
            self.network = torch.nn.Conv2d(1, 1, 1)
            self.networks = {"network": self.network}
            self.optimizers = {"network": torch.optim.SGD(self.network.parameters(), 0.1)}
            self.epochs = 0

        def step(self, batch: Tensor, update: Any, number: int) -> dict[str, Tensor]:
            self.epochs = number // 4 + 1
            loss = self.network(batch).square().mean()
            update(loss, "network")
            return {"loss": loss.detach()}

        def validate(self, batch: Tensor) -> dict[str, Tensor]:
            return {"loss": torch.tensor(abs(self.epochs - 2.0))}

    best, _ = Run(make=Worse, epochs=2, pictures=noise_pictures(80)).go()
    options: dict[str, Any] = {"make": Worse, "patience": 3, "pictures": noise_pictures(80)}
    never, outcome = Run(epochs=30, **options).go()
    assert outcome.n_epochs == 5
    assert outcome.best_loss == 0
    assert same_weights(never, best)
    for step in (9, 19):
        run = stopped(Run(tmp_path / str(step), epochs=30, **options), step)
        again, outcome_again = run.go(resume=True)
        assert same_weights(again, best)
        assert outcome_again == outcome
    # A run that early stopping ended has ended, however many epochs are asked for.
    assert Run(tmp_path / "19", epochs=60, **options).go(resume=True)[1] == outcome


def test_more_epochs_go_on(tmp_path: Path) -> None:
    long, outcome = Run(tmp_path / "long", epochs=6).go()
    Run(tmp_path / "a", epochs=4).go()
    task, again = Run(tmp_path / "a", epochs=6).go(resume=True)
    assert same_weights(task, long)
    assert again == outcome
    assert learned_rows(tmp_path / "a") == learned_rows(tmp_path / "long")


def test_a_run_that_is_done_is_not_trained_again(tmp_path: Path) -> None:
    task, outcome = Run(tmp_path).go()
    before = files_of(tmp_path)
    again, outcome_again = Run(tmp_path, augment=stop_at(0)).go(resume=True)
    assert same_weights(task, again)
    assert outcome_again == outcome
    assert (outcome.went_on, outcome_again.went_on) == (True, False)
    assert files_of(tmp_path) == before


def test_resume_without_a_run_begins_one(tmp_path: Path) -> None:
    task, _ = Run(tmp_path).go(resume=True)
    assert same_weights(task, Run().go()[0])


def test_gan_resumes(tmp_path: Path) -> None:
    never, outcome = Run(make=SmallGAN, epochs=30).go()
    run = stopped(Run(tmp_path, make=SmallGAN, epochs=30), 70)
    task, again = run.go(resume=True)
    assert same_weights(task, never)
    assert again == outcome


def test_a_kill_while_the_table_is_begun_anew_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(Run(tmp_path), 10)
    rows = learned_rows(tmp_path)
    monkeypatch.setattr("makellos.training.logs.write_text", _raise_stop)
    with pytest.raises(StopError):
        Run(tmp_path).go(resume=True)
    assert learned_rows(tmp_path) == rows


def _raise_stop(*_: object) -> None:
    raise StopError


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"width": 12}, "width was 8 and is 12"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"batch_size": 8}, "batch_size was 16 and is 8"),
        ({"identity": {"detector": "other"}}, "detector was 'small' and is 'other'"),
        ({"pictures": noise_pictures(seed=1)}, "pictures to learn from have changed"),
        ({"pictures": noise_pictures(side=32)}, r"shape was \[1, 16, 16\] and is \[1, 32, 32\]"),
        ({"validates": False}, "pictures set aside have changed"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    Run(tmp_path, epochs=2).go()
    before = files_of(tmp_path)
    with pytest.raises(ConfigurationError, match=named) as told:
        Run(tmp_path, epochs=2, **changed).go(resume=True)
    assert "--resume" in str(told.value)
    assert files_of(tmp_path) == before


def test_a_checkpoint_that_was_put_there_is_refused(tmp_path: Path) -> None:
    """Not run.json decides what a checkpoint is of, but the checkpoint."""
    Run(tmp_path / "a", epochs=2).go()
    Run(tmp_path / "b", epochs=2, seed=9).go()
    shutil.copy(tmp_path / "b" / LAST, tmp_path / "a" / LAST)
    with pytest.raises(ConfigurationError, match="seed was 9 and is 3"):
        Run(tmp_path / "a", epochs=2).go(resume=True)


def test_networks_of_another_form_are_refused(tmp_path: Path) -> None:
    same = {"detector": "small"}
    Run(tmp_path, epochs=2, identity=same).go()
    with pytest.raises(ConfigurationError, match="does not hold a matching autoencoder"):
        Run(tmp_path, epochs=2, identity=same, width=12).go(resume=True)
    with pytest.raises(ConfigurationError, match="does not hold a matching generator"):
        Run(tmp_path, epochs=2, identity=same, make=SmallGAN).go(resume=True)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _scribble(path: Path) -> None:
    path.write_bytes(b"\x07" * 5000)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", [LAST, BEST])
@pytest.mark.parametrize("damage", [_cut, _scribble, _empty])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    Run(tmp_path, epochs=2).go()
    damage(tmp_path / name)
    with pytest.raises(StorageError, match="damaged") as told:
        Run(tmp_path, epochs=2).go(resume=True)
    assert name in str(told.value)
    Run(tmp_path, epochs=2).go()  # beginning anew, as the message advises


def test_a_missing_best_checkpoint_is_named(tmp_path: Path) -> None:
    Run(tmp_path, epochs=2).go()
    (tmp_path / BEST).unlink()
    with pytest.raises(StorageError, match=BEST):
        Run(tmp_path, epochs=2).go(resume=True)


def test_halves_of_a_killed_write_are_no_foreign_files(tmp_path: Path) -> None:
    (tmp_path / ".run.json.partial").write_text("{")
    Run(tmp_path, epochs=1).go()
    assert not list(tmp_path.glob(".*"))
    (tmp_path / f".{LAST}.1.partial").write_bytes(b"half")
    Run(tmp_path, epochs=2).go(resume=True)
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_that_was_read_is_not_held_open(tmp_path: Path) -> None:
    """Tensors that are mapped from the file would change, or on Windows lock it."""
    Run(tmp_path, epochs=2).go()
    tensors, _ = read_checkpoint(tmp_path / LAST)
    kept = {name: values.clone() for name, values in tensors.items()}
    with (tmp_path / LAST).open("r+b") as file:
        file.write(b"\xff" * (tmp_path / LAST).stat().st_size)
    assert all(torch.equal(values, kept[name]) for name, values in tensors.items())


def test_a_run_in_json_holds_what_it_is(tmp_path: Path) -> None:
    Run(tmp_path, epochs=2).go()
    held = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert {"detector": "small", "seed": 3, "batch_size": 16, "shape": [1, 16, 16]}.items() <= (
        held.items()
    )
    assert len(held["pictures"]) == len(held["validation"]) == 64
    assert (tmp_path / LOSSES).is_file()


def test_optimizers_states_lie_in_memory_as_their_weights_do() -> None:
    """Else a resumed run steps more slowly, and by other kernels."""
    task = SmallAutoencoder()
    task.network.to(memory_format=torch.channels_last)
    loss = task.network(torch.rand(4, 1, 16, 16)).sum()
    loss.backward()
    task.optimizers["autoencoder"].step()
    packed = pack(task.networks, task.optimizers)
    other = SmallAutoencoder()
    other.network.to(memory_format=torch.channels_last)
    unpack(packed["tensors"], packed["optimizers"], other.networks, other.optimizers, Path("x"))
    for weights, state in other.optimizers["autoencoder"].state.items():
        assert state["exp_avg"].stride() == weights.stride()
        assert state["step"] == 1
    kernel = task.network[-2].weight
    assert torch.equal(
        task.optimizers["autoencoder"].state[kernel]["exp_avg"],
        other.optimizers["autoencoder"].state[other.network[-2].weight]["exp_avg"],
    )
