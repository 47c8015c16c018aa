"""Parts that were inspected: recording them for good, and what people said of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, CursorResult, Row, exists, func, select, update

from makellos.errors import InputError, StorageError
from makellos.inspection import Inspection
from makellos.store.audit_log import AuditLog
from makellos.store.database import Database, collided
from makellos.store.pictures import Batch, Files, digest, map_bytes
from makellos.store.records import (
    DECISIONS,
    Box,
    NewInspection,
    NotFoundError,
    Review,
    StoredInspection,
    check_texts,
    stored_inspection,
)
from makellos.store.tables import (
    inspection_keys,
    inspection_rows,
    inspection_words,
    inspection_zones,
    inspections,
    regression_parts,
    reviews,
)
from makellos.store.times import Clock

__all__ = ["Inspections", "parts_query", "referenced"]

_TRIES = 5
_WRITERS = 8  # files that are written at once
_MOST_KEYS = 500  # in one question to the database


def parts_query() -> Any:
    """Return the query for all that is stored of parts."""
    wide = [inspection_rows.c[name] for name in ("input", "error", "fields", "row")]
    return select(*inspections.c, *wide).join(
        inspection_rows, inspection_rows.c.inspection_id == inspections.c.id
    )


def referenced(connection: Connection, column: Any, names: Iterable[str]) -> set[str]:
    """Return those hashes that a part still names in a column."""
    wanted = list(names)
    return set(connection.scalars(select(column).where(column.in_(wanted)).distinct()))


@dataclass
class _Draft:
    """A part that is about to be stored: its columns, and its files by their hashes."""

    part: NewInspection
    values: dict[str, Any]
    wide: dict[str, Any]
    words: str
    zones: list[str]
    picture: bytes | None = field(default=None, repr=False)
    map: bytes | None = field(default=None, repr=False)
    key: str | None = None


class Inspections:
    """Store parts, give them back by number, and keep what people said of them."""

    def __init__(
        self, database: Database, pictures: Files, maps: Files, audit: AuditLog, clock: Clock
    ) -> None:
        self._database = database
        self._pictures = pictures
        self._maps = maps
        self._audit = audit
        self._clock = clock
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="makellos-files")

    def close(self) -> None:
        """End the threads that write files."""
        self._threads.shutdown()

    def record(self, parts: Sequence[NewInspection]) -> list[int]:
        """Store parts in one transaction and return their numbers, once they are on the disk.

        A part whose key is known already is not stored again; its number is given. Raises
        `StorageError` where there is no room, and then nothing is stored, `InputError` for texts
        that are too long.
        """
        drafts = [_draft(part, self._clock()) for part in parts]
        for attempt in range(_TRIES):
            try:
                return self._record(drafts)
            except StorageError as error:
                if attempt == _TRIES - 1 or not collided(error):
                    raise
        return []

    def known(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the numbers of the parts that were stored with these keys."""
        by_hash = {digest(key.encode("utf-8", "surrogatepass")): key for key in keys}
        with self._database.reading() as connection:
            return {by_hash[name]: number for name, number in _known(connection, by_hash).items()}

    def one(self, number: int) -> StoredInspection:
        """Return one part; raises `NotFoundError`."""
        with self._database.reading() as connection:
            row = connection.execute(parts_query().where(inspections.c.id == number)).first()
        if row is None:
            raise NotFoundError(f"There is no part {number} in the history.")
        return stored_inspection(row)

    def newest(self) -> int:
        """Return the highest number, 0 without any part."""
        with self._database.reading() as connection:
            return int(connection.scalar(select(func.max(inspections.c.id))) or 0)

    def keep(self, number: int, *, person: str, kept: bool) -> None:
        """Mark a part so that it is never removed by age or size, or take the mark away.

        Raises `InputError` for taking it from a part of a locked set.
        """
        action = "part_kept" if kept else "part_not_kept"
        with self._audit.recorded(person, action, f"part {number}", {}) as connection:
            locked = select(regression_parts.c.set_name).where(
                regression_parts.c.inspection_id == number
            )
            if not kept and (name := connection.scalar(locked)) is not None:
                raise InputError(
                    f"Part {number} belongs to the locked set {name!r} and has to be kept."
                )
            change = update(inspections).where(inspections.c.id == number).values(kept=kept)
            _changed_one(connection.execute(change).rowcount, number)

    def review(
        self,
        number: int,
        *,
        person: str,
        decision: str,
        boxes: Sequence[Box],
        note: str,
        blind: bool,
    ) -> int:
        """Add what a person says of a part and return the number of that.

        It is the decision that stands from now on, unless it is `blind`, the part is decided and
        the person has said nothing of it before.
        """
        if decision not in DECISIONS:
            raise InputError(f"A decision is good or defective; received {decision!r}.")
        if not all(math.isfinite(edge) for box in boxes for edge in asdict(box).values()):
            raise InputError("A box has an edge that is not a number. Draw it again.")
        check_texts(person=person)
        said: dict[str, Any] = {"decision": decision, "boxes": [asdict(box) for box in boxes]}
        said |= {"note": note}
        with self._audit.recorded(person, "review", f"part {number}", said) as connection:
            said["blind"] = blind and _can_be_blind(connection, number, person)
            change = update(inspections).where(inspections.c.id == number)
            # A blind word leaves the decision; the part is looked for all the same.
            value = inspections.c.decision if said["blind"] else decision
            _changed_one(connection.execute(change.values(decision=value)).rowcount, number)
            values = {"inspection_id": number, "time": self._clock(), "person": person, **said}
            added = connection.execute(reviews.insert().values(values))
            return _new_number(added)

    def reviews(self, number: int) -> list[Review]:
        """Return all that was said of a part, in order."""
        wanted = select(reviews).where(reviews.c.inspection_id == number).order_by(reviews.c.id)
        with self._database.reading() as connection:
            return [_review(row) for row in connection.execute(wanted)]

    def all_reviews(self, after: int, limit: int) -> list[Review]:
        """Return what was said of all parts after a number, in order."""
        wanted = select(reviews).where(reviews.c.id > after).order_by(reviews.c.id).limit(limit)
        with self._database.reading() as connection:
            return [_review(row) for row in connection.execute(wanted)]

    def discard(self, pictures: Iterable[str], maps: Iterable[str]) -> tuple[int, int]:
        """Remove files that no part names any more; return how many, and their bytes."""
        n_files, n_bytes = 0, 0
        with self._database.writing() as connection:
            self._database.hold_files(connection, alone=True)
            for files, column, names in (
                (self._pictures, inspections.c.picture, set(pictures)),
                (self._maps, inspections.c.map, set(maps)),
            ):
                for name in names - referenced(connection, column, names):
                    size = files.remove(name)
                    n_files, n_bytes = n_files + bool(size), n_bytes + size
        return n_files, n_bytes

    def _record(self, drafts: Sequence[_Draft]) -> list[int]:
        keys = [draft.key for draft in drafts if draft.key is not None]
        with self._database.reading() as connection:
            known = _known(connection, keys)
        fresh = _fresh(drafts, known)
        files = self._files_of(fresh)
        batch = Batch(self._threads)
        try:
            batch.put(files)
            with self._database.writing() as connection:
                self._database.hold_files(connection)
                batch.put(files)  # again, where they were removed meanwhile
                known = _known(connection, keys)
                return [_insert(connection, draft, known) for draft in drafts]
        except BaseException:
            with suppress(StorageError):
                self.discard(*(self._of_kind(batch, kind) for kind in (self._pictures, self._maps)))
            raise

    def _files_of(self, drafts: Sequence[_Draft]) -> list[tuple[Files, str, bytes]]:
        return [
            (files, draft.values[kind], data)
            for draft in drafts
            for files, kind, data in (
                (self._pictures, "picture", draft.picture),
                (self._maps, "map", draft.map),
            )
            if data is not None
        ]

    def _of_kind(self, batch: Batch, kind: Files) -> list[str]:
        return [name for files, name in batch.written if files is kind]


