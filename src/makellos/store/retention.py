"""Forgetting old parts, by age and by size, but none that a person decided on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, not_, or_, select, true, update

from makellos.errors import InputError
from makellos.storage import locked
from makellos.store.audit_log import AuditLog
from makellos.store.database import Database
from makellos.store.inspections import Inspections
from makellos.store.pictures import Files
from makellos.store.records import Removed, Retention
from makellos.store.tables import (
    inspection_rows,
    inspection_words,
    inspection_zones,
    inspections,
    regression_parts,
    reviews,
)
from makellos.store.times import Clock

__all__ = ["Keeping", "alone_with_files"]

_AT_ONCE = 500
_DAY = 86_400_000_000  # µs
LOCK_FILE = "keeping.lock"


@contextmanager
def alone_with_files(folder: Path) -> Iterator[None]:
    """Keep backups and retention from each other; raise `StorageError` where one is at work."""
    busy = f"A backup or a clean-up of {folder} is running. Try again when it has finished."
    with locked(folder / LOCK_FILE, busy):
        yield


class Keeping:
    """Remove what may be forgotten. Every removal is in the audit log, in the same transaction."""

    def __init__(
        self,
        database: Database,
        kinds: tuple[Files, Files],
        parts: Inspections,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._database = database
        self._pictures, self._maps = kinds
        self._parts = parts
        self._audit = audit
        self._clock = clock

    def apply(self, wanted: Retention, person: str) -> Removed:
        """Remove what a retention lets go, and files that no part names; return what went."""
        limits = (wanted.picture_days, wanted.row_days, wanted.picture_bytes)
        if not all(limit is None or (math.isfinite(limit) and limit >= 0) for limit in limits):
            raise InputError(
                "Days and bytes to keep are numbers from 0; leave out a limit to keep everything."
            )
        now = self._clock()
        removed = self._sweep()
        if wanted.row_days is not None:
            old = inspections.c.time < now - int(wanted.row_days * _DAY)
            removed = _sum(removed, *self._forget(old, person, whole=True))
        has_files = or_(inspections.c.picture.is_not(None), inspections.c.map.is_not(None))
        if wanted.picture_days is not None:
            old = inspections.c.time < now - int(wanted.picture_days * _DAY)
            removed = _sum(removed, *self._forget(and_(old, has_files), person))
        if wanted.picture_bytes is not None:
            over = self._pictures.total() + self._maps.total() - wanted.picture_bytes
            for step in self._forget(has_files, person) if over > 0 else ():
                removed = _sum(removed, step)
                over -= step.bytes
                if over <= 0:
                    break
        return removed

    def _sweep(self) -> Removed:
        """Remove files that no part names, as a killed process leaves them."""
        removed = Removed()
        for files in (self._pictures, self._maps):
            names = files.names()
            while some := list(islice(names, _AT_ONCE)):
                given = (some, []) if files is self._pictures else ([], some)
                n_files, n_bytes = self._parts.discard(*given)
                removed = _sum(removed, Removed(pictures=n_files, bytes=n_bytes))
        return removed

    def _forget(
        self, which: ColumnElement[bool], person: str, *, whole: bool = False
    ) -> Iterator[Removed]:
        """Remove pictures and maps, or `whole` parts, the oldest first, some at a time."""
        after = 0
        while True:
            ids = self._next(and_(which, inspections.c.id > after, not_(_protected())))
            if not ids:
                return
            after = ids[-1]
            yield self._forget_some(ids, person, whole=whole)

    def _next(self, which: ColumnElement[bool]) -> list[int]:
        wanted = select(inspections.c.id).where(which).order_by(inspections.c.id).limit(_AT_ONCE)
        with self._database.reading() as connection:
            return list(connection.scalars(wanted))

    def _forget_some(self, ids: list[int], person: str, *, whole: bool) -> Removed:
        action = "parts_removed" if whole else "pictures_removed"
        said: dict[str, Any] = {}
        subject = f"parts {ids[0]} to {ids[-1]}"
        table = inspections.c
        with self._audit.recorded(person, action, subject, said) as connection:
            # Who says something of a part meanwhile is waited for, and then heard.
            connection.execute(select(table.id).where(table.id.in_(ids)).with_for_update())
            free = and_(table.id.in_(ids), not_(_protected()))
            rows = connection.execute(select(table.id, table.picture, table.map).where(free)).all()
            gone = [row.id for row in rows]
            said["n"] = len(gone)
            if whole:
                for other in (inspection_zones, inspection_words, inspection_rows):
                    connection.execute(delete(other).where(other.c.inspection_id.in_(gone)))
                connection.execute(delete(inspections).where(table.id.in_(gone)))
            else:
                change = update(inspections).where(table.id.in_(gone))
                connection.execute(change.values(picture=None, map=None))
        pictures = [row.picture for row in rows if row.picture is not None]
        maps = [row.map for row in rows if row.map is not None]
        n_files, n_bytes = self._parts.discard(pictures, maps)
        return Removed(rows=len(gone) if whole else 0, pictures=n_files, bytes=n_bytes)


def _protected() -> ColumnElement[bool]:
    spoken_of = exists().where(reviews.c.inspection_id == inspections.c.id)
    locked_in = exists().where(regression_parts.c.inspection_id == inspections.c.id)
    kept = inspections.c.kept == true()
    return or_(kept, inspections.c.decision.is_not(None), spoken_of, locked_in)


def _sum(*counts: Removed) -> Removed:
    return Removed(
        rows=sum(each.rows for each in counts),
        pictures=sum(each.pictures for each in counts),
        bytes=sum(each.bytes for each in counts),
    )
