"""Long work in processes of their own, such as a fit, and how far it is."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from makellos.errors import ConfigurationError, MakellosError
from makellos.service.failures import Refusal
from makellos.service.verbs import Ended, VerbRunner

__all__ = ["Process", "Processes"]

_KEPT_LINES = 60
_KEPT = 20  # processes that ended
_COUNT = re.compile(r"(\d+)/(\d+)")


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
        self._runner: VerbRunner | None = None
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
            begun = self._clock()
            runner = VerbRunner(lambda line: self._hear(process, line, begun), output=True)
            self._runner = runner
        work = (process, runner, verbs, then, begun)
        threading.Thread(target=self._work, args=work, daemon=True).start()
        return process

    def call(
        self,
        kind: str,
        work: Callable[[Callable[[str], None]], object],
        *,
        person: str,
        about: dict[str, Any] | None = None,
    ) -> Process:
        """Begin `work`, which is given what hears its lines; raises as `start` does."""
        with self._lock:
            self.check_free()
            self._number += 1
            process = Process(self._number, kind, person, about or {})
            self._known = {process.number: process}
        begun = self._clock()

        def run() -> None:
            with self._ending(process, begun):
                work(lambda line: self._hear(process, line, begun))

        threading.Thread(target=run, daemon=True).start()
        return process

    @property
    def is_free(self) -> bool:
        """Tell whether nothing is running."""
        return self._running() is None

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
        """End what is running, also where it is between two verbs."""
        with self._lock:
            runner = self._runner
        if runner is not None:
            runner.stop()

    def close(self) -> None:
        """End what is running, and begin nothing more."""
        with self._lock:
            self._closed = True
        self.stop()

    def _running(self) -> Process | None:
        return next((each for each in self._known.values() if each.status == "running"), None)

    def _work(
        self,
        process: Process,
        runner: VerbRunner,
        verbs: Sequence[Sequence[str]],
        then: Callable[[], None],
        begun: float,
    ) -> None:
        with self._ending(process, begun):
            for step, arguments in enumerate(verbs, start=1):
                process.step, process.share, process.line = step, None, ""
                _check(runner.run(arguments), arguments[0])
            runner.check()
            then()

    @contextmanager
    def _ending(self, process: Process, begun: float) -> Iterator[None]:
        """Say of a process how what it did has ended."""
        status = "failed"
        try:
            yield
            status = "done"
        except (MakellosError, Refusal) as error:
            process.error = str(error)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the page has to say so
            process.error = f"{type(error).__name__}: {error}"
        process.seconds = self._clock() - begun
        process.status = status

    def _hear(self, process: Process, text: str, started: float) -> None:
        process.log.append(text[:500])
        process.line, process.seconds = text[:200], self._clock() - started
        found = _COUNT.search(text)
        if found is not None and int(found[2]):
            process.share = min(1.0, int(found[1]) / int(found[2]))


def _check(ended: Ended, verb: str) -> None:
    """Raise what a verb says last where it has failed."""
    if ended.code:
        said = ended.said[-1].removeprefix("Error: ") if ended.said else ""
        raise ConfigurationError(said or f"makellos {verb} ended with {ended.code}.")
