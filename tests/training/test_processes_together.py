"""Two processes that train one network end with the same weights, as one process would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import Run, learned_rows, weights_of
from torch import Tensor

from makellos.errors import ConfigurationError, HelperProcessError, TrainingError
from makellos.training import is_first_process
from makellos.training.sharing import mean_over_processes, of_the_first, shared_out

SCRIPT = Path(__file__).with_name("small_tasks.py")
EXACT: dict[str, Any] = {"calm": True, "augment": None}  # nothing depends on who has which picture


def start_together(*runs: dict[str, Any]) -> subprocess.Popen[str]:
    options = [{"n_devices": 2, "epochs": 3, **run} for run in runs]
    command = [sys.executable, str(SCRIPT), json.dumps(options)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def weights(folder: Path, rank: int) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(folder.with_suffix(f".{rank}.pt"))["weights"]
    return loaded


@dataclass(frozen=True)
class Ended:
    """Hold what the runs of two processes left behind."""

    folder: Path
    refused: str  # what a run on a checkpoint of another one told


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Train by two processes, resume that and train something else; and try what is refused."""
    folder = tmp_path_factory.mktemp("together")
    Run(folder / "other", epochs=1, seed=3).go()
    trains = start_together(
        {"folder": str(folder / "exact"), **EXACT},
        {"folder": str(folder / "drawing"), "epochs": 2},
        {"folder": str(folder / "drawing"), "epochs": 3, "resume": True},
    )
    refused = start_together({"folder": str(folder / "other"), "resume": True, "seed": 8})
    with trains, refused:
        out, err = trains.communicate(timeout=240)
        _, why = refused.communicate(timeout=240)
    assert (trains.returncode, out, err) == (0, "the first process goes on\n", "")
    assert refused.returncode == 1
    return Ended(folder, why)


def test_two_processes_learn_what_one_does(ended: Ended) -> None:
    task, outcome = Run(epochs=3, **EXACT).go()
    expected = weights_of(task)
    for name, values in weights(ended.folder / "exact", 0).items():
        torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-5)
    losses = torch.load(ended.folder / "exact.0.pt")["losses"]
    assert losses["loss"] == pytest.approx(outcome.losses["loss"], rel=1e-4)


@pytest.mark.parametrize("name", ["exact", "drawing"])
def test_both_processes_end_alike(ended: Ended, name: str) -> None:
    """Batch norm's running means included, and after a resumed run."""
    first, second = weights(ended.folder / name, 0), weights(ended.folder / name, 1)
    assert all(torch.equal(values, second[key]) for key, values in first.items())


def test_the_first_process_keeps_the_log(ended: Ended) -> None:
    rows = learned_rows(ended.folder / "drawing")
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]


def test_a_refused_run_ends_both_processes_and_is_told_once(ended: Ended) -> None:
    assert ended.refused.count("Traceback") == 1
    assert ended.refused.count("seed was 3 and is 8") == 1


@dataclass
class Alone:
    """Be Fabric in a process whose companion has ended."""

    global_rank: int
    world_size: int = 2

    def all_reduce(self, values: Tensor, *, reduce_op: str) -> Tensor:
        raise RuntimeError("Connection closed by peer")

    def broadcast(self, value: object) -> object:
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize("meet", [mean_over_processes, of_the_first])
def test_a_process_that_is_left_alone_ends(meet: Callable[..., Any]) -> None:
    with pytest.raises(TrainingError, match="ended; its message says why"):
        meet(Alone(0), torch.ones(2))
    with pytest.raises(HelperProcessError) as done:  # what broke off says why
        meet(Alone(1), torch.ones(2))
    assert done.value.exit_code == 1
    with pytest.raises(RuntimeError, match="Connection"):
        meet(Alone(0, world_size=1), torch.ones(2))


@pytest.mark.parametrize("name", ["LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK"])
def test_only_the_first_process_goes_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()


def test_batches_are_shared_out_evenly() -> None:
    assert [shared_out(n, 2) for n in (2, 3, 16, 17)] == [2, 2, 16, 16]
    with pytest.raises(ConfigurationError, match="1 pictures cannot be shared among 2 devices"):
        shared_out(1, 2)
