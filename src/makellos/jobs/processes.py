"""Steps of runs as processes: started, stopped, and why they failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

__all__ = ["INTERRUPTED", "Execute", "ProcessRunner", "Runners", "ending_as_interrupted", "failure"]

Execute = Callable[[Sequence[str], Path], int]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Runners:
    """Hold what runs processes elsewhere, so many `at_once`; `stop` makes those end that run."""

    execute: Execute
    at_once: int = 1
    stop: Callable[[], None] = _nothing


_LOOK_SECONDS = 0.2
_PATIENCE = 40.0  # seconds to end after a request to
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
INTERRUPTED = 130  # exit code of what was told to end
_LONGEST = 4000  # characters of a reason
_TOLD = ("Error: ", "Unexpected error: ")


class ProcessRunner:
    """Run `makellos`, or another module, as a process of its own, its output added to a log.

    Call it with arguments and log file; it returns the exit code, below 0 for the signal that
    killed the process. When the caller is interrupted the process is stopped first. `inherited`
    is a file that the process keeps open, and locked, as long as it lives.
    """

    def __init__(self, inherited: BinaryIO | None = None, *, module: str = "makellos") -> None:
        self._inherited = inherited
        self._module = module

    def __call__(self, arguments: Sequence[str], log: Path) -> int:
        """Run the process to its end and return its exit code."""
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        with log.open("ab") as stream:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", self._module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                **self._apart(),
            )
            try:
                while True:
                    try:
                        # With a limit, so that Ctrl-C is heard on Windows.
                        return process.wait(timeout=_LOOK_SECONDS)
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                _stop(process)

    def _apart(self) -> dict[str, Any]:
        """Return what keeps a terminal's Ctrl-C from the process: the queue passes it on, once."""
        if sys.platform == "win32":
            return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        held = () if self._inherited is None else (self._inherited.fileno(),)
        return {"process_group": 0, "pass_fds": held}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still at work, kindly first.

    Not by SIGINT: it is ignored by all that a shell without job control starts in the background.
    """
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def ending_as_interrupted() -> Iterator[Callable[[], bool]]:
    """Take a request to end, or a terminal that closes, for Ctrl-C; give what tells of either.

    A library may make another error of the interrupt. What was ignored when the process began, as
    by nohup or in the background, stays ignored.
    """

    asked = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt

    changed: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _ENDING if hasattr(signal, name)):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                changed[number] = signal.signal(number, interrupt)
    try:
        yield asked.is_set
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


def failure(code: int, told: str) -> str:
    """Return why a run failed, from its exit code and what it printed.

    >>> failure(2, "reading\\nError: screws has no good parts.\\n")
    'screws has no good parts.'
    >>> failure(-9, "")
    'killed by signal 9 (out of memory?)'
    """
    if code == INTERRUPTED:
        return "stopped before it was done"
    if code < 0:
        name = "out of memory?" if code == -9 else _signal_name(-code)
        return f"killed by signal {-code} ({name})"
    lines = told.rstrip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(_TOLD)]
    if starts:
        text = "\n".join(lines[starts[-1] :]).removeprefix(_TOLD[0])
    else:
        text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return text[:_LONGEST] or f"ended with exit code {code} and said nothing"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
