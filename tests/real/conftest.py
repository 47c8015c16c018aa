"""Models of real parts, each fitted once, and processes whose memory is measured."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@dataclass(frozen=True)
class Ran:
    """Hold what a process said, how long it took and how much memory it had at its peak."""

    out: str
    seconds: float
    peak_bytes: int


@pytest.fixture(scope="session")
def run_makellos() -> Callable[..., Ran]:
    """Run the command line in a process of its own, which must succeed.

    `program` is Python's own options before the arguments.
    """

    def run(*arguments: object, program: Sequence[str] = ("-m", "makellos")) -> Ran:
        return _measured([sys.executable, *program, *map(str, arguments)])

    return run


# Linux counts the memory of the process that starts another as that one's peak, too, and a test
# run is large. So a small process starts the one that is measured.
_LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
open(sys.argv[1], "w").write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}")
"""


def _measured(command: Sequence[str]) -> Ran:
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        launcher = [sys.executable, "-c", _LAUNCHER, str(told), *command]
        done = subprocess.run(launcher, stdout=subprocess.PIPE, text=True, check=True)
        exit_code, peak = map(int, told.read_text().split())
    assert exit_code == 0, done.stdout
    unit = 1 if sys.platform == "darwin" else 1024
    return Ran(done.stdout, time.perf_counter() - started, peak * unit)


@dataclass(frozen=True)
class Fitted:
    """Hold a model, the data it was fitted on and what the fit took."""

    model: Path
    data: Path
    ran: Ran


@pytest.fixture(scope="session")
def fitted_screws(
    real_data: Path, run_makellos: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory
) -> Fitted:
    """Return a model of the 320 good screws."""
    model, data = tmp_path_factory.mktemp("screws") / "m.makellos", real_data / "mvtec_screw"
    return Fitted(model, data, run_makellos("fit", data, "-o", model))
