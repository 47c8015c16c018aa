"""The watch over drifts: a monitor for each recipe and model, fed by what is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from makellos.errors import InputError
from makellos.inspection.drift import DriftMonitor
from makellos.service.pool import Loaded
from makellos.store import Filter, Store, StoredInspection, iso

__all__ = ["DriftWatch"]

_SAVED_EVERY = 50  # parts; what is not saved is looked up in the history after a restart
_REPLAYED = 2000  # parts of the history at most
_PAGE = 200
_REMEMBERED = 20  # alarms
_HELD = 2  # monitors of a recipe in memory: parts of the former model may still be in work


@dataclass
class _Watched:
    """Hold the monitor of a recipe with one model, its last part and the alarms there were."""

    monitor: DriftMonitor
    model_hash: str
    last: int = 0
    alarms: list[dict[str, Any]] = field(default_factory=list)
    since_reset: int = 0
    unsaved: int = 0


class DriftWatch:
    """Feed a monitor per recipe and model with parts in the order of the store.

    `told` hears of an alarm, with the recipe's name and the alarm as data. An alarm stands until
    `reset`. A recipe with another model begins anew, and with a former one goes on where it was.
    """

    def __init__(self, store: Store, told: Callable[[str, dict[str, Any]], None]) -> None:
        self._store, self._told = store, told
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._lock = threading.RLock()

    def update(self, loaded: Loaded, part: StoredInspection) -> None:
        """Take a stored part into account; one that was seen already says nothing."""
        with self._lock:
            watched = self._of(loaded, part.id - 1)
            if part.id > watched.last and part.model_hash == watched.model_hash:
                self._take(loaded.recipe.name, watched, part)
                if watched.unsaved >= _SAVED_EVERY:
                    self._save(loaded.recipe.name, watched)

    def state(self, loaded: Loaded) -> dict[str, Any]:
        """Return how it stands: evidence, the level of an alarm, and the alarms there were."""
        with self._lock:
            watched = self._of(loaded)
            monitor = watched.monitor
            return {
                "recipe": loaded.recipe.name,
                "n_parts": monitor.n_parts,
                "wealth": monitor.wealth,
                "alarm_at": 10_000 / monitor.false_alarms,
                "n_missing": monitor.n_missing,
                "drifted": len(watched.alarms) > watched.since_reset,
                "alarms": list(watched.alarms),
            }

    def reset(self, loaded: Loaded) -> None:
        """Go back to the model's good state, as after the cause of an alarm is gone."""
        with self._lock:
            watched = self._of(loaded)
            watched.monitor.reset()
            watched.since_reset = len(watched.alarms)
            self._save(loaded.recipe.name, watched)

    def close(self) -> None:
        """Save what is not saved yet."""
        with self._lock:
            for (name, _), watched in self._watched.items():
                if watched.unsaved:
                    self._save(name, watched)

    def _of(self, loaded: Loaded, seen: int | None = None) -> _Watched:
        """Return what watches a recipe and model; a new one takes parts after the number `seen`."""
        key = (loaded.recipe.name, loaded.recipe.model_hash)
        watched = self._watched.pop(key, None) or self._restored(loaded, seen)
        self._watched[key] = watched  # as the last one
        held = [each for each in self._watched if each[0] == key[0]]
        for former in held[:-_HELD]:
            self._save(former[0], self._watched.pop(former))
        return watched

    def _restored(self, loaded: Loaded, seen: int | None) -> _Watched:
        """Return what was saved of a recipe, brought up to the newest part of the history."""
        name, model = loaded.recipe.name, loaded.inspector.model
        saved = self._store.settings.get(_setting(name, loaded.recipe.model_hash))
        last = self._store.newest() if seen is None else seen
        watched = _Watched(DriftMonitor(model), loaded.recipe.model_hash, last)
        if saved is None:
            return watched
        try:
            watched.monitor = DriftMonitor.from_state(model, saved["monitor"])
        except InputError:  # of another version of makellos
            return watched
        watched.last, watched.alarms = int(saved["last"]), list(saved["alarms"])
        watched.since_reset = int(saved["since_reset"])
        for part in self._after(name, watched.last):
            if part.model_hash == watched.model_hash:
                self._take(name, watched, part)
        return watched

    def _after(self, name: str, number: int) -> list[StoredInspection]:
        """Return the parts of a recipe after a number, oldest first."""
        found: list[StoredInspection] = []
        before = None
        while len(found) < _REPLAYED:
            page = self._store.history(Filter(recipe=name), before=before, limit=_PAGE)
            new = [part for part in page if part.id > number]
            found += new
            if len(new) < _PAGE:
                break
            before = new[-1].id
        return found[::-1]

    def _take(self, name: str, watched: _Watched, part: StoredInspection) -> None:
        watched.last = part.id
        watched.unsaved += 1
        alarm = watched.monitor.update(part.result)
        if alarm is None:
            return
        row = {"time": iso(part.time), "inspection": part.id, **alarm.row()}
        dropped = len(watched.alarms) + 1 - _REMEMBERED
        if dropped > 0:
            watched.alarms = watched.alarms[dropped:]
            watched.since_reset = max(0, watched.since_reset - dropped)
        watched.alarms.append(row)
        self._save(name, watched)
        self._told(name, row)

    def _save(self, name: str, watched: _Watched) -> None:
        state = {
            "last": watched.last,
            "alarms": watched.alarms,
            "since_reset": watched.since_reset,
            "monitor": watched.monitor.state(),
        }
        self._store.settings.put(_setting(name, watched.model_hash), state, None)
        watched.unsaved = 0


def _setting(name: str, model_hash: str) -> str:
    return f"drift:{name}:{model_hash}"
