"""The station: the store, the loaded models and the queue, put together without HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request

from makellos.data.pictures import MAX_PIXELS
from makellos.errors import ConfigurationError, MissingRuntimeError, ModelFileError, legible
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.inspector import Inspector
from makellos.service.drift import DriftWatch
from makellos.service.events import Events
from makellos.service.failures import Refusal
from makellos.service.metrics import Metrics
from makellos.service.pool import Pool, open_inspector
from makellos.service.queue import InspectionQueue, NewPart, Waiting
from makellos.service.shift import SHIFTS, Shift, shift_of, shift_start
from makellos.service.throttle import LoginThrottle, Rate
from makellos.service.verbs import VerbRunner
from makellos.store import Clock, RecipeVersion, Store, StoredInspection, StoredModel, utc_now

__all__ = ["Settings", "Station", "StationDep", "row_of"]

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Say what a station allows.

    `local` means that it listens on this machine alone: without any person everybody who sits here
    is administrator, and `hosts` are the names that it answers to. Sizes are in bytes, `rate` is in
    requests a second of one client, `shifts` are the hours at which shifts begin, local time,
    `patience` are the seconds that a body is waited for where nothing of it comes.
    """

    local: bool = True
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    max_file: int = 64 * _MIB
    max_files: int = 64
    max_body: int = 96 * _MIB
    max_model: int = 1024 * _MIB
    max_pixels: int = min(100_000_000, MAX_PIXELS)
    queue_length: int = 64
    queue_bytes: int = 512 * _MIB
    rate: float = 200.0
    burst: int = 400
    session_seconds: int = 12 * 3600
    shifts: tuple[int, ...] = SHIFTS
    heartbeat: float = 15.0
    patience: float = 30.0


