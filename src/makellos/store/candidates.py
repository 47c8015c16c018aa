"""Candidates: models that may take the place of the one in use, and what they would change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update

from makellos.store.audit_log import AuditLog
from makellos.store.database import Database
from makellos.store.records import NotFoundError, check_texts
from makellos.store.tables import candidate_changes, candidates, learned_parts
from makellos.store.times import Clock, iso

__all__ = ["STATES", "Candidate", "Candidates", "Change"]

# A candidate is made (working) and compared until it is ready; then it is released or withdrawn.
STATES = ("working", "ready", "failed", "released", "withdrawn")
OF_REGRESSION, OF_REPLAY = "regression", "replay"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Hold a candidate of a recipe: `how` it is made from the version `base_version`.

    `how` is ``calibrate`` or ``fit``. `details` say what it learned from and how it compares,
    `message` what it is at, or why it failed. `model_hash` is None until there is a model.
    """

    number: int
    recipe: str
    time: int
    person: str
    how: str
    base_version: int
    state: str
    model_hash: str | None
    message: str
    details: dict[str, Any]

    def row(self) -> dict[str, Any]:
        """Return it as plain data, its time as text."""
        return {**vars(self), "time": iso(self.time)}


@dataclass(frozen=True, kw_only=True)
class Change:
    """Hold a part that a candidate judges otherwise than the version in use.

    `of` is ``regression`` for a part of a regression set, ``replay`` for one of the last shift.
    """

    inspection_id: int
    of: str
    before: str
    after: str
    score_before: float | None
    score_after: float | None


class Candidates:
    """Keep candidates. What becomes of one is entered in the audit log."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._database, self._audit, self._clock = database, audit, clock

    def begin(
        self,
        recipe: str,
        how: str,
        *,
        person: str,
        base_version: int,
        details: Mapping[str, Any],
    ) -> Candidate:
        """Enter a candidate that is being made, and return it."""
        check_texts(recipe=recipe, person=person)
        values: dict[str, Any] = {"recipe": recipe, "time": self._clock(), "person": person}
        values["how"] = how
        values |= {"base_version": base_version, "state": "working", "model_hash": None}
        values |= {"message": "", "details": dict(details)}
        said: dict[str, Any] = {"how": how, **details}
        with self._audit.recorded(person, "candidate_begun", recipe, said) as connection:
            made = connection.execute(candidates.insert().values(values))
            number = said["candidate"] = int((made.inserted_primary_key or (0,))[0])
        return self.get(number)

    def get(self, number: int) -> Candidate:
        """Return a candidate; raises `NotFoundError`."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(candidates).where(candidates.c.number == number)
            ).first()
        if row is None:
            raise NotFoundError(f"There is no candidate {number}.")
        return Candidate(**row._mapping)

    def all(self, recipe: str | None = None, *, limit: int = 50) -> list[Candidate]:
        """Return candidates, newest first."""
        wanted = select(candidates).order_by(candidates.c.number.desc()).limit(limit)
        if recipe is not None:
            wanted = wanted.where(candidates.c.recipe == recipe)
        with self._database.reading() as connection:
            return [Candidate(**row._mapping) for row in connection.execute(wanted)]

    def tell(self, number: int, message: str) -> None:
        """Say what a candidate is at."""
        self._change(number, message=message)

    def made(self, number: int, model_hash: str | None, learned: Mapping[int, str]) -> None:
        """Note which model came of a candidate, and which parts it `learned` from.

        These are the numbers of parts with the hashes of their pictures.
        """
        rows = [
            {"candidate": number, "inspection_id": part, "picture": picture}
            for part, picture in learned.items()
        ]
        with self._database.writing() as connection:
            one = candidates.c.number == number
            connection.execute(update(candidates).where(one).values(model_hash=model_hash))
            if rows:
                connection.execute(learned_parts.insert(), rows)

    def learned(self, number: int) -> dict[int, str]:
        """Return the parts that a candidate learned from, with the hashes of their pictures."""
        table = learned_parts.c
        wanted = select(table.inspection_id, table.picture).where(table.candidate == number)
        with self._database.reading() as connection:
            return {row.inspection_id: row.picture for row in connection.execute(wanted)}

    def fitted_on(self, recipe: str) -> set[str]:
        """Return the hashes of all pictures that a fit of this recipe learned from."""
        wanted = (
            select(learned_parts.c.picture)
            .join(candidates, candidates.c.number == learned_parts.c.candidate)
            .where(candidates.c.recipe == recipe, candidates.c.how == "fit")
        )
        with self._database.reading() as connection:
            return set(connection.scalars(wanted))

    def compared(
        self, number: int, changes: Iterable[Change], comparison: Mapping[str, Any]
    ) -> Candidate:
        """Note how a candidate compares, in place of what was noted before; it is ready then."""
        found = self.get(number)
        rows = [{"candidate": number, **vars(change)} for change in changes]
        with self._database.writing() as connection:
            one = candidate_changes.c.candidate == number
            connection.execute(delete(candidate_changes).where(one))
            if rows:
                connection.execute(candidate_changes.insert(), rows)
            values: dict[str, Any] = {"state": "ready", "message": ""}
            values["details"] = {**found.details, "comparison": dict(comparison)}
            connection.execute(
                update(candidates).where(candidates.c.number == number).values(values)
            )
        return self.get(number)

    def end(self, number: int, state: str, *, person: str, message: str = "") -> Candidate:
        """Note what became of a candidate: ``failed``, ``released`` or ``withdrawn``."""
        found = self.get(number)
        said: dict[str, Any] = {"candidate": number, "model": found.model_hash, "message": message}
        with self._audit.recorded(person, f"candidate_{state}", found.recipe, said) as connection:
            one = candidates.c.number == number
            connection.execute(update(candidates).where(one).values(state=state, message=message))
        return self.get(number)

    def changes(self, number: int, of: str | None = None) -> list[Change]:
        """Return the parts that a candidate judges otherwise, those of sets first, newest first."""
        wanted = (
            select(candidate_changes)
            .where(candidate_changes.c.candidate == number)
            .order_by(candidate_changes.c.of, candidate_changes.c.inspection_id.desc())
        )
        if of is not None:
            wanted = wanted.where(candidate_changes.c.of == of)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        names = Change.__dataclass_fields__
        return [Change(**{name: row._mapping[name] for name in names}) for row in rows]

    def _change(self, number: int, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(candidates).where(candidates.c.number == number).values(values)
            )
