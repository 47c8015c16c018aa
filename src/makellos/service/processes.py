"""Long work in processes of their own, such as a fit, and how far it is."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from makellos.errors import ConfigurationError, MakellosError, legible

__all__ = ["Process", "Processes"]

_KEPT_LINES = 60
_KEPT = 20  # processes that ended
_COUNT = re.compile(r"(\d+)/(\d+)")
_PATIENCE = 5.0  # seconds for a process that is asked to end


@dataclass
class Process:
    """Hold one piece of long work: its steps so far, the last line it said, and how it ended.

    `status` is ``running``, ``done`` or ``failed``; `share` in [0, 1] is how far its present step
    is, None where it does not say. `about` is what the page needs that started it.
    """

    number: int
    kind: str
    person: str
    about: dict[str, Any]
    status: str = "running"
    error: str = ""
    line: str = ""
    share: float | None = None
    step: int = 0
    n_steps: int = 1
    seconds: float = 0.0
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))


class Processes:
    """Run verbs of makellos one after another, one piece of long work at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[int, Process] = {}
        self._number = 0
        self._child: subprocess.Popen[str] | None = None
        self._closed = False

    def start(
        self,
        kind: str,
        verbs: Sequence[Sequence[str]],
        *,
        person: str,
        then: Callable[[], None],
        about: dict[str, Any] | None = None,
    ) -> Process:
        """Begin the arguments of `makellos` in `verbs`, one after another, and `then` what follows.

        Raises `ConfigurationError` where something is running already.
        """
        with self._lock:
            self.check_free()
            self._number += 1
            process = Process(self._number, kind, person, about or {}, n_steps=len(verbs))
            self._known[process.number] = process
            for old in list(self._known)[:-_KEPT]:
                del self._known[old]
        threading.Thread(target=self._work, args=(process, verbs, then), daemon=True).start()
        return process

    def check_free(self) -> None:
        """Raise `ConfigurationError` where something is running already."""
        if self._running() is not None or self._closed:
            raise ConfigurationError(
                "The station is already learning; wait until that is done, or stop it."
            )

    def get(self, number: int) -> Process | None:
        """Return a process by its number."""
        return self._known.get(number)

    def latest(self, kind: str) -> Process | None:
        """Return the one of a kind that was started last."""
        return next((each for each in reversed(self._known.values()) if each.kind == kind), None)

    def stop(self) -> None:
        """End what is running."""
        with self._lock:
            child = self._child
        if child is not None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE)
            if child.poll() is None:
                child.kill()

    def close(self) -> None:
        """End what is running, and begin nothing more."""
        self._closed = True
        self.stop()

    def _running(self) -> Process | None:
        return next((each for each in self._known.values() if each.status == "running"), None)

    def _work(
        self, process: Process, verbs: Sequence[Sequence[str]], then: Callable[[], None]
    ) -> None:
        started = self._clock()
        try:
            for step, arguments in enumerate(verbs, start=1):
                process.step, process.share, process.line = step, None, ""
                self._run(process, arguments, started)
            then()
            process.status = "done"
        except MakellosError as error:
            process.error, process.status = str(error), "failed"
        except Exception as error:  # noqa: BLE001 -- whatever it is, the page has to say so
            process.error, process.status = f"{type(error).__name__}: {error}", "failed"
        process.seconds = self._clock() - started

    def _run(self, process: Process, arguments: Sequence[str], started: float) -> None:
        command = [sys.executable, "-m", "makellos", *arguments]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        child = subprocess.Popen(  # noqa: S603 -- our own program; arguments are no shell's
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
        )
        with self._lock:
            self._child = child
        if child.stdout is not None:
            with child.stdout:
                for text in child.stdout:
                    self._hear(process, legible(text.strip()), started)
        code = child.wait()
        with self._lock:
            self._child = None
        if code < 0 or self._closed:
            raise ConfigurationError("It was stopped before it was done.")
        if code:
            said = process.log[-1].removeprefix("Error: ") if process.log else ""
            raise ConfigurationError(said or f"makellos {arguments[0]} ended with {code}.")

    def _hear(self, process: Process, text: str, started: float) -> None:
        if not text:
            return
        process.log.append(text[:500])
        process.line, process.seconds = text[:200], self._clock() - started
        found = _COUNT.search(text)
        if found is not None and int(found[2]):
            process.share = min(1.0, int(found[1]) / int(found[2]))
