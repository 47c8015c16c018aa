"""Routes of recipes and models: what inspects, and what did before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import ValidationError

from makellos.errors import ConfigurationError, MissingRuntimeError, ModelFileError
from makellos.inspection.acceptance import Acceptance
from makellos.service.access import Person, needs
from makellos.service.api.shapes import (
    Activation,
    Budget,
    Json,
    NewVersion,
    RecipeName,
    Texts,
    errors,
)
from makellos.service.failures import Refusal
from makellos.service.recalibrating import recalibrated
from makellos.service.station import Station, StationDep
from makellos.storage import scratch_folder
from makellos.store import RecipeVersion, StoredModel, iso

__all__ = ["router", "version_row"]

router = APIRouter(prefix="/api", tags=["recipes"])
Named = Annotated[RecipeName, InPath()]
P = ParamSpec("P")
R = TypeVar("R")


def version_row(station: Station, each: RecipeVersion) -> dict[str, Any]:
    """Return a version of a recipe as plain data."""
    return {
        "name": each.name,
        "version": each.version,
        "time": iso(each.time),
        "person": each.person,
        "model_hash": each.model_hash,
        "acceptance": each.acceptance,
        "note": each.note,
        "active": each.active,
        "loaded": each.active and each.name in station.pool.names(),
        "failed": station.pool.failed.get(each.name) if each.active else None,
    }


def _model_row(each: StoredModel) -> dict[str, Any]:
    return {
        "hash": each.hash,
        "file_name": each.file_name,
        "time": iso(each.time),
        "person": each.person,
        "detector": each.detector,
        "summary": each.summary,
    }


@router.get("/recipes", response_model=Texts, responses=errors())
def recipes(station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]) -> Response:
    """Return all versions of all recipes, by name, the newest first."""
    del person
    store = station.store.recipes
    found = [each for name in store.names() for each in store.versions(name)]
    found.sort(key=lambda each: (each.name, -each.version))
    return Json({"recipes": [version_row(station, each) for each in found]})


@router.post(
    "/recipes/{name}/versions",
    status_code=201,
    response_model=Texts,
    summary="Make a new version of a recipe",
    responses=errors("not_found", "csrf"),
)
def add_version(
    name: Named,
    new: NewVersion,
    station: StationDep,
    person: Annotated[Person, Depends(needs("engineer"))],
) -> Response:
    """Put a model that the station has, and rules, under the name of a recipe, new or known."""
    model = station.store.recipes.model(new.model_hash)
    made = _checked(
        station.add_model,
        model.path,
        person=person.name,
        recipe=name,
        acceptance=new.acceptance,
        note=new.note,
        activate=new.activate,
        file_name=model.file_name,
    )
    return Json(version_row(station, made), 201)


@router.post(
    "/recipes/{name}/activate",
    response_model=Texts,
    summary="Choose the version to use, or bring one back",
    responses=errors("not_found", "csrf"),
)
def activate(
    name: Named,
    wanted: Activation,
    station: StationDep,
    person: Annotated[Person, Depends(needs("engineer"))],
) -> Response:
    """Let a version inspect from now on; parts that were accepted before have the former one."""
    _checked(station.activate, name, wanted.version, person=person.name)
    return Json(version_row(station, station.store.recipes.active(name)))


@router.post(
    "/recipes/{name}/budget",
    status_code=201,
    response_model=Texts,
    summary="Make a version with another false-alarm budget",
    responses=errors("not_found", "busy", "csrf", "disk_full"),
)
def budget(
    name: Named,
    wanted: Budget,
    station: StationDep,
    person: Annotated[Person, Depends(needs("engineer"))],
) -> Response:
    """Calibrate the active model anew, as `makellos calibrate` does; this takes some seconds."""
    made = recalibrated(
        station,
        name,
        wanted.false_alarms,
        person=person.name,
        note=wanted.note,
        activate=wanted.activate,
    )
    return Json(version_row(station, made), 201)


@router.get("/models", response_model=Texts, responses=errors())
def models(station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]) -> Response:
    """Return all models that the station keeps."""
    del person
    return Json({"models": [_model_row(each) for each in station.store.recipes.models()]})


@router.post(
    "/models",
    status_code=201,
    response_model=Texts,
    summary="Add a model file",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file", "recipe"],
                        "properties": {
                            "file": {"type": "string", "format": "binary"},
                            "recipe": {"type": "string", "minLength": 1, "maxLength": 100},
                            "note": {"type": "string", "maxLength": 2000},
                            "acceptance": {"type": "string", "description": "rules, as JSON"},
                            "activate": {"type": "string", "enum": ["true", "false"]},
                        },
                    }
                }
            },
        }
    },
    responses=errors("csrf", "too_large", "wrong_type", "disk_full"),
)
async def add_model(
    request: Request,
    station: StationDep,
    person: Annotated[Person, Depends(needs("engineer"))],
) -> Response:
    """Check a model file and make it a version of a recipe, which inspects unless told not to."""
    if not request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        raise Refusal("wrong_type", "Send the model as multipart/form-data, in the field 'file'.")
    async with request.form(max_files=1, max_fields=16) as form:
        file, fields = form.get("file"), {k: v for k, v in form.items() if isinstance(v, str)}
        if file is None or isinstance(file, str):
            raise Refusal("invalid", "No model was sent. Send one in the field 'file'.")
        name, content = file.filename or "model.makellos", await file.read()
    made = await asyncio.to_thread(_add_model, station, person, name, content, fields)
    return Json(version_row(station, made), 201)


def _add_model(
    station: Station, person: Person, name: str, content: bytes, fields: dict[str, str]
) -> RecipeVersion:
    recipe, note = fields.get("recipe", "").strip(), fields.get("note", "")
    _check_name(recipe)
    rules = fields.get("acceptance", "").strip()
    try:
        acceptance = Acceptance.model_validate(json.loads(rules)) if rules else None
    except (ValueError, RecursionError, ValidationError) as error:
        raise Refusal(
            "invalid", f"The field 'acceptance' does not hold valid rules: {error}"
        ) from None
    with scratch_folder() as folder:
        path = folder / "uploaded.makellos"
        path.write_bytes(content)
        return _checked(
            station.add_model,
            path,
            person=person.name,
            recipe=recipe,
            acceptance=acceptance,
            note=note[:2000],
            activate=fields.get("activate", "true") != "false",
            file_name=Path(name.replace("\\", "/")).name[:200] or None,
        )


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 100 or not name.isprintable() or set(name) & set("/\\"):
        raise Refusal(
            "invalid", "The field 'recipe' takes a name of 1 to 100 characters, without / and \\."
        )


def _checked(act: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Do something with a model; one that cannot be used is a mistake in the request."""
    try:
        return act(*given, **named)
    except (ModelFileError, ConfigurationError, MissingRuntimeError) as error:
        raise Refusal("invalid", str(error)) from error
