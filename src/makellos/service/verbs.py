"""Verbs of makellos as processes of their own, beside a station that goes on inspecting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from makellos.errors import MakellosError, legible

__all__ = ["Ended", "StoppedError", "VerbRunner"]

_POLITE = 10  # steps below the priority of what inspects
_KEPT_LINES = 60
_PATIENCE = 5.0  # seconds for a process that is asked to end
# A verb that reads its input in a thread: it ends when the station does, which holds the other end.
_BOUND = """
import _thread, os, runpy, threading, time

def watch():
    while os.read(0, 1):
        pass
    _thread.interrupt_main()
    time.sleep({patience})
    os._exit(130)

threading.Thread(target=watch, daemon=True).start()
runpy.run_module("makellos", run_name="__main__", alter_sys=True)
"""


class StoppedError(MakellosError):
    """Say that a verb was stopped, or not begun any more."""


@dataclass(frozen=True)
class Ended:
    """Hold the exit code of a verb, below 0 where a signal ended it, and the last lines it said."""

    code: int
    said: tuple[str, ...]


class VerbRunner:
    """Run verbs with low priority, one at a time; `hear` gets each line that one says.

    `stop` ends what runs, and nothing begins after it. With `output` lines of standard output are
    heard beside those of standard error. A verb that takes longer than `seconds` is ended and
    raises `TimeoutError`. When the station itself is killed, what runs is interrupted as by Ctrl-C,
    and ended five seconds later.
    """

    def __init__(
        self,
        hear: Callable[[str], None] = lambda _: None,
        *,
        seconds: float | None = None,
        output: bool = False,
    ) -> None:
        self._hear, self._seconds, self._output = hear, seconds, output
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, arguments: Sequence[str]) -> Ended:
        """Run a verb to its end; raises `StoppedError` after `stop`, also where it came before."""
        with self._lock:
            self.check()
            self._child = child = self._begin(arguments)
        said: deque[str] = deque(maxlen=_KEPT_LINES)
        late = threading.Event()
        timers = [] if self._seconds is None else [self._ending(child, self._seconds, late.set)]
        try:
            with child:
                _be_polite(child.pid)
                self._listen(child, said)
        finally:
            for timer in timers:
                timer.cancel()
            with self._lock:
                self._child = None
        self.check()
        if late.is_set():
            raise TimeoutError(f"makellos {arguments[0]} took longer than {self._seconds:g} s.")
        return Ended(child.returncode, tuple(said))

    def check(self) -> None:
        """Raise `StoppedError` after `stop`."""
        if self._stopped:
            raise StoppedError("It was stopped before it was done.")

    def stop(self) -> None:
        """Ask what runs to end, and end it in five seconds if it does not; does not wait."""
        with self._lock:
            self._stopped, child = True, self._child
            if child is not None:
                _end(child)

    def _begin(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        told: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        if self._output:
            told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        plain = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
        return subprocess.Popen(  # noqa: S603 -- our own program; arguments are no shell's
            [sys.executable, "-c", _BOUND.format(patience=_PATIENCE), *arguments],
            stdin=subprocess.PIPE,  # nothing is written: it closes with this process
            text=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | plain,
            **told,
        )

    def _listen(self, child: subprocess.Popen[str], said: deque[str]) -> None:
        try:
            for text in (child.stdout if self._output else child.stderr) or ():
                line = legible(text.strip())
                if line:
                    said.append(line)
                    self._hear(line)
        except BaseException:
            child.kill()  # nobody hears it any more
            raise

    def _ending(
        self, child: subprocess.Popen[str], seconds: float, tell: Callable[[], None]
    ) -> threading.Timer:
        def end() -> None:
            tell()
            _end(child)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        return timer


def _end(child: subprocess.Popen[str]) -> None:
    """Ask a process to end, and kill it after a while."""
    with suppress(OSError):
        child.terminate()
    timer = threading.Timer(_PATIENCE, child.kill)  # does nothing to one that has ended
    timer.daemon = True
    timer.start()


def _be_polite(pid: int) -> None:
    if sys.platform != "win32":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, _POLITE)
