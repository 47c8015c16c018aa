"""Routes of what a station keeps, and for how long."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from makellos.service.access import Person, needs
from makellos.service.api.shapes import Json, Texts, errors
from makellos.service.station import StationDep
from makellos.store import Retention

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["retention"])
_Days = Annotated[float | None, Field(default=None, gt=0, le=100_000, examples=[90])]


class WantedRetention(BaseModel):
    """Say how long things are kept; null keeps them for ever."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    picture_days: _Days = None
    row_days: _Days = None
    picture_bytes: int | None = Field(default=None, gt=0, lt=1 << 60, examples=[200_000_000_000])


@router.get("/retention", response_model=Texts, responses=errors())
def retention(station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]) -> Response:
    """Return how long pictures and rows are kept."""
    del person
    return Json(vars(station.store.retention()))


@router.put("/retention", response_model=Texts, responses=errors("csrf"))
def set_retention(
    wanted: WantedRetention,
    station: StationDep,
    person: Annotated[Person, Depends(needs("engineer"))],
) -> Response:
    """Say how long pictures and rows are kept; carried out every hour.

    Nothing that a person decided on, marked to be kept or locked in a set is ever removed.
    """
    kept = Retention(**wanted.model_dump())
    station.store.set_retention(kept, person=person.name)
    return Json(vars(kept))
