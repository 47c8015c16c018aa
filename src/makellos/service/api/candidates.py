"""Routes of the loop: candidates from decisions, and the sets that judge them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from makellos.service.access import Person, needs
from makellos.service.api.shapes import Json, Number, RecipeName, Texts, errors
from makellos.service.candidates import CandidateMaker, Wanted
from makellos.service.station import StationDep
from makellos.store import Candidate, Change, microseconds

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["candidates"])
Viewer = Annotated[Person, Depends(needs("viewer"))]
Engineer = Annotated[Person, Depends(needs("engineer"))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NewCandidate(_Strict):
    """Say how a candidate is made; by default from the parts of the last seven days."""

    how: Literal["calibrate", "fit"] = "calibrate"
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    false_alarms: float | None = Field(default=None, gt=0, lt=1, examples=[0.01])
    detector: str | None = Field(default=None, max_length=100)


class NewRegressionSet(_Strict):
    """Name decided parts that are locked as a set."""

    name: str = Field(min_length=1, max_length=100, examples=["May"])
    recipe: RecipeName
    parts: list[Annotated[int, Field(ge=1, lt=1 << 63)]] = Field(min_length=1, max_length=10_000)


def _maker(request: Request) -> CandidateMaker:
    maker = request.app.state.candidates
    if not isinstance(maker, CandidateMaker):
        raise TypeError("the app has no maker of candidates")
    return maker


Maker = Annotated[CandidateMaker, Depends(_maker)]


@router.post(
    "/recipes/{name}/candidates",
    status_code=202,
    response_model=Texts,
    summary="Create a candidate from decisions",
    responses=errors("not_found", "csrf"),
)
def begin(name: RecipeName, new: NewCandidate, maker: Maker, person: Engineer) -> Response:
    """Begin to calibrate or fit anew; it is compared before anyone can release it."""
    wanted = Wanted(
        how=new.how,
        since=None if new.since is None else microseconds(new.since.isoformat()),
        until=None if new.until is None else microseconds(new.until.isoformat()),
        false_alarms=new.false_alarms,
        detector=new.detector,
    )
    return Json(maker.start(name, wanted, person=person.name).row(), 202)


@router.get("/candidates", response_model=Texts, responses=errors())
def candidates(station: StationDep, person: Viewer, recipe: str | None = None) -> Response:
    """Return candidates, newest first."""
    del person
    found = station.store.candidates.all(recipe)
    return Json({"candidates": [each.row() for each in found]})


@router.get("/candidates/{number}", response_model=Texts, responses=errors("not_found"))
def candidate(number: Number, station: StationDep, person: Viewer) -> Response:
    """Return a candidate and the parts that it judges otherwise than the version in use."""
    del person
    found = station.store.candidates.get(number)
    changes = station.store.candidates.changes(number)
    return Json({**found.row(), "changes": [_change(each) for each in changes]})


@router.post(
    "/candidates/{number}/compare",
    status_code=202,
    response_model=Texts,
    summary="Compare a candidate again",
    responses=errors("not_found", "csrf"),
)
def compare(number: Number, maker: Maker, person: Engineer) -> Response:
    """Compare with the version in use and the locked sets that there are now."""
    del person
    return Json(maker.compare_again(number).row(), 202)


@router.post(
    "/candidates/{number}/release",
    response_model=Texts,
    summary="Use a candidate from now on",
    responses=errors("not_found", "csrf"),
)
def release(number: Number, maker: Maker, station: StationDep, person: Engineer) -> Response:
    """Make a compared candidate the version in use; the one before can be brought back."""
    made = maker.release(number, person=person.name)
    return Json(_ended(station.store.candidates.get(number), version=made.version))


@router.post(
    "/candidates/{number}/withdraw",
    response_model=Texts,
    summary="Discard a candidate",
    responses=errors("not_found", "csrf"),
)
def withdraw(number: Number, maker: Maker, person: Engineer) -> Response:
    """Discard a ready candidate."""
    return Json(_ended(maker.withdraw(number, person=person.name)))


@router.get("/regression-sets", response_model=Texts, responses=errors())
def regression_sets(station: StationDep, person: Viewer, recipe: str | None = None) -> Response:
    """Return the locked sets, newest first."""
    del person
    found = station.store.regression_sets.all(recipe)
    return Json({"regression_sets": [each.row() for each in found]})


@router.post(
    "/regression-sets",
    status_code=201,
    response_model=Texts,
    summary="Lock decided parts as a set",
    responses=errors("csrf"),
)
def lock(new: NewRegressionSet, station: StationDep, person: Engineer) -> Response:
    """Lock parts with the decisions that stand now; every candidate is judged on them."""
    locked = station.store.regression_sets.lock(new.name, new.recipe, new.parts, person=person.name)
    return Json(locked.row(), 201)


def _ended(found: Candidate, **more: int) -> dict[str, Any]:
    return {**found.row(), **more}


def _change(each: Change) -> dict[str, Any]:
    return dict(vars(each))
