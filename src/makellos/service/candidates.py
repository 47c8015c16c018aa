"""The loop: a candidate is made from decisions, compared, and only then released."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from makellos.errors import ConfigurationError, InputError, MakellosError, TrainingError
from makellos.service.comparing import Asked, Judged, compare, judged
from makellos.service.harvest import Harvest, harvest, write_manifest
from makellos.service.station import Station
from makellos.service.verbs import StoppedError, VerbRunner
from makellos.storage import storage_errors
from makellos.store import Candidate, Filter, RecipeVersion, StoredInspection, StoredModel

__all__ = ["HOWS", "CandidateMaker", "Wanted"]

HOWS = ("calibrate", "fit")
_DAY = 86_400_000_000  # µs
_REPLAYED = 1000  # parts at most
_PAGE = 500
_ERRORS = ("Error: ", "Unexpected error: ")  # how a verb begins to say what went wrong
_SAID_LINES = 20
_log = logging.getLogger("makellos.service")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Say how a candidate is made.

    `how` is ``calibrate`` (the same detector, thresholds from the parts of the time) or ``fit`` (a
    new detector learned from them). `since` and `until` are in µs since 1970: by default the last
    seven days. `detector` of a fit is that of the present model by default, `false_alarms` the
    budget it has. At most `most` good parts are taken.
    """

    how: str
    since: int | None = None
    until: int | None = None
    false_alarms: float | None = None
    detector: str | None = None
    most: int = 2000

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            raise ConfigurationError(f"A candidate is made by {' or '.join(HOWS)}.")
        if self.detector is not None and self.how != "fit":
            raise ConfigurationError("Only a fit can take another detector.")
        if self.false_alarms is not None and not 0 < self.false_alarms < 1:
            raise ConfigurationError("The budget is a share of good parts between 0 and 1.")


