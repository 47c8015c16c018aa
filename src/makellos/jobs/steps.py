"""The steps of a start: what is to be done about each run, and doing it one after another."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any, Generic, Literal, TypeVar

from makellos.jobs.processes import Runners, failure
from makellos.jobs.records import Record

__all__ = ["LOG", "Step", "StepError", "Todo", "Work", "cleared", "left", "stamp"]

LOG = "log.txt"
Todo = Literal["fit", "resume", "evaluate", "nothing", "correct"]
R = TypeVar("R", bound=Record)
Run = TypeVar("Run")
_DOING: dict[Todo, str] = {
    "fit": "fit",
    "resume": "fit, continuing where it stopped",
    "evaluate": "evaluate; the model exists",
    "nothing": "already done",
    "correct": "left out, {reason}",
}


class StepError(Exception):
    """Say why a step failed; `code` is the exit code of its process, 1 where there was none."""

    def __init__(self, reason: str, code: int = 1) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Step(Generic[Run, R]):
    """Hold what a start does about a run: `todo`, and the `record` of it as it begins."""

    run: Run
    todo: Todo
    record: R


@dataclass(frozen=True)
class Work(ABC, Generic[Run, R]):
    """Carry out steps, and keep their records; what fails costs itself alone.

    They are carried out one after another in their order, or as many at once as the runners say.
    """

    records: list[R]
    runners: Runners
    tell: Callable[[str], None]
    now: Callable[[], datetime]
    _saving: RLock = field(default_factory=RLock, init=False, repr=False, kw_only=True)

    @abstractmethod
    def save(self) -> None:
        """Write what has been found so far."""

    @abstractmethod
    def act(self, i: int, step: Step[Run, R]) -> None:
        """Do what is to be done about the run of number `i`; raise `StepError` where it fails."""

    def carry_out(self, steps: Sequence[Step[Run, R]]) -> None:
        """Carry out all steps; each is recorded and saved when it is done."""
        if self.runners.at_once == 1:
            for i, step in enumerate(steps):
                self._carry_out(i, step)
            return
        pool = ThreadPoolExecutor(self.runners.at_once)
        try:
            for _ in pool.map(self._carry_out, range(len(steps)), steps):
                pass
        except BaseException:
            self.runners.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _carry_out(self, i: int, step: Step[Run, R]) -> None:
        self.say(i, _DOING[step.todo].format(reason=self.records[i].reason))
        if step.todo not in ("nothing", "correct"):
            self._attempt(i, step)
            self.say(i, self.records[i].outcome)

    def keep(self) -> None:
        """Save, one at a time."""
        with self._saving:
            self.save()

    def _attempt(self, i: int, step: Step[Run, R]) -> None:
        started = self.now()
        try:
            self.act(i, step)
        except KeyboardInterrupt:
            self._end(i, started, state="waiting")
            raise
        except StepError as error:
            self._end(i, started, state="failed", reason=str(error))
        else:
            self._end(i, started, state="done", reason=None)

    def _end(self, i: int, started: datetime, **changes: Any) -> None:
        spent = (self.now() - started).total_seconds()
        self.put(i, **changes, seconds=round(self.records[i].seconds + spent, 2))
        self.keep()

    def put(self, i: int, **changes: Any) -> None:
        """Change entries of a record."""
        self.records[i] = self.records[i].but(**changes)

    def say(self, i: int, text: str) -> None:
        """Tell something about a run."""
        self.tell(f"[{i + 1}/{len(self.records)}] {self.records[i].name}: {text}")

    def log_process(self, step: str, arguments: Sequence[str], log: Path, head: str) -> None:
        """Run the process of a step to its end, its output in a log below `head`.

        Raises `StepError` where it cannot be started, and with what it said where it failed.
        """
        try:
            if log.is_symlink():
                log.unlink()  # a run may have been sent from elsewhere, with a link to elsewhere
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"# {stamp(self.now())}\n{head}\n")
            begin = log.stat().st_size
            code = self.runners.execute(arguments, log)
            with log.open("rb") as written:
                written.seek(begin)
                told = written.read().decode("utf-8", "replace")
        except OSError as error:
            raise StepError(f"{log.parent} cannot be used: {error.strerror}.") from error
        if code != 0:
            raise StepError(f"{step}: {failure(code, told)}", code)


def cleared(folder: Path, stale: Iterable[str] = ()) -> Path:
    """Return the folder of a run, made if need be, without the files named; raise `StepError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StepError(f"{folder} cannot be used: {error.strerror}.") from error
    return folder


def left(path: Path) -> dict[str, Any]:
    """Return the JSON object that a process left; raise `StepError` without one."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StepError(f"{path.name} is missing or damaged: {error}") from error
    return found


def stamp(moment: datetime) -> str:
    """Return a moment as records have it, to the second."""
    return moment.isoformat(timespec="seconds")
