"""Looking through the history: filters, counts, and what waits for a person."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, exists, func, select

from makellos.store.database import Database
from makellos.store.inspections import parts_query
from makellos.store.records import Filter, StoredInspection, Tally, stored_inspection
from makellos.store.tables import inspection_words, inspection_zones, inspections, reviews

__all__ = ["History"]

_VERDICTS = ("ok", "look_again", "reject", "unreadable")
# Multiplying by an odd number shuffles numbers below this one without a repetition.
_SHUFFLE, _SHUFFLED_BELOW = 2_654_435_761, 2**32


class History:
    """Find parts: pages follow the number of the last part seen, so that none is slower."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, wanted: Filter, before: int | None, limit: int) -> list[StoredInspection]:
        """Return parts with numbers under `before`, newest first."""
        numbers = select(inspections.c.id).where(*_conditions(wanted))
        if before is not None:
            numbers = numbers.where(inspections.c.id < before)
        numbers = numbers.order_by(inspections.c.id.desc()).limit(limit)
        return self._parts(numbers)

    def counts(self, since: int, until: int, recipe: str | None) -> dict[str, int]:
        """Return the number of parts by verdict, of a time and, where given, a recipe."""
        table = inspections.c
        wanted = select(table.verdict, func.count()).where(table.time >= since, table.time < until)
        if recipe is not None:
            wanted = wanted.where(table.recipe == recipe)
        with self._database.reading() as connection:
            found = {row[0]: int(row[1]) for row in connection.execute(wanted.group_by("verdict"))}
        return {**dict.fromkeys(_VERDICTS, 0), **found}

    def tallies(self, since: int, until: int, recipe: str) -> list[Tally]:
        """Return the numbers of a recipe's parts by version, verdict and decision, of a time."""
        table = inspections.c
        columns = (table.recipe_version, table.verdict, table.decision)
        wanted = select(*columns, func.count()).where(
            table.time >= since, table.time < until, table.recipe == recipe
        )
        with self._database.reading() as connection:
            rows = connection.execute(wanted.group_by(*columns)).all()
        return [Tally(int(row[0]), row[1], row[2], int(row[3])) for row in rows]

    def to_review(self, person: str, limit: int) -> list[StoredInspection]:
        """Return what waits for a person's word.

        First the parts to look at again without a decision, oldest first, then rejected ones
        without. After these, in an order that says nothing, decided ones that this person has said
        nothing of: for a second look that is blind, where the decision is not to be shown.
        """
        table, parts = inspections.c, list[StoredInspection]()
        for verdict in ("look_again", "reject"):
            waiting = select(table.id).where(table.verdict == verdict, table.decision.is_(None))
            first = waiting.order_by(table.id).limit(limit - len(parts))
            parts += self._parts(first, newest_first=False)
            if len(parts) == limit:
                return parts
        own = exists().where(reviews.c.inspection_id == table.id, reviews.c.person == person)
        decided = select(table.id).where(table.decision.is_not(None), ~own)
        shuffled = (table.id * _SHUFFLE) % _SHUFFLED_BELOW
        return parts + self._parts(decided.order_by(shuffled).limit(limit - len(parts)))

    def _parts(self, numbers: Any, *, newest_first: bool = True) -> list[StoredInspection]:
        with self._database.reading() as connection:
            found = list(connection.scalars(numbers))
            if not found:
                return []
            rows = connection.execute(parts_query().where(inspections.c.id.in_(found)))
            parts = [stored_inspection(row) for row in rows]
        return sorted(parts, key=lambda part: part.id, reverse=newest_first)


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    table = inspections.c
    found: list[ColumnElement[bool]] = [
        table[name] == value
        for name in ("recipe", "verdict", "decision", "serial", "lot", "source")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        found.append(table.time >= wanted.since)
    if wanted.until is not None:
        found.append(table.time < wanted.until)
    if wanted.reviewed is not None:
        found.append(table.decision.is_not(None) if wanted.reviewed else table.decision.is_(None))
    if wanted.zone is not None:
        zones = inspection_zones.c
        found.append(exists().where(zones.inspection_id == table.id, zones.zone == wanted.zone))
    if wanted.text:
        words = inspection_words.c
        found.append(words.inspection_id == table.id)
        found.append(words.words.contains(wanted.text.casefold(), autoescape=True))
    return found
