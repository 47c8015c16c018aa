"""Processes that train and are killed on the way."""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from small_tasks import Run, SmallAutoencoder
from torch import Tensor

from makellos.training.task import Update

# Forked from a process that has torch already, where there is such a thing.
_START = "spawn" if sys.platform == "win32" else "forkserver"


class Telling(SmallAutoencoder):
    """Tell a parent process when step `when` of this process begins."""

    def __init__(self, when: int, pipe: Connection) -> None:
        super().__init__()
        self.left, self.pipe = when, pipe

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        self.left -= 1
        if self.left == 0:
            self.pipe.send(number)
        return super().step(batch, update, number)


def context() -> Any:
    """Return what starts processes."""
    found = multiprocessing.get_context(_START)
    if _START == "forkserver":
        found.set_forkserver_preload(["makellos.training.loop"])
    return found


def kill_at(when: int, later: float, options: dict[str, Any]) -> int:
    """Resume a run, kill it `later` seconds after its step `when`, and return the step's number."""
    starts = context()
    ours, theirs = starts.Pipe(duplex=False)
    process = starts.Process(target=_train, args=(when, theirs, options))
    process.start()
    theirs.close()
    number = int(ours.recv())
    time.sleep(later)
    process.kill()
    process.join()
    assert process.exitcode != 0, "the run ended before it was killed"
    return number


def _train(when: int, pipe: Connection, options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    folder = Path(options.pop("folder"))
    Run(folder, make=lambda: Telling(when, pipe), **options).go(resume=True)
