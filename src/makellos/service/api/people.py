"""Routes of people, tokens, sessions and the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response

from makellos.service.access import Person, change_own_password, check_first, needs
from makellos.service.api.shapes import (
    Json,
    NewPerson,
    NewToken,
    PasswordChange,
    PersonChange,
    Short,
    Texts,
    errors,
)
from makellos.service.station import StationDep
from makellos.store import iso

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["people"])
Administrator = Annotated[Person, Depends(needs("administrator"))]
Named = Annotated[Short, InPath()]


def _row(person: Person) -> dict[str, Any]:
    return {
        "name": person.name,
        "role": person.role,
        "language": person.language,
        "disabled": person.disabled,
    }


@router.get("/me", response_model=Texts, responses=errors())
def me(request: Request, person: Annotated[Person, Depends(needs("viewer"))]) -> Response:
    """Return who sends the request, and the CSRF token of the session, if there is one."""
    return Json({**_row(person), "csrf": getattr(request.state, "csrf", "")})


@router.post("/me/password", response_model=Texts, responses=errors("login_throttled", "csrf"))
def change_password(
    change: PasswordChange,
    request: Request,
    station: StationDep,
    person: Annotated[Person, Depends(needs("viewer"))],
) -> Response:
    """Change one's own password. All sessions end, this one too: log in with the new password."""
    change_own_password(station, request, person, change.present, change.new)
    return Json(_row(person))


@router.get("/people", response_model=Texts, responses=errors())
def people(station: StationDep, person: Administrator) -> Response:
    """Return all people."""
    del person
    return Json({"people": [_row(each) for each in station.store.people.list()]})


@router.post("/people", status_code=201, response_model=Texts, responses=errors("csrf"))
def add_person(new: NewPerson, station: StationDep, person: Administrator) -> Response:
    """Add a person. The first one ends the use without a login and has to be administrator."""
    check_first(station, new.role)
    made = station.store.people.add(
        new.name, new.password, new.role, by=person.name, language=new.language
    )
    return Json(_row(made), 201)


@router.patch("/people/{name}", response_model=Texts, responses=errors("not_found", "csrf"))
def change_person(
    name: Named, change: PersonChange, station: StationDep, person: Administrator
) -> Response:
    """Change a person's role or password, or lock the person out."""
    keep = station.store.people
    if change.role is not None:
        keep.set_role(name, change.role, by=person.name)
    if change.password is not None:
        keep.set_password(name, change.password, by=person.name)
    if change.disabled is not None:
        keep.disable(name, by=person.name, disabled=change.disabled)
    return Json(_row(keep.get(name)))


@router.get("/tokens", response_model=Texts, responses=errors())
def tokens(station: StationDep, person: Administrator) -> Response:
    """Return all tokens, without their secrets."""
    del person
    rows = [
        {
            "name": each.name,
            "role": each.role,
            "by": each.by,
            "time": iso(each.time),
            "last_used": None if each.last_used is None else iso(each.last_used),
            "revoked": bool(each.revoked),
            "disabled": each.disabled,
        }
        for each in station.store.people.tokens()
    ]
    return Json({"tokens": rows})


@router.post("/tokens", status_code=201, response_model=Texts, responses=errors("csrf"))
def add_token(new: NewToken, station: StationDep, person: Administrator) -> Response:
    """Make a token for a machine. It is shown once; the station keeps only its hash."""
    secret = station.store.people.add_token(new.name, new.role, by=person.name)
    return Json({"name": new.name, "role": new.role, "token": secret}, 201)


@router.delete("/tokens/{name}", response_model=Texts, responses=errors("not_found", "csrf"))
def revoke_token(name: Named, station: StationDep, person: Administrator) -> Response:
    """End a token; it stays in the list."""
    station.store.people.revoke_token(name, by=person.name)
    return Json({"name": name, "revoked": True})


@router.get("/audit", response_model=Texts, responses=errors())
def audit(
    station: StationDep,
    person: Administrator,
    before: Annotated[int | None, Query(ge=1, lt=1 << 63)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Return entries of the audit log, the newest first."""
    del person
    entries = station.store.audit.entries(before=before, limit=limit)
    rows = [{**vars(each), "time": iso(each.time)} for each in entries]
    return Json({"entries": rows, "before": rows[-1]["number"] if len(rows) == limit else None})


@router.get("/audit/verify", response_model=Texts, responses=errors())
def verify_audit(station: StationDep, person: Administrator) -> Response:
    """Tell whether an entry of the audit log was changed, added or removed, and where."""
    del person
    found = station.store.audit.verify()
    return Json({**vars(found), "whole": found.whole})