class CandidateMaker:
    """Make candidates one after another, beside a `station` that goes on inspecting.

    Fits, calibrations and inspections of candidates are processes of their own with low priority.
    What was being made when the station ended has failed.
    """

    def __init__(self, station: Station) -> None:
        self._station, self._store = station, station.store
        self._waiting: deque[tuple[int, Callable[[Path], None]]] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._runner, self._number = VerbRunner(self._said), 0
        self._closing = False
        for left in self._store.candidates.all():
            if left.state == "working":
                self._fail(
                    left.number, "The station was stopped meanwhile. Create the candidate again."
                )

    def start(self, recipe: str, wanted: Wanted, *, person: str) -> Candidate:
        """Begin a candidate of a recipe and return it.

        Raises `InputError` where the parts of the time do not allow it, `NotFoundError` for no such
        recipe.
        """
        base = self._store.recipes.active(recipe)
        now = self._station.clock()
        until = now if wanted.until is None else wanted.until
        since = until - 7 * _DAY if wanted.since is None else wanted.since
        calibrates = wanted.how == "calibrate"
        found = harvest(
            self._store,
            recipe,
            since=since,
            until=until,
            most=wanted.most,
            calibrates=calibrates,
        )
        details = {**found.figures(), "false_alarms": wanted.false_alarms}
        if wanted.how == "fit":
            details["detector"] = wanted.detector or self._model(base.model_hash).detector
        made = self._store.candidates.begin(
            recipe, wanted.how, person=person, base_version=base.version, details=details
        )
        self._put(made.number, lambda folder: self._make(made, base, found, wanted, folder))
        return made

    def compare_again(self, number: int) -> Candidate:
        """Compare a candidate with the version in use and the sets that there are now."""
        found = self._store.candidates.get(number)
        if found.state != "ready":
            raise InputError(
                f"Candidate {number} is {found.state}; only a ready one can be compared."
            )
        self._put(number, partial(self._compare, number))
        return found

    def release(self, number: int, *, person: str) -> RecipeVersion:
        """Let a compared candidate inspect from now on; the version before can be brought back.

        Raises `InputError` for one that is not ready, was compared with a version that is not in
        use any more, or was not compared on a locked set.
        """
        found = self._store.candidates.get(number)
        active = self._store.recipes.active(found.recipe)
        if found.state != "ready" or found.model_hash is None:
            raise InputError(
                f"Candidate {number} is {found.state}; only a ready one can be released."
            )
        comparison = found.details["comparison"]
        if comparison["version"] != active.version:
            raise InputError(
                f"Candidate {number} was compared with version {comparison['version']}; version "
                f"{active.version} is in use now. Compare it again."
            )
        if not any(each["n_good"] + each["n_defective"] for each in comparison["regression"]):
            raise InputError(
                f"Candidate {number} was not compared on locked parts that it did not learn from. "
                "Lock decided parts of another time, and compare it again."
            )
        made = self._store.recipes.add(
            found.recipe,
            found.model_hash,
            person=person,
            acceptance=active.acceptance,
            note=f"candidate {number}",
            activate=False,
        )
        self._station.activate(found.recipe, made.version, person=person)
        self._store.candidates.end(number, "released", person=person)
        return made

    def withdraw(self, number: int, *, person: str) -> Candidate:
        """Discard a ready candidate."""
        found = self._store.candidates.get(number)
        if found.state != "ready":
            raise InputError(
                f"Candidate {number} is {found.state}; only a ready one can be discarded."
            )
        return self._store.candidates.end(number, "withdrawn", person=person)

    def close(self) -> None:
        """End what is being made, which has failed then, and what waits."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._runner.stop()
        if thread is not None:
            thread.join()

    def wait(self) -> None:
        """Return when nothing is being made any more."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    # In a thread, which is there while there is work

    def _put(self, number: int, work: Callable[[Path], None]) -> None:
        with self._lock:
            self._waiting.append((number, work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                number, work = self._waiting.popleft()
            folder = self._store.folder / "work" / f"candidate-{number}"
            try:
                with storage_errors(f"{folder} cannot be made"):
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir(parents=True)
                work(folder)
            except MakellosError as error:
                self._fail(number, str(error))
            except Exception as error:  # noqa: BLE001 -- the next candidate must not wait for ever
                self._fail(number, f"{type(error).__name__}: {error}")
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _make(
        self, made: Candidate, base: RecipeVersion, found: Harvest, wanted: Wanted, folder: Path
    ) -> None:
        manifest, file = folder / "parts.csv", folder / f"candidate-{made.number}.makellos"
        write_manifest(self._store, found, manifest, labelled=made.how == "fit")
        budget = [] if wanted.false_alarms is None else ["--false-alarms", str(wanted.false_alarms)]
        if made.how == "calibrate":
            model = str(self._model(base.model_hash).path)
            arguments = ["calibrate", model, str(manifest), "-o", str(file), *budget]
        else:
            detector = str(made.details["detector"])
            arguments = ["fit", str(manifest), "-o", str(file), "--detector", detector, *budget]
        self._run(made.number, arguments)
        model_hash = self._station.keep_model(file, person=made.person).hash
        used = (*found.good, *(found.defective if made.how == "fit" else ()))
        learned = {part.id: str(part.picture) for part in used}
        self._store.candidates.made(made.number, model_hash, learned)
        self._compare(made.number, folder)

    def _compare(self, number: int, folder: Path) -> None:
        found = self._store.candidates.get(number)
        active = self._store.recipes.active(found.recipe)
        asked = Asked(
            sets=tuple(self._store.regression_sets.all(found.recipe)),
            replayed=tuple(self._last_parts(found.recipe)),
        )
        pictures = asked.pictures(self._store)
        says: list[dict[str, Judged]] = []
        for model_hash in (active.model_hash, str(found.model_hash)):
            model, run = self._model(model_hash).path, partial(self._run, number)
            rules = active.acceptance
            says.append(judged(run, model, rules, pictures, folder) if pictures else {})
        changes, comparison = compare(
            self._store, asked, says[0], says[1], self._store.candidates.learned(number)
        )
        comparison["version"] = active.version
        if not self._closing:
            self._store.candidates.compared(number, changes, comparison)
        self._station.events.publish("candidate", {"candidate": number, "state": "ready"})

    def _last_parts(self, recipe: str) -> list[StoredInspection]:
        parts, before = list[StoredInspection](), None
        while len(parts) < _REPLAYED:
            page = self._store.history(Filter(recipe=recipe), before=before, limit=_PAGE)
            if not page:
                break
            parts += [part for part in page if self._store.picture(part.picture) is not None]
            before = page[-1].id
        return parts[:_REPLAYED]

    def _run(self, number: int, arguments: Sequence[str]) -> None:
        """Run a verb of makellos to its end, and tell what it is at; raises what it says."""
        self._number = number
        try:
            ended = self._runner.run(arguments)
        except StoppedError:
            raise TrainingError("The station was stopped meanwhile.") from None
        if ended.code not in (0, 1):  # 1: some parts could not be read, as their rows say
            raise TrainingError(_reason(ended.said) or f"makellos {arguments[0]} ended early.")

    def _said(self, line: str) -> None:
        self._tell(self._number, line)

    def _model(self, model_hash: str) -> StoredModel:
        return self._store.recipes.model(model_hash)

    def _tell(self, number: int, message: str) -> None:
        self._store.candidates.tell(number, message)
        said = {"candidate": number, "state": "working", "message": message}
        self._station.events.publish("candidate", said)

    def _fail(self, number: int, message: str) -> None:
        try:
            found = self._store.candidates.get(number)
            if found.state == "ready":  # only its new comparison failed: the one before stands
                self._store.candidates.tell(number, message)
            else:
                end = self._store.candidates.end
                found = end(number, "failed", person=found.person, message=message)
        except MakellosError as error:  # the next start notes it
            _log.error(
                "Candidate %d failed, and this could not be stored: %s. %s", number, message, error
            )
            return
        self._station.events.publish("candidate", {"candidate": number, "state": found.state})


def _reason(said: Sequence[str]) -> str:
    """Return what a verb said of its error, without the progress before it."""
    begins = [i for i, line in enumerate(said) if line.startswith(_ERRORS)]
    return " ".join(said[begins[-1] :] if begins else said[-_SAID_LINES:])
