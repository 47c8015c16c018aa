"""The audit log: who did what and when, each entry bound to the one before by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from makellos.errors import StorageError
from makellos.storage import write_text
from makellos.store.database import Database
from makellos.store.tables import as_json, audit_head, audit_log
from makellos.store.times import Clock

__all__ = ["HEAD_FILE", "AuditCheck", "AuditEntry", "AuditLog"]

HEAD_FILE = "audit-head.json"
FIRST = "0" * 64  # what the first entry is bound to
_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """Hold one entry; `time` is in µs since 1970, `previous` the hash of the entry before."""

    number: int
    time: int
    person: str
    action: str
    subject: str
    details: dict[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class AuditCheck:
    """Say whether the log is whole: `fault` is the first number at fault, None if there is none.

    `head` is the hash of the last entry. Kept elsewhere, it proves later what the log was.
    """

    n_entries: int
    fault: int | None
    reason: str
    head: str

    @property
    def whole(self) -> bool:
        """Tell whether nothing was removed, altered or moved."""
        return self.fault is None


class AuditLog:
    """Write and check the log.

    Where it ends is kept in a table of its own, and in a file beside the pictures, which may be
    behind by what happened last, but is never ahead of a log that is whole.
    """

    def __init__(self, database: Database, folder: Path, clock: Clock) -> None:
        self._database = database
        self._head_file = folder / HEAD_FILE
        self._clock = clock

    def log(
        self, person: str, action: str, subject: str, details: Mapping[str, Any] | None = None
    ) -> int:
        """Add an entry and return its number."""
        with self.recorded(person, action, subject, dict(details or {})) as connection:
            return int(connection.scalar(select(audit_head.c.number)) or 0) + 1

    @contextmanager
    def recorded(
        self, person: str, action: str, subject: str, details: dict[str, Any]
    ) -> Iterator[Connection]:
        """Give a connection for a change that gets an entry: both last, or neither does.

        The body may complete `details`.
        """
        with self._database.writing() as connection:
            end = self._hold_end(connection)
            yield connection
            head = self._append(connection, end, (person, action, subject, as_json(details)))
        self._note(head)

    def entries(self, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return entries with numbers under `before`, newest first."""
        wanted = select(audit_log).order_by(audit_log.c.number.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(audit_log.c.number < before)
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(wanted)]

    def verify(self) -> AuditCheck:
        """Return whether the log is whole, and the first number that is not as it was written."""
        noted = self._noted()  # before the rest, so that it is not ahead of what is read
        with self._database.reading() as connection:
            end = connection.execute(select(audit_head.c.number, audit_head.c.hash)).first()
            number, previous, reason = 0, FIRST, ""
            for row in self._rows(connection):
                reason = _fault(row, number + 1, previous)
                if not reason and noted is not None and row.number == noted[0]:
                    reason = "" if row.hash == noted[1] else "the log was written anew"
                if reason:
                    return AuditCheck(
                        n_entries=number, fault=number + 1, reason=reason, head=previous
                    )
                number, previous = number + 1, row.hash
        reason = _fault_of_end(number, previous, end, noted)
        fault = number + 1 if reason else None
        return AuditCheck(n_entries=number, fault=fault, reason=reason, head=previous)

    def note_again(self) -> None:
        """Write where the log ends into its file, after the database was put in place."""
        with self._database.reading() as connection:
            row = connection.execute(select(audit_head.c.number, audit_head.c.hash)).one()
        write_text(self._head_file, as_json({"number": row.number, "hash": row.hash}))

    def _rows(self, connection: Connection) -> Iterator[Row[Any]]:
        after = None
        while True:
            wanted = select(audit_log).order_by(audit_log.c.number).limit(_AT_ONCE)
            if after is not None:
                wanted = wanted.where(audit_log.c.number > after)
            rows = connection.execute(wanted).all()
            yield from rows
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1].number

    def _hold_end(self, connection: Connection) -> tuple[int, str]:
        row = connection.execute(
            select(audit_head.c.number, audit_head.c.hash).with_for_update()
        ).first()
        if row is None:
            raise StorageError(
                f"The audit log of {self._database.address} has lost its end. Run 'makellos "
                "history verify', and restore a backup."
            )
        return int(row.number), str(row.hash)

    def _append(
        self, connection: Connection, end: tuple[int, str], said: tuple[str, str, str, str]
    ) -> tuple[int, str]:
        person, action, subject, details = said
        values = {
            "number": end[0] + 1,
            "time": self._clock(),
            "person": person,
            "action": action,
            "subject": subject,
            "details": details,
            "previous": end[1],
        }
        values["hash"] = _hash(values)
        connection.execute(audit_log.insert().values(values))
        connection.execute(audit_head.update().values(number=values["number"], hash=values["hash"]))
        return end[0] + 1, str(values["hash"])

    def _note(self, head: tuple[int, str]) -> None:
        # What is decided stands in the database; a file that is behind is no fault.
        with suppress(StorageError):
            noted = self._noted()
            if noted is None or noted[0] < head[0]:
                write_text(self._head_file, as_json({"number": head[0], "hash": head[1]}))

    def _noted(self) -> tuple[int, str] | None:
        try:
            values = json.loads(self._head_file.read_bytes())
            return int(values["number"]), str(values["hash"])
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _hash(values: Mapping[str, Any]) -> str:
    names = ("number", "time", "person", "action", "subject", "details", "previous")
    text = json.dumps([values[name] for name in names], default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fault(row: Row[Any], number: int, previous: str) -> str:
    if row.number != number:
        return f"entry {number} is missing"
    if row.previous != previous:
        return f"entry {number} does not follow the one before"
    return "" if row.hash == _hash(dict(row._mapping)) else f"entry {number} was altered"


def _fault_of_end(number: int, last: str, end: Any, noted: tuple[int, str] | None) -> str:
    if end is None:
        return "the end of the log is not on record"
    if end.number > number or (noted is not None and noted[0] > number):
        missing = max(end.number, 0 if noted is None else noted[0]) - number
        return f"{missing} of the last entries are missing"
    return "" if (end.number, end.hash) == (number, last) else "the end of the log was altered"


def _entry(row: Row[Any]) -> AuditEntry:
    values = dict(row._mapping)
    try:
        details = json.loads(values["details"])
    except (ValueError, TypeError):
        details = {}
    return AuditEntry(**{**values, "details": details if isinstance(details, dict) else {}})
