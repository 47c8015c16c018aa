"""People, tokens of machines and the audit log, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from makellos.service.access import check_first
from makellos.service.language import LANGUAGES
from makellos.service.pages.page import Administrator, AskedNumber, Page
from makellos.service.pages.rendering import back_to
from makellos.store import ROLES

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_PAGE = 100
Text = Annotated[str, Form(max_length=1024)]


@router.get("/people", response_class=HTMLResponse)
def people(page: Administrator) -> HTMLResponse:
    """Show who may do what."""
    return _people(page)


@router.post("/people")
def add_person(
    page: Administrator, name: Text, password: Text, role: Text, spoken: Text = "en"
) -> Response:
    """Add a person."""
    check_first(page.station, role)
    chosen = spoken if spoken in LANGUAGES else "en"
    page.store.people.add(name, password, role, by=page.name, language=chosen)
    return back_to("/people")


@router.post("/people/role")
def set_role(page: Administrator, name: Text, role: Text) -> Response:
    """Give a person another role."""
    page.store.people.set_role(name, role, by=page.name)
    return back_to("/people")


@router.post("/people/password")
def set_password(page: Administrator, name: Text, password: Text) -> Response:
    """Give a person a new password."""
    page.store.people.set_password(name, password, by=page.name)
    return back_to("/people")


@router.post("/people/disabled")
def set_disabled(page: Administrator, name: Text, disabled: Annotated[bool, Form()]) -> Response:
    """Close a person's account, or open it again."""
    page.store.people.disable(name, by=page.name, disabled=disabled)
    return back_to("/people")


@router.post("/people/tokens", response_class=HTMLResponse)
def add_token(page: Administrator, name: Text, role: Text) -> HTMLResponse:
    """Make a token for a machine, and show its secret this once."""
    secret = page.store.people.add_token(name, role, by=page.name)
    return _people(page, made=(name, secret))


@router.post("/people/tokens/revoke")
def revoke(page: Administrator, name: Text) -> Response:
    """Take a token back."""
    page.store.people.revoke_token(name, by=page.name)
    return back_to("/people")


@router.get("/audit", response_class=HTMLResponse)
def audit(page: Administrator, before: AskedNumber = None) -> HTMLResponse:
    """Show who changed what, and whether the record is whole."""
    entries = page.store.audit.entries(before=before, limit=_PAGE + 1)
    more = len(entries) > _PAGE
    return page.render(
        "audit.html",
        entries=entries[:_PAGE],
        older=entries[_PAGE - 1].number if more else None,
        newest=before is not None,
        check=page.store.audit.verify(),
    )


def _people(page: Page, made: tuple[str, str] | None = None) -> HTMLResponse:
    return page.render(
        "people.html",
        people=page.store.people.list(),
        tokens=page.store.people.tokens(),
        roles=ROLES,
        made=made,
        is_local=page.name == "local",
    )
