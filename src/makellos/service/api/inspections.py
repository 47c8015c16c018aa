"""Routes of parts: inspect, look up, show, judge."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import AwareDatetime

from makellos.service.access import Person, needs
from makellos.service.api.shapes import (
    Decision,
    InspectionRow,
    Inspections,
    Json,
    Kept,
    NewReview,
    Number,
    Short,
    Texts,
    errors,
)
from makellos.service.failures import Refusal, refusal_of
from makellos.service.queue import NewPart
from makellos.service.sights import drawn, map_png, media_type, overlay_png
from makellos.service.station import StationDep, row_of
from makellos.service.uploads import Upload, check_uploads, read_uploads
from makellos.store import Box, Filter, StoredInspection, iso, microseconds

__all__ = ["router"]

router = APIRouter(prefix="/api/inspections", tags=["inspections"])
_LONGEST = 256
_KNOWN = frozenset({"recipe", "serial", "lot", "csrf"})
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        },
                        "recipe": {"type": "string"},
                        "serial": {"type": "string", "maxLength": _LONGEST},
                        "lot": {"type": "string", "maxLength": _LONGEST},
                    },
                    "additionalProperties": {"type": "string"},
                },
                "example": {"files": ["screw.png"], "serial": "A-1041", "lot": "17"},
            }
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=Inspections,
    summary="Inspect one or several pictures or recordings",
    openapi_extra=_FORM,
    responses=errors(
        *("unreadable", "recipe_needed", "no_recipe", "key_reused", "too_large", "wrong_type"),
        *("queue_full", "disk_full", "csrf", "not_found"),
    ),
)
async def inspect(
    request: Request,
    station: StationDep,
    person: Annotated[Person, Depends(needs("operator"))],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Response:
    """Give a verdict for each file, which is stored before the answer leaves.

    The same `Idempotency-Key` sent again gives the answer of the first time, and stores nothing.
    Form fields beside `recipe`, `serial` and `lot` are kept with the part. Among several files one
    that cannot be read has the verdict `unreadable`; a single one is refused with that code.
    """
    del person
    uploads, fields = await read_uploads(request, station.settings)
    loaded = station.pool.get(fields.get("recipe") or None)
    await check_uploads(uploads, loaded, station.settings)
    parts = _parts(uploads, fields, request, idempotency_key)
    answers = await asyncio.to_thread(station.inspect, loaded.recipe.name, parts)
    stored = await _all([asyncio.wrap_future(answer) for answer in answers])
    _check_same(parts, stored)
    if len(stored) == 1 and stored[0].verdict == "unreadable":
        row = row_of(stored[0])
        raise Refusal("unreadable", str(row["error"]), details=row)
    return Json({"inspections": [row_of(each) for each in stored], "before": None}, 201)


def _parts(
    uploads: list[Upload], fields: dict[str, str], request: Request, key: str | None
) -> list[NewPart]:
    for name in ("serial", "lot"):
        if len(fields.get(name, "")) > _LONGEST:
            raise Refusal("invalid", f"The field {name} has more than {_LONGEST} characters.")
    is_page = "text/html" in request.headers.get("Accept", "") or "HX-Request" in request.headers
    return [
        NewPart(
            name=upload.name,
            content=upload.content,
            serial=fields.get("serial") or None,
            lot=fields.get("lot") or None,
            source="page" if is_page else "api",
            fields={name: value for name, value in fields.items() if name not in _KNOWN},
            key=None if key is None else f"api:{key}:{number}",
        )
        for number, upload in enumerate(uploads)
    ]


async def _all(answers: list[asyncio.Future[StoredInspection]]) -> list[StoredInspection]:
    """Return all answers; raise the first error once none is waited for any more."""
    found = await asyncio.gather(*answers, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise refusal_of(each) from each
    return [each for each in found if not isinstance(each, BaseException)]


def _check_same(parts: list[NewPart], stored: list[StoredInspection]) -> None:
    """Refuse a key that stands for another file: its sender would take over a foreign verdict."""
    for part, each in zip(parts, stored, strict=True):
        if part.key is not None and each.picture not in {None, part.sha256}:
            raise Refusal(
                "key_reused",
                f"This idempotency key belongs to inspection {each.id}, of another file. Send a "
                "new key with each part.",
                details={"id": each.id},
            )


class Wanted:
    """The filters of the history, as parameters of a request."""

    def __init__(
        self,
        recipe: Annotated[Short | None, Query()] = None,
        verdict: Annotated[str | None, Query(pattern="^(ok|look_again|reject|unreadable)$")] = None,
        decision: Annotated[Decision | None, Query()] = None,
        serial: Annotated[Short | None, Query()] = None,
        lot: Annotated[Short | None, Query()] = None,
        zone: Annotated[Short | None, Query()] = None,
        source: Annotated[Short | None, Query()] = None,
        since: Annotated[AwareDatetime | None, Query()] = None,
        until: Annotated[AwareDatetime | None, Query()] = None,
        text: Annotated[Short | None, Query()] = None,
        reviewed: Annotated[bool | None, Query()] = None,
    ) -> None:
        self.filter = Filter(
            recipe=recipe,
            verdict=verdict,
            decision=decision,
            serial=serial,
            lot=lot,
            zone=zone,
            source=source,
            since=None if since is None else microseconds(since.isoformat()),
            until=None if until is None else microseconds(until.isoformat()),
            text=text,
            reviewed=reviewed,
        )


@router.get("", response_model=Inspections, summary="Look through the history", responses=errors())
def history(
    station: StationDep,
    person: Annotated[Person, Depends(needs("viewer"))],
    wanted: Annotated[Wanted, Depends()],
    before: Annotated[int | None, Query(ge=1, lt=1 << 63)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return parts, the newest first; `before` is the one of the answer before, for the next page.

    `text` is looked for in the file's name, the serial number and the lot.
    """
    del person
    found = station.store.history(wanted.filter, before=before, limit=limit)
    more = found[-1].id if len(found) == limit else None
    return Json({"inspections": [row_of(each) for each in found], "before": more})


