"""Routes of what goes on: counts of the shift, drift, events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool

from makellos.service.access import Person, is_still, needs
from makellos.service.api.shapes import Json, RecipeName, Short, Texts, errors
from makellos.service.station import StationDep
from makellos.store import microseconds

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["shift"])


@router.get(
    "/counts", response_model=Texts, summary="The shift in figures", responses=errors("not_found")
)
def counts(
    station: StationDep,
    person: Annotated[Person, Depends(needs("viewer"))],
    recipe: Annotated[Short | None, Query()] = None,
    since: Annotated[AwareDatetime | None, Query()] = None,
) -> Response:
    """Return parts by verdict since the shift began, and what of its budget is spent and left.

    `allowed` is the number of good parts that the budgets of their versions let be rejected among
    those that were inspected, without the ones that a person found defective; `spent` counts
    rejected parts that a person found good, `n_open` those that nobody has decided on yet.
    """
    del person
    start = None if since is None else microseconds(since.isoformat())
    return Json(station.shift(recipe, since=start).row())


@router.get("/drift/{recipe}", response_model=Texts, responses=errors("not_found"))
def drift(
    recipe: Annotated[RecipeName, InPath()],
    station: StationDep,
    person: Annotated[Person, Depends(needs("viewer"))],
) -> Response:
    """Tell whether the parts of a recipe have left the good state, since when and why."""
    del person
    return Json(station.drift.state(station.pool.get(recipe)))


@router.post("/drift/{recipe}/reset", response_model=Texts, responses=errors("not_found", "csrf"))
def reset_drift(
    recipe: Annotated[RecipeName, InPath()],
    station: StationDep,
    person: Annotated[Person, Depends(needs("engineer"))],
) -> Response:
    """Go back to the good state of the model, once the cause of an alarm is gone."""
    loaded = station.pool.get(recipe)
    station.drift.reset(loaded)
    station.store.audit.log(person.name, "drift_reset", recipe)
    return Json(station.drift.state(loaded))


@router.get(
    "/events",
    response_class=StreamingResponse,
    summary="What happens, as it happens",
    responses={200: {"content": {"text/event-stream": {}}}, **errors()},
)
async def events(
    request: Request, station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]
) -> StreamingResponse:
    """Send an event for each part, review, drift and change of a recipe, as server-sent events.

    Who listens too slowly is let go, and may connect again. The stream ends soon after the person
    has logged out or may not see it any more.
    """

    async def may_listen() -> bool:
        return await run_in_threadpool(is_still, request, person)

    return StreamingResponse(
        station.events.listen(may_listen),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
