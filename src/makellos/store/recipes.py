"""Models, and recipes: a model with its rules under a name, in versions of which one is active."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select, true, update

from makellos.errors import InputError, suggest
from makellos.storage import storage_errors
from makellos.store.audit_log import AuditLog
from makellos.store.database import Database
from makellos.store.pictures import Files, sync_folder
from makellos.store.records import NotFoundError, check_texts
from makellos.store.tables import models, recipes
from makellos.store.times import Clock

__all__ = ["RecipeVersion", "Recipes", "StoredModel"]


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """Hold a model file that the store has: `hash` is the SHA-256 of the file at `path`."""

    hash: str
    file_name: str
    time: int
    person: str
    detector: str
    summary: dict[str, Any]
    path: Path


@dataclass(frozen=True, kw_only=True)
class RecipeVersion:
    """Hold one version of a recipe; `acceptance` are rules, None for those of the model."""

    name: str
    version: int
    time: int
    person: str
    model_hash: str
    acceptance: dict[str, Any] | None
    note: str
    active: bool


class Recipes:
    """Keep models and recipes. Nothing of them is ever changed but which version is active."""

    def __init__(self, database: Database, files: Files, audit: AuditLog, clock: Clock) -> None:
        self._database = database
        self._files = files
        self._audit = audit
        self._clock = clock

    def add_model(
        self,
        file: Path,
        *,
        person: str,
        detector: str,
        summary: Mapping[str, Any] | None = None,
        file_name: str | None = None,
    ) -> StoredModel:
        """Copy a model file into the store, unless it is there, and return what is known of it."""
        with storage_errors(f"{file} cannot be read", "Check the path."), file.open("rb") as stream:
            name = hashlib.file_digest(stream, "sha256").hexdigest()
        with self._database.reading() as connection:
            if connection.scalar(select(models.c.hash).where(models.c.hash == name)) is None:
                known = False
            else:
                known = self._files.find(name) is not None
        if known:
            return self.model(name)
        self._copy(file, name)
        values = {"hash": name, "file_name": file_name or file.name, "time": self._clock()}
        values |= {"person": person, "detector": detector, "summary": dict(summary or {})}
        said = {"file_name": values["file_name"], "detector": detector}
        with self._audit.recorded(person, "model_added", name, said) as connection:
            if connection.scalar(select(models.c.hash).where(models.c.hash == name)) is None:
                connection.execute(models.insert().values(values))
        return self.model(name)

    def models(self) -> list[StoredModel]:
        """Return all models, newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(models).order_by(models.c.time.desc())).all()
        return [self._model(row) for row in rows]

    def model(self, name: str) -> StoredModel:
        """Return the model with this hash; raises `NotFoundError`."""
        with self._database.reading() as connection:
            row = connection.execute(select(models).where(models.c.hash == name)).first()
        if row is None:
            raise NotFoundError(f"There is no model {name!r} in the store.")
        return self._model(row)

    def path(self, name: str) -> Path:
        """Return where the model with this hash lies."""
        return self._files.place(name)

    def add(
        self,
        name: str,
        model_hash: str,
        *,
        person: str,
        acceptance: Mapping[str, Any] | None = None,
        note: str = "",
        activate: bool = True,
    ) -> RecipeVersion:
        """Add the next version of a recipe; the first one is active in any case."""
        if not name.strip():
            raise InputError("A recipe needs a name.")
        check_texts(recipe=name, person=person)
        self.model(model_hash)
        said: dict[str, Any] = {"model": model_hash, "note": note}
        with self._audit.recorded(person, "recipe_added", name, said) as connection:
            newest = select(func.max(recipes.c.version)).where(recipes.c.name == name)
            version = int(connection.scalar(newest) or 0) + 1
            active = activate or version == 1
            said |= {"version": version, "active": active, "acceptance": acceptance}
            if active:
                _rest(connection, name)
            values: dict[str, Any] = {"name": name, "version": version, "person": person}
            values |= {"time": self._clock(), "model_hash": model_hash, "note": note}
            values["active"] = active
            values["acceptance"] = None if acceptance is None else dict(acceptance)
            connection.execute(recipes.insert().values(values))
        return RecipeVersion(**values)

    def versions(self, name: str) -> list[RecipeVersion]:
        """Return all versions of a recipe, newest first; raises `NotFoundError`."""
        wanted = select(recipes).where(recipes.c.name == name).order_by(recipes.c.version.desc())
        with self._database.reading() as connection:
            found = [RecipeVersion(**row._mapping) for row in connection.execute(wanted)]
        if not found:
            raise self._unknown(name)
        return found

    def names(self) -> list[str]:
        """Return the names of all recipes."""
        return [recipe.name for recipe in self.all_active()]

    def active(self, name: str) -> RecipeVersion:
        """Return the version of a recipe that is in use; raises `NotFoundError`."""
        return next(version for version in self.versions(name) if version.active)

    def all_active(self) -> list[RecipeVersion]:
        """Return the version in use of every recipe, by name."""
        wanted = select(recipes).where(recipes.c.active == true()).order_by(recipes.c.name)
        with self._database.reading() as connection:
            return [RecipeVersion(**row._mapping) for row in connection.execute(wanted)]

    def activate(self, name: str, version: int, *, person: str) -> RecipeVersion:
        """Put a version of a recipe into use, in place of the one before."""
        said: dict[str, Any] = {"version": version}
        with self._audit.recorded(person, "recipe_activated", name, said) as connection:
            one = (recipes.c.name == name, recipes.c.version == version)
            if connection.scalar(select(recipes.c.version).where(*one)) is None:
                raise NotFoundError(f"The recipe {name!r} has no version {version}.")
            in_use = select(recipes.c.version).where(
                recipes.c.name == name, recipes.c.active == true()
            )
            said["before"] = connection.scalar(in_use)
            _rest(connection, name)
            connection.execute(update(recipes).where(*one).values(active=True))
        return self.active(name)

    def _copy(self, file: Path, name: str) -> None:
        with storage_errors(f"{file} cannot be read", "Check the path."):
            source = file.open("rb")
        with source:
            if not self._files.put_stream(name, source):
                raise InputError(f"{file} was changed while it was copied. Add it again.")
        sync_folder(self._files.folder)

    def _model(self, row: Row[Any]) -> StoredModel:
        return StoredModel(path=self.path(row.hash), **row._mapping)

    def _unknown(self, name: str) -> NotFoundError:
        return NotFoundError(f"There is no recipe {name!r}. {suggest(name, self.names())}")


def _rest(connection: Connection, name: str) -> None:
    """Take every version of a recipe out of use."""
    active = update(recipes).where(recipes.c.name == name, recipes.c.active == true())
    connection.execute(active.values(active=False))