def _draft(part: NewInspection, now: int) -> _Draft:
    """Return the columns of a part; raises `InputError` for a text that is too long."""
    found = part.inspection
    check_texts(
        recipe=part.recipe, serial=part.serial, lot=part.lot, source=part.source, input=found.input
    )
    zones = _zones_of(found)
    for zone in zones:
        check_texts(zone=zone)
    drawn = None if found.anomaly_map is None else map_bytes(found.anomaly_map)
    key = None if part.key is None else digest(part.key.encode("utf-8", "surrogatepass"))
    values = {
        "time": now,
        "recipe": part.recipe,
        "recipe_version": part.recipe_version,
        "model_hash": part.model_hash,
        "serial": part.serial,
        "lot": part.lot,
        "source": part.source,
        "verdict": found.verdict,
        "score": _finite(found.score),
        "p_value": _finite(found.p_value),
        "threshold": _finite(found.threshold),
        "milliseconds": _finite(found.milliseconds) or 0.0,
        "picture": None if part.picture is None else digest(part.picture),
        "map": None if drawn is None else digest(drawn),
    }
    wide = {
        "input": found.input,
        "error": found.error,
        "fields": dict(part.fields),
        "row": found.row(),
    }
    words = "\n".join((found.input, part.serial or "", part.lot or "")).casefold()
    return _Draft(part, values, wide, words, zones, part.picture, drawn, key)


