"""The way of a part: accepted, inspected in a few threads, stored by one, answered.

Nothing here knows HTTP. A part that was accepted is answered, with what was stored of it or with
the error that kept it from being stored, also when the station stops.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

from makellos.errors import InputError
from makellos.inspection import Inspection
from makellos.inspection.findings import unreadable
from makellos.service.failures import Refusal
from makellos.service.pool import Loaded
from makellos.storage import scratch_folder
from makellos.store import NewInspection, Store, StoredInspection

__all__ = ["InspectionQueue", "NewPart", "Waiting"]

_log = logging.getLogger("makellos.service")

_TOGETHER = 64  # parts that are stored in one transaction at most
_SPENT = 0.05  # seconds that a part is thought to take before one was inspected
_LATER = 0.1  # weight of the newest part in the mean of what parts take


@dataclass(frozen=True)
class NewPart:
    """Hold a file to inspect: its name and bytes, and what is said of the part.

    `key` stands for the part: what comes under a key that is stored already is not stored again.
    `error` says why there is no file to read, where a source could not read it.
    """

    name: str
    content: bytes = field(repr=False)
    error: str | None = None
    serial: str | None = None
    lot: str | None = None
    source: str = "api"
    fields: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None

    @cached_property
    def sha256(self) -> str:
        """Return the hash that the store keeps the file under."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(eq=False)
class Waiting:
    """Hold an accepted part on its way, and where its answer is waited for."""

    part: NewPart
    loaded: Loaded
    accepted: float
    answer: Future[StoredInspection] = field(default_factory=Future)
    found: Inspection | None = None


class InspectionQueue:
    """Take parts as they come, at most `length` and `most_bytes` of them at once.

    `threads` inspect, each the part that has waited longest; whatever was inspected while the
    writer stored is stored together, in one transaction, a recipe's parts in the order in which
    they came. `done` hears of each part stored and of
    the seconds since it was accepted, in the order of the store, from one thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        length: int,
        most_bytes: int,
        threads: int,
        done: Callable[[Waiting, StoredInspection, float], None],
    ) -> None:
        self.length, self._most_bytes, self._threads = length, most_bytes, threads
        self._store, self._done = store, done
        self._waiting: deque[Waiting] = deque()
        self._lines: dict[str, deque[Waiting]] = {}  # by recipe, in the order of acceptance
        self._n_open, self._n_bytes, self._seconds = 0, 0, _SPENT
        self._closing = self._ended = False
        self._changed = threading.Condition()
        inspecting = [threading.Thread(target=self._inspect_all) for _ in range(threads)]
        self._workers = [*inspecting, threading.Thread(target=self._store_all)]
        for worker in self._workers:
            worker.start()

    def __len__(self) -> int:
        """Return how many parts were accepted and not answered yet."""
        return self._n_open

    def put(
        self, loaded: Loaded, parts: Sequence[NewPart], *, wait: bool = False
    ) -> list[Future[StoredInspection]]:
        """Accept parts, all or none; raises `Refusal` where there is no room or the station stops.

        With `wait` room is waited for. More parts than the queue is long are accepted where nothing
        else waits.
        """
        n_bytes = sum(len(part.content) for part in parts)

        def has_room() -> bool:
            fits = self._n_open + len(parts) <= self.length
            return not self._n_open or (fits and self._n_bytes + n_bytes <= self._most_bytes)

        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closing or has_room())
            if self._closing:
                raise Refusal("unavailable", "The station is stopping.", retry=5)
            if not has_room():
                raise Refusal(
                    "queue_full",
                    f"{self._n_open} parts are waiting already. Send this again a little later.",
                    details={"waiting": self._n_open},
                    retry=self._n_open * self._seconds / self._threads,
                )
            now = time.perf_counter()
            accepted = [Waiting(part, loaded, now) for part in parts]
            for each in accepted:
                each.answer.set_running_or_notify_cancel()  # who waits may go; it is stored
            self._waiting.extend(accepted)
            self._lines.setdefault(loaded.recipe.name, deque()).extend(accepted)
            self._n_open += len(parts)
            self._n_bytes += n_bytes
            self._changed.notify_all()
        return [each.answer for each in accepted]

    def close(self) -> None:
        """Accept nothing more, and return when all that was accepted is answered."""
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: not self._n_open)
            self._ended = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _inspect_all(self) -> None:
        while waiting := self._next():
            started = time.perf_counter()
            found = _inspected(waiting)
            spent = time.perf_counter() - started
            with self._changed:
                self._seconds += _LATER * (spent - self._seconds)
                waiting.found = found
                self._changed.notify_all()

    def _next(self) -> Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    def _store_all(self) -> None:
        while True:
            with self._changed:
                taken = self._changed.wait_for(lambda: self._inspected() or self._ended)
            if not isinstance(taken, list):
                return
            try:
                self._record(taken)
            finally:
                with self._changed:
                    self._n_open -= len(taken)
                    self._n_bytes -= sum(len(each.part.content) for each in taken)
                    self._changed.notify_all()

    def _inspected(self) -> list[Waiting]:
        """Take what can be stored: of each recipe's parts those before any that is in work."""
        taken: list[Waiting] = []
        for line in self._lines.values():
            while line and line[0].found is not None and len(taken) < _TOGETHER:
                taken.append(line.popleft())
        return taken

    def _record(self, taken: list[Waiting]) -> None:
        """Store parts in one transaction, or one by one where one of them cannot be stored."""
        try:
            numbers = self._store.record([_row(each) for each in taken])
        except Exception as error:  # noqa: BLE001 -- whatever it is, each part is answered
            if len(taken) > 1 and isinstance(error, InputError):
                for each in taken:
                    self._record([each])
                return
            for each in taken:
                each.answer.set_exception(error)
            return
        for each, number in zip(taken, numbers, strict=True):
            try:
                stored = self._store.inspection(number)
            except Exception as error:  # noqa: BLE001
                each.answer.set_exception(error)
                continue
            try:
                self._done(each, stored, time.perf_counter() - each.accepted)
            except Exception:  # noqa: BLE001
                # It is stored, so its sender must not be told otherwise and send it again.
                _log.exception("Follow-up work of inspection %s failed", number)
            each.answer.set_result(stored)


def _inspected(waiting: Waiting) -> Inspection:
    """Inspect one part; whatever goes wrong is told in its inspection."""
    part, inspector, started = waiting.part, waiting.loaded.inspector, time.perf_counter()
    if part.error is not None:
        return unreadable(part.name, started, part.error)
    try:
        if waiting.loaded.takes_pictures:
            return inspector.inspect(part.content, name=part.name)
        with scratch_folder() as folder:  # recordings are read from files
            file = (folder / "recording").with_suffix(PurePath(part.name).suffix[:16])
            file.write_bytes(part.content)
            return inspector.inspect(file, name=part.name)
    except Exception as error:  # noqa: BLE001 -- a fault of one part must not end the thread
        return unreadable(part.name, started, f"{type(error).__name__}: {error}")


def _row(waiting: Waiting) -> NewInspection:
    if waiting.found is None:
        raise ValueError("a part was to be stored before it was inspected")
    part, recipe = waiting.part, waiting.loaded.recipe
    return NewInspection(
        inspection=waiting.found,
        recipe=recipe.name,
        recipe_version=recipe.version,
        model_hash=recipe.model_hash,
        picture=part.content,
        serial=part.serial,
        lot=part.lot,
        source=part.source,
        fields=dict(part.fields),
        key=part.key,
    )