@router.get(
    "/{number}", response_model=InspectionRow, summary="One part", responses=errors("not_found")
)
def one(
    number: Number, station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]
) -> Response:
    """Return a part as it was answered, with what was decided since."""
    del person
    return Json(row_of(station.store.inspection(number)))


@router.get(
    "/{number}/picture",
    response_class=FileResponse,
    summary="The file that was inspected",
    responses=errors("not_found"),
)
def picture(
    number: Number, station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]
) -> Response:
    """Return the very bytes that were sent."""
    del person
    stored = station.store.inspection(number)
    path = None if stored.picture is None else station.store.picture(stored.picture)
    if path is None:
        raise Refusal("not_found", f"The picture of inspection {number} is no longer kept.")
    name = PurePosixPath(stored.input.encode("utf-8", "replace").decode()).name  # a header's text
    return FileResponse(
        path,
        media_type=media_type(path),
        filename=f"{number}-{name[-150:]}",
        content_disposition_type="attachment",
    )


@router.get(
    "/{number}/map.png",
    response_class=Response,
    summary="The heat map",
    responses={200: {"content": {"image/png": {}}}, **errors("not_found")},
)
async def heat_map(
    number: Number, station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]
) -> Response:
    """Return the anomaly map as a picture of 16 bit: 32768 is the threshold of regions."""
    del person
    encoded = await drawn(lambda: map_png(station, station.store.inspection(number)))
    return Response(encoded, media_type="image/png")


@router.get(
    "/{number}/overlay.png",
    response_class=Response,
    summary="The part with its heat map and outlines",
    responses={200: {"content": {"image/png": {}}}, **errors("not_found")},
)
async def overlay(
    number: Number, station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]
) -> Response:
    """Return the picture as `makellos inspect --overlays` draws it."""
    del person
    encoded = await drawn(lambda: overlay_png(station, station.store.inspection(number)))
    return Response(encoded, media_type="image/png")


@router.get("/{number}/reviews", response_model=Texts, responses=errors("not_found"))
def reviews(
    number: Number, station: StationDep, person: Annotated[Person, Depends(needs("viewer"))]
) -> Response:
    """Return the decisions on a part, the oldest first."""
    del person
    station.store.inspection(number)
    rows: list[dict[str, Any]] = []
    for each in station.store.reviews(number):
        boxes = [vars(box) for box in each.boxes]
        rows.append({**vars(each), "time": iso(each.time), "boxes": boxes})
    return Json({"reviews": rows})


@router.post(
    "/{number}/reviews",
    status_code=201,
    response_model=InspectionRow,
    summary="Confirm or overrule a verdict",
    responses=errors("not_found", "csrf"),
)
def review(
    number: Number,
    said: NewReview,
    station: StationDep,
    person: Annotated[Person, Depends(needs("operator"))],
) -> Response:
    """Keep a person's decision on a part; a later one overrules, a blind one does not.

    Blind is one made without having seen the decision that stands. On a part without any, or on
    which this person has decided before, it counts as any other.
    """
    station.store.inspection(number)
    station.store.review(
        number,
        person=person.name,
        decision=said.decision,
        boxes=tuple(Box(b.x, b.y, b.width, b.height) for b in said.boxes),
        note=said.note,
        blind=said.blind,
    )
    row = row_of(station.store.inspection(number))
    station.events.publish("review", row)
    return Json(row, 201)


@router.put("/{number}/kept", response_model=InspectionRow, responses=errors("not_found", "csrf"))
def keep(
    number: Number,
    wish: Kept,
    station: StationDep,
    person: Annotated[Person, Depends(needs("operator"))],
) -> Response:
    """Keep a part from being deleted with age, or no longer."""
    station.store.keep(number, person=person.name, kept=wish.kept)
    return Json(row_of(station.store.inspection(number)))