def _fresh(drafts: Sequence[_Draft], known: Mapping[str, int]) -> list[_Draft]:
    """Return the parts that are new, the first one of those with the same key."""
    firsts: dict[str, _Draft] = {}
    for draft in drafts:
        if draft.key is not None:
            firsts.setdefault(draft.key, draft)
    new = {id(draft) for key, draft in firsts.items() if key not in known}
    return [draft for draft in drafts if draft.key is None or id(draft) in new]


def _zones_of(found: Inspection) -> list[str]:
    """Return the zones in which damage was found."""
    outlined = {region.zone for region in found.regions if region.zone is not None}
    over = {
        zone.name for zone in found.zones if zone.score is not None and zone.score > zone.threshold
    }
    return sorted(outlined | over)


def _insert(connection: Connection, draft: _Draft, known: dict[str, int]) -> int:
    """Store a part unless its key is known, and return its number."""
    if draft.key is not None and draft.key in known:
        return known[draft.key]
    added = connection.execute(inspections.insert().values(draft.values))
    number = _new_number(added)
    connection.execute(inspection_rows.insert().values(inspection_id=number, **draft.wide))
    connection.execute(inspection_words.insert().values(inspection_id=number, words=draft.words))
    if draft.zones:
        rows = [{"inspection_id": number, "zone": zone} for zone in draft.zones]
        connection.execute(inspection_zones.insert(), rows)
    if draft.key is not None:
        connection.execute(inspection_keys.insert().values(key=draft.key, inspection_id=number))
        known[draft.key] = number
    return number


def _known(connection: Connection, keys: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    wanted = list(keys)
    for start in range(0, len(wanted), _MOST_KEYS):
        some = inspection_keys.c.key.in_(wanted[start : start + _MOST_KEYS])
        rows = connection.execute(select(inspection_keys).where(some))
        found |= {row.key: int(row.inspection_id) for row in rows}
    return found


def _new_number(added: CursorResult[Any]) -> int:
    (number,) = added.inserted_primary_key or (0,)
    return int(number)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _changed_one(n_rows: int, number: int) -> None:
    if n_rows != 1:
        raise NotFoundError(f"There is no part {number} in the history.")


def _can_be_blind(connection: Connection, number: int, person: str) -> bool:
    """Tell whether a part is decided and a person has said nothing of it yet."""
    own = exists().where(reviews.c.inspection_id == number, reviews.c.person == person)
    wanted = select(inspections.c.id).where(
        inspections.c.id == number, inspections.c.decision.is_not(None), ~own
    )
    return connection.scalar(wanted) is not None


def _review(row: Row[Any]) -> Review:
    values = dict(row._mapping)
    return Review(**{**values, "boxes": tuple(Box(**box) for box in values["boxes"])})
