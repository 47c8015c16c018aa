"""Follow a source: each part is inspected and stored once, whatever is killed in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from makellos.errors import InputError, StorageError
from makellos.line.sources import Arrival, Source

__all__ = ["Judge", "follow"]

TOGETHER = 16  # parts that are stored in one transaction
_LOOK_S = 0.2  # between two looks at a source that had nothing
_RETRY_S = 5.0  # after a disk was full or a source was out of reach
_TOLD = 5  # parts that cannot be finished and are told of, each


class Judge(Protocol):
    """Inspect parts and store what was found."""

    def known(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys whose parts are stored already."""
        ...

    def judge(self, arrivals: Sequence[Arrival]) -> None:
        """Inspect and store parts. When it returns they outlast a loss of power.

        Raises `StorageError` where they cannot be stored: then none of them is.
        """
        ...


@dataclass(frozen=True)
class _Trouble:
    """Tell of a trouble when it begins and when it ends, not each time it is met."""

    tell: Callable[[str], None]
    said: list[str]

    def begins(self, message: str) -> None:
        if not self.said:
            self.tell(f"{message} Trying again every {_RETRY_S:g} seconds.")
        self.said[:] = [message]

    def ends(self) -> None:
        if self.said:
            self.tell("Inspecting again.")
        self.said.clear()


@dataclass
class _Finisher:
    """Finish parts in their source; one that cannot be is tried again later, beside the others."""

    source: Source
    tell: Callable[[str], None]
    _left: dict[str, tuple[float, StorageError]] = field(default_factory=dict)  # when, and why

    def finish(self, key: str) -> bool:
        """Finish a stored part; tell whether it was tried and succeeded."""
        if key in self._left and time.monotonic() < self._left[key][0]:
            return False
        try:
            self.source.finish(key)
        except StorageError as error:
            if key not in self._left and len(self._left) < _TOLD:
                self.tell(f"{error} The others go on.")
            self._left[key] = (time.monotonic() + _RETRY_S, error)
            return False
        self._left.pop(key, None)
        return True

    def keep(self, keys: Collection[str]) -> None:
        """Forget what is not there any more."""
        there = set(keys)
        self._left = {key: left for key, left in self._left.items() if key in there}

    def check(self) -> None:
        """Raise what kept the first part from being finished that is not."""
        for _, error in self._left.values():
            raise error


def follow(
    source: Source,
    judge: Judge,
    *,
    stop: Event,
    tell: Callable[[str], None],
    once: bool = False,
) -> None:
    """Inspect what a source gives until `stop` is set, or `once` until it has nothing left.

    A part is stored first and finished in its source then. One that was stored when the process was
    killed is known by its key, so it is finished and not inspected again. One that cannot be
    finished is told of and tried again later, while the others go on; with `once` its error is
    raised after them. A full disk and a source out of reach are told of and waited for, unless
    `once`.
    """
    trouble, finisher = _Trouble(tell, []), _Finisher(source, tell)
    while not stop.is_set():
        try:
            worked = _round(source, judge, finisher, stop)
        except (InputError, StorageError) as error:
            if once:
                raise
            trouble.begins(str(error))
            stop.wait(_RETRY_S)
            continue
        trouble.ends()
        if not worked:
            if once and not source.has_incomplete:
                finisher.check()
                return
            stop.wait(_LOOK_S)


def _round(source: Source, judge: Judge, finisher: _Finisher, stop: Event) -> bool:
    """Inspect what is there now; tell whether anything was inspected or finished."""
    keys = source.complete()
    finisher.keep(keys)
    done = judge.known(keys) if keys else set()
    worked = False
    for key in keys:
        if key in done:
            worked |= finisher.finish(key)
    waiting = [key for key in keys if key not in done]
    for start in range(0, len(waiting), TOGETHER):
        if stop.is_set():
            break
        taken = (source.take(key) for key in waiting[start : start + TOGETHER])
        arrivals = [arrival for arrival in taken if arrival is not None]
        if arrivals:
            judge.judge(arrivals)
        for arrival in arrivals:
            finisher.finish(arrival.key)
    return worked or bool(waiting)
