"""Regression sets: decided parts that are locked, so that every candidate is judged on the same."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from makellos.errors import InputError, suggest
from makellos.store.audit_log import AuditLog
from makellos.store.database import Database
from makellos.store.pictures import digest
from makellos.store.records import NotFoundError, check_texts
from makellos.store.tables import as_json, inspections, regression_parts, regression_sets
from makellos.store.times import Clock, iso

__all__ = ["RegressionPart", "RegressionSet", "RegressionSets"]

_SHOWN = 5
_AT_ONCE = 500  # numbers in one question


@dataclass(frozen=True, kw_only=True)
class RegressionSet:
    """Hold a locked set of a recipe's parts; `hash` is that of its pictures and decisions."""

    name: str
    recipe: str
    time: int
    person: str
    hash: str
    n_good: int
    n_defective: int

    def row(self) -> dict[str, Any]:
        """Return it as plain data, its time as text."""
        return {**vars(self), "time": iso(self.time)}


@dataclass(frozen=True, kw_only=True)
class RegressionPart:
    """Hold a part of a locked set: its picture's hash, and what was decided when it was locked."""

    inspection_id: int
    picture: str
    decision: str


class RegressionSets:
    """Keep locked sets. One that is locked is never changed, and its pictures are kept."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._database, self._audit, self._clock = database, audit, clock

    def lock(
        self, name: str, recipe: str, numbers: Collection[int], *, person: str
    ) -> RegressionSet:
        """Lock decided parts of a recipe under a name, with the decisions that stand now.

        Raises `InputError` where the name is taken or a part is of another recipe, undecided or
        without its picture, or there is none.
        """
        if not name.strip() or not numbers:
            raise InputError("A regression set needs a name and at least one decided part.")
        check_texts(name=name, recipe=recipe, person=person)
        parts = self._parts_of(recipe, numbers)
        content = as_json(sorted([part.picture, part.decision] for part in parts))
        n_good = sum(part.decision == "good" for part in parts)
        values: dict[str, Any] = {
            "name": name,
            "recipe": recipe,
            "time": self._clock(),
            "person": person,
        }
        values |= {"hash": digest(content.encode()), "n_good": n_good}
        values |= {"n_defective": len(parts) - n_good}
        said = {"recipe": recipe, "hash": values["hash"], "n_parts": len(parts)}
        with self._audit.recorded(person, "regression_set_locked", name, said) as connection:
            taken = select(regression_sets.c.name).where(regression_sets.c.name == name)
            if connection.scalar(taken) is not None:
                raise InputError(
                    f"There is already a regression set {name!r}. Choose another name."
                )
            connection.execute(regression_sets.insert().values(values))
            rows = [{"set_name": name, **vars(part)} for part in parts]
            connection.execute(regression_parts.insert(), rows)
            for some in _some([part.inspection_id for part in parts]):
                keep = update(inspections).where(inspections.c.id.in_(some)).values(kept=True)
                connection.execute(keep)
        return RegressionSet(**values)

    def all(self, recipe: str | None = None) -> list[RegressionSet]:
        """Return locked sets, newest first."""
        wanted = select(regression_sets).order_by(regression_sets.c.time.desc())
        if recipe is not None:
            wanted = wanted.where(regression_sets.c.recipe == recipe)
        with self._database.reading() as connection:
            return [RegressionSet(**row._mapping) for row in connection.execute(wanted)]

    def get(self, name: str) -> RegressionSet:
        """Return a locked set; raises `NotFoundError`."""
        found = {each.name: each for each in self.all()}
        if name not in found:
            raise NotFoundError(f"There is no regression set {name!r}. {suggest(name, found)}")
        return found[name]

    def parts(self, name: str) -> list[RegressionPart]:
        """Return the parts of a locked set, by number."""
        part = regression_parts
        wanted = (
            select(part.c.inspection_id, part.c.picture, part.c.decision)
            .where(part.c.set_name == name)
            .order_by(part.c.inspection_id)
        )
        with self._database.reading() as connection:
            return [RegressionPart(**row._mapping) for row in connection.execute(wanted)]

    def _parts_of(self, recipe: str, numbers: Collection[int]) -> list[RegressionPart]:
        wanted = sorted(set(numbers))
        table = inspections.c
        found: dict[int, Any] = {}
        with self._database.reading() as connection:
            for some in _some(wanted):
                columns = (table.id, table.recipe, table.picture, table.decision)
                rows = connection.execute(select(*columns).where(table.id.in_(some)))
                found.update((row.id, row) for row in rows)
        problems = []
        for number in wanted:
            row = found.get(number)
            if row is None or row.recipe != recipe:
                problems.append(f"{number} is not a part of {recipe}")
            elif row.decision is None:
                problems.append(f"{number} has no decision")
            elif row.picture is None:
                problems.append(f"the picture of {number} is gone")
        if problems:
            more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise InputError(
                f"These parts cannot be locked: {'; '.join(problems[:_SHOWN])}{more}. Review them "
                "first, or leave them out."
            )
        return [
            RegressionPart(
                inspection_id=number, picture=found[number].picture, decision=found[number].decision
            )
            for number in wanted
        ]


def _some(numbers: list[int]) -> list[list[int]]:
    return [numbers[start : start + _AT_ONCE] for start in range(0, len(numbers), _AT_ONCE)]
