"""What people set, and what the program keeps for itself, as plain data under names."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from makellos.store.audit_log import AuditLog
from makellos.store.database import Database
from makellos.store.records import check_texts
from makellos.store.tables import settings

__all__ = ["Settings"]


class Settings:
    """Keep values by name. Those that a person changes get an entry in the audit log."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(settings.c.value).where(settings.c.name == name)
            ).first()
        return default if row is None else row.value

    def put(self, name: str, value: Any, person: str | None) -> None:
        """Keep a value; with no person it is the program's own, and in no audit log."""
        check_texts(setting=name)
        changes = (
            self._database.writing()
            if person is None
            else self._audit.recorded(person, "setting", name, {"value": value})
        )
        with changes as connection:
            change = update(settings).where(settings.c.name == name).values(value=value)
            if connection.execute(change).rowcount == 0:
                connection.execute(settings.insert().values(name=name, value=value))