@dataclass(eq=False)
class Station:
    """Inspect parts with the recipes of a store, keep what was found, and tell who listens.

    It may be used from several threads. `close` finishes what was accepted.
    """

    store: Store
    settings: Settings = field(default_factory=Settings)
    clock: Clock = utc_now
    opener: Callable[[Path, Acceptance | None], Inspector] = open_inspector

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.events = Events(heartbeat=self.settings.heartbeat)
        self.rate = Rate(self.settings.rate, self.settings.burst)
        self.logins = LoginThrottle()
        self.drift = DriftWatch(self.store, self._drifted)
        self.pool = Pool(self.store, self.opener)
        self.pool.refresh()
        self._changing = threading.RLock()
        self._calibrations: dict[str, VerbRunner] = {}  # by recipe
        self._calibrates, self._stopping = threading.Lock(), False
        self._newest, self._has_people = self.store.newest(), False
        threads = max([loaded.inspector.workers for loaded in self.pool.all()], default=2) + 1
        self.queue = InspectionQueue(
            self.store,
            length=self.settings.queue_length,
            most_bytes=self.settings.queue_bytes,
            threads=threads,
            done=self._stored,
        )

    @property
    def is_open(self) -> bool:
        """Tell whether nobody has to log in: on this machine alone, before there is a person."""
        if self.settings.local and not self._has_people:
            self._has_people = self.store.people.any()
        return self.settings.local and not self._has_people

    # The way of a part: inspect -> queue -> store -> _stored -> answer

    def inspect(
        self, recipe: str | None, parts: Sequence[NewPart], *, wait: bool = False
    ) -> list[Future[StoredInspection]]:
        """Accept parts and return their answers to come; what is known by its key is one already.

        Raises `Refusal` where the recipe is not known or the queue is full; with `wait` room in it
        is waited for.
        """
        loaded = self.pool.get(recipe)
        known = self.store.known([part.key for part in parts if part.key is not None])
        new = [part for part in parts if part.key not in known]
        accepted = iter(self.queue.put(loaded, new, wait=wait) if new else ())
        return [
            next(accepted) if part.key not in known else self._again(known[part.key or ""])
            for part in parts
        ]

    def judge(self, recipe: str | None, parts: Sequence[NewPart]) -> list[int]:
        """Inspect and store parts of a source on this machine; return their numbers.

        It waits for room in the queue and for the answers. Raises what kept a part from being
        stored; parts with a key may be given again then.
        """
        known = self.store.known([part.key for part in parts if part.key is not None])
        new = [part for part in parts if part.key not in known]
        numbers = iter([answer.result().id for answer in self.inspect(recipe, new, wait=True)])
        return [known[key] if (key := part.key) in known else next(numbers) for part in parts]

    def _again(self, number: int) -> Future[StoredInspection]:
        answer: Future[StoredInspection] = Future()
        answer.set_result(self.store.inspection(number))
        return answer

    def _stored(self, waiting: Waiting, stored: StoredInspection, seconds: float) -> None:
        """Tell of a part that was stored; called in the order of the store."""
        if stored.id <= self._newest:
            return  # it was under its key already
        self._newest, name = stored.id, stored.recipe
        self.metrics.parts.labels(name, stored.verdict).inc()
        self.metrics.seconds.labels(name).observe(seconds)
        self.drift.update(waiting.loaded, stored)
        self.events.publish("inspection", row_of(stored))

    def _drifted(self, name: str, alarm: dict[str, Any]) -> None:
        self.events.publish("drift", {"recipe": name, **alarm})

    # Recipes

    def add_model(
        self,
        file: Path,
        *,
        person: str,
        recipe: str,
        acceptance: Acceptance | None = None,
        note: str = "",
        activate: bool = True,
        file_name: str | None = None,
    ) -> RecipeVersion:
        """Check a model file, keep it, and make it a version of a recipe; return that version.

        Raises what `keep_model` does.
        """
        model = self.keep_model(file, person=person, acceptance=acceptance, file_name=file_name)
        rules = None if acceptance is None else acceptance.model_dump(mode="json")
        made = self.store.recipes.add(
            recipe, model.hash, person=person, acceptance=rules, note=note, activate=activate
        )
        if activate:
            self.changed(recipe)
        return made

    def keep_model(
        self,
        file: Path,
        *,
        person: str,
        acceptance: Acceptance | None = None,
        file_name: str | None = None,
    ) -> StoredModel:
        """Check a model file and keep it; return what is known of it.

        With `file_name` messages call it so: where it lies now is nobody's business. Raises
        `ModelFileError` for a file that is not to be trusted, `ConfigurationError` for rules that
        the model cannot be held to.
        """
        with _called(file, file_name):
            inspector = Inspector(file, acceptance=acceptance)
            inspector.model.check()
        manifest = inspector.manifest
        summary = {
            "detector": manifest.detector.name,
            "false_alarms": float(inspector.calibration.false_alarms),
            "threshold": inspector.threshold,
            "engine": str(inspector.engine),
            "takes": "recordings" if manifest.signal is not None else "pictures",
        }
        return self.store.recipes.add_model(
            file,
            person=person,
            detector=manifest.detector.name,
            summary=summary,
            file_name=file_name or file.name,
        )

    def activate(self, recipe: str, version: int, *, person: str) -> None:
        """Let another version of a recipe inspect from now on, once its model is open.

        Raises `NotFoundError` for no such version, and what `Inspector` does, in which case
        everything stays as it is.
        """
        with self._changing:
            versions = {each.version: each for each in self.store.recipes.versions(recipe)}
            if version in versions:
                self.pool.open(versions[version])  # refuses a model that cannot be opened
            self.store.recipes.activate(recipe, version, person=person)
            self.changed(recipe)

    def changed(self, recipe: str) -> None:
        """Load what is active now, and tell who listens."""
        self.pool.refresh()
        try:
            version = self.store.recipes.active(recipe).version
        except Exception:  # noqa: BLE001 -- nothing of it is active
            version = None
        self.events.publish("recipe", {"recipe": recipe, "version": version})

    @contextmanager
    def calibrating(
        self, recipe: str, seconds: float, hear: Callable[[str], None] = lambda _: None
    ) -> Iterator[VerbRunner]:
        """Give what runs the calibration of a recipe, in so many seconds at most.

        `hear` gets each line that it says.

        Raises `Refusal` where the recipe is being calibrated already, or the station stops.
        """
        runner = VerbRunner(hear, seconds=seconds)
        with self._calibrates:
            if self._stopping:
                raise Refusal("unavailable", "The station is stopping.")
            if recipe in self._calibrations:
                raise Refusal(
                    "busy", f"Recipe {recipe} is being calibrated already. Wait until that is done."
                )
            self._calibrations[recipe] = runner
        try:
            yield runner
        finally:
            with self._calibrates:
                del self._calibrations[recipe]

    # What is looked up

    def shift(self, recipe: str | None = None, *, since: int | None = None) -> Shift:
        """Return the counts and the budget of the shift, of one recipe or of all."""
        recipes = self.pool.all() if recipe is None else [self.pool.get(recipe)]
        now = self.clock()
        start = shift_start(now, self.settings.shifts) if since is None else since
        return shift_of(self.store, recipes, since=start, until=now + 1)

    def measure(self) -> None:
        """Set the figures of the metrics that are looked up."""
        self.metrics.queue.set(len(self.queue))
        self.metrics.models.set(len(self.pool.names()))
        self.metrics.listeners.set(self.events.n_listeners)
        for loaded in self.pool.all():
            name, drift = loaded.recipe.name, self.drift.state(loaded)
            self.metrics.drift_wealth.labels(name).set(drift["wealth"])
            self.metrics.drift_alarm.labels(name).set(drift["drifted"])
            shift = self.shift(name)
            self.metrics.budget.labels(name).set(shift.allowed)
            self.metrics.spent.labels(name).set(shift.spent)

    def stop(self) -> None:
        """End all streams of events and all calibrations, and begin none; does not wait."""
        with self._calibrates:
            self._stopping, runners = True, list(self._calibrations.values())
        for runner in runners:
            runner.stop()
        self.events.close()

    def close(self) -> None:
        """Finish what was accepted, and end all streams of events."""
        self.stop()
        self.queue.close()
        self.drift.close()


@contextmanager
def _called(file: Path, name: str | None) -> Iterator[None]:
    """Say what is wrong with a file by the name that its sender gave it."""
    try:
        yield
    except (ModelFileError, ConfigurationError, MissingRuntimeError) as error:
        if name is None:
            raise
        raise type(error)(str(error).replace(str(file), legible(name))) from error


def row_of(stored: StoredInspection) -> dict[str, Any]:
    """Return a part as the service tells it: its row, without the bulky statistics."""
    return {name: value for name, value in stored.row().items() if name != "statistics"}


def _station(request: Request) -> Station:
    station = request.app.state.station
    if not isinstance(station, Station):
        raise Refusal("unavailable", "The station is starting.", retry=1)
    return station


StationDep = Annotated[Station, Depends(_station)]
