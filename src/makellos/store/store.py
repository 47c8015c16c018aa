"""The store: one door to the database and the folder of files of a station."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from argon2 import PasswordHasher
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.storage import claim_folder, storage_errors
from makellos.store.audit_log import AuditLog
from makellos.store.backup import BackUp, read_archive, write_archive
from makellos.store.candidates import Candidates
from makellos.store.database import Database, check_is_there, place_of
from makellos.store.history import History
from makellos.store.inspections import Inspections
from makellos.store.people import People
from makellos.store.pictures import Files, map_from, sync_folder
from makellos.store.recipes import Recipes
from makellos.store.records import (
    Box,
    Filter,
    NewInspection,
    Removed,
    Retention,
    Review,
    StoredInspection,
    Tally,
)
from makellos.store.regression_sets import RegressionSets
from makellos.store.retention import Keeping, alone_with_files
from makellos.store.settings import Settings
from makellos.store.times import Clock, utc_now

__all__ = ["Store"]

_RETENTION = "retention"  # the name of the setting


class Store:
    """Keep all that a station knows. Several threads and processes may use one at once.

    `recipes`, `candidates`, `regression_sets`, `people`, `audit` and `settings` are its parts with
    doors of their own. `folder` holds pictures, maps and models; `address` names the database,
    without a password.
    """

    def __init__(
        self, database: Database, folder: Path, clock: Clock, hasher: PasswordHasher
    ) -> None:
        self.folder = folder
        self.address = database.address
        self.clock = clock
        self._database = database
        self._kinds = _kinds(folder)
        self._pictures, self._maps = self._kinds["pictures"], self._kinds["maps"]
        self.audit = AuditLog(database, folder, clock)
        self.recipes = Recipes(database, self._kinds["models"], self.audit, clock)
        self.candidates = Candidates(database, self.audit, clock)
        self.regression_sets = RegressionSets(database, self.audit, clock)
        self.people = People(database, self.audit, clock, hasher)
        self.settings = Settings(database, self.audit)
        self._inspections = Inspections(database, self._pictures, self._maps, self.audit, clock)
        self._history = History(database)
        kinds = (self._pictures, self._maps)
        self._keeping = Keeping(database, kinds, self._inspections, self.audit, clock)

    @classmethod
    def open(
        cls,
        address: str | Path | None = None,
        *,
        pictures: Path | None = None,
        create: bool = True,
        clock: Clock = utc_now,
        hasher: PasswordHasher | None = None,
    ) -> Store:
        """Open the store at an address, which is made or brought up to date where necessary.

        The address is a folder, ``sqlite:///FILE`` or ``postgresql://…``, which needs `pictures`, a
        folder; None is the station of this user. Raises `ConfigurationError` for an address that
        is none, and for one without a station unless to `create` it; `StorageError` for a place
        that cannot be used or that a newer makellos made.
        """
        url, folder = place_of(address, pictures)
        if not create:
            check_is_there(url)
        claim_folder(folder)
        database = Database(url)
        try:
            database.update()
            _make_folders(folder)
            if create:
                database.learn_sizes()
        except BaseException:
            database.close()
            raise
        return cls(database, folder, clock, hasher or PasswordHasher())

    def close(self) -> None:
        """Close the connections to the database and end the threads that write files."""
        self._inspections.close()
        self._database.close()

    def record(self, parts: Sequence[NewInspection]) -> list[int]:
        """Store parts, all or none, and return their numbers once they are on the disk for good.

        A part whose key is known has its number from before. Raises `StorageError` where there is
        no room, `InputError` for texts that are too long.
        """
        return self._inspections.record(parts)

    def known(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the numbers of the parts that were stored with these keys."""
        return self._inspections.known(keys)

    def inspection(self, number: int) -> StoredInspection:
        """Return one part; raises `NotFoundError`."""
        return self._inspections.one(number)

    def newest(self) -> int:
        """Return the highest number of a part, 0 without any."""
        return self._inspections.newest()

    def history(
        self, wanted: Filter | None = None, *, before: int | None = None, limit: int = 50
    ) -> list[StoredInspection]:
        """Return parts that a filter lets through, with numbers under `before`, newest first."""
        return self._history.find(wanted or Filter(), before, limit)

    def counts(self, since: int, until: int, recipe: str | None = None) -> dict[str, int]:
        """Return the number of parts by verdict in a time in µs since 1970."""
        return self._history.counts(since, until, recipe)

    def tallies(self, since: int, until: int, recipe: str) -> list[Tally]:
        """Return how many parts of a recipe there are by version, verdict and decision."""
        return self._history.tallies(since, until, recipe)

    def keep(self, number: int, *, person: str, kept: bool = True) -> None:
        """Mark a part so that it is never removed by age or size, or take the mark away."""
        self._inspections.keep(number, person=person, kept=kept)

    def review(
        self,
        number: int,
        *,
        person: str,
        decision: str,
        boxes: Sequence[Box] = (),
        note: str = "",
        blind: bool = False,
    ) -> int:
        """Add a person's decision on a part, ``good`` or ``defective``, and return its number.

        It is the decision that stands from now on. It may be said `blind`, without having seen the
        decision that stands: where there is one, and the person has said nothing of the part
        before, it leaves that decision; otherwise it is a word as any. Raises `NotFoundError`.
        """
        return self._inspections.review(
            number, person=person, decision=decision, boxes=boxes, note=note, blind=blind
        )

    def reviews(self, number: int) -> list[Review]:
        """Return all that was said of a part, in order."""
        return self._inspections.reviews(number)

    def all_reviews(self, after: int = 0, limit: int = 1000) -> list[Review]:
        """Return what was said of all parts after a review's number, in order."""
        return self._inspections.all_reviews(after, limit)

    def to_review(self, person: str, limit: int = 20) -> list[StoredInspection]:
        """Return what waits for a person: to look at again, rejected, blind second looks."""
        return self._history.to_review(person, limit)

    def retention(self) -> Retention:
        """Return how long things are kept; everything for ever until a person says otherwise."""
        return Retention(**self.settings.get(_RETENTION, {}))

    def set_retention(self, wanted: Retention, *, person: str) -> None:
        """Say how long things are kept from now on; raises `InputError` for what is not above 0."""
        values = {name: value for name, value in asdict(wanted).items() if value is not None}
        if not all(math.isfinite(value) and value > 0 for value in values.values()):
            raise InputError(
                "Days and sizes must be above 0; leave out what is to be kept for ever."
            )
        self.settings.put(_RETENTION, values, person)

    def apply_retention(self, wanted: Retention, *, person: str) -> Removed:
        """Forget what may be forgotten, and return what went.

        No part goes that a person said something of or marked to be kept. Keys of parts that went
        stay known. Raises `StorageError` while a backup runs.
        """
        with alone_with_files(self.folder):
            removed = self._keeping.apply(wanted, person)
        self._database.learn_sizes()
        return removed

    def back_up(self, path: Path, *, person: str) -> BackUp:
        """Write all of the station into one file, as it stands at one moment, while it is used."""
        with alone_with_files(self.folder):
            done = write_archive(self._database, self._kinds, path, self.clock())
        self.audit.log(person, "backed_up", path.name, {"parts": done.parts, "files": done.files})
        return done

    @classmethod
    def restore(
        cls,
        path: Path,
        address: str | Path | None = None,
        *,
        pictures: Path | None = None,
        person: str,
        clock: Clock = utc_now,
    ) -> BackUp:
        """Bring back what a backup holds, where no station is yet; sessions have ended then.

        Raises `StorageError` for a file that is damaged or no backup, and where there is a station
        already.
        """
        url, folder = place_of(address, pictures)
        claim_folder(folder)
        with alone_with_files(folder):
            database, done = read_archive(path, url, folder, _kinds(folder))
        store = cls(database, folder, clock, PasswordHasher())
        try:
            store.audit.note_again()
            store.audit.log(person, "restored", path.name, {"parts": done.parts})
        finally:
            store.close()
        return done

    def picture(self, name: str | None) -> Path | None:
        """Return the file of a picture by its hash; None where there is none any more."""
        return self._pictures.find(name)

    def map(self, name: str | None) -> NDArray[np.float32] | None:
        """Return a map by its hash, h×w float32; None where there is none any more."""
        path = self._maps.find(name)
        return None if path is None else map_from(path)


def _kinds(folder: Path) -> dict[str, Files]:
    return {
        "pictures": Files(folder / "pictures"),
        "maps": Files(folder / "maps", ".npy"),
        "models": Files(folder / "models", ".makellos", many=False),
    }


def _make_folders(folder: Path) -> None:
    with storage_errors(f"Nothing can be written to {folder}", "Choose another folder."):
        for files in _kinds(folder).values():
            files.folder.mkdir(exist_ok=True)
        sync_folder(folder)
