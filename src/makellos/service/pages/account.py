"""Logging in and out, the language, and what is shown where a page cannot be."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from makellos.errors import InputError
from makellos.service.access import Person, begin_session, change_own_password, end_session, log_in
from makellos.service.failures import Refusal, refusal_of
from makellos.service.language import LANGUAGES
from makellos.service.messages import said
from makellos.service.pages.page import LANGUAGE_COOKIE, Page, Viewer
from makellos.service.pages.rendering import back_to
from makellos.store import LONGEST_PASSWORD

__all__ = ["error_page", "router"]

router = APIRouter(include_in_schema=False)
_YEAR = 365 * 24 * 3600


@router.get("/login", response_class=HTMLResponse)
def login(request: Request, back: Annotated[str, Query(alias="next")] = "/") -> HTMLResponse:
    """Show the form to log in."""
    return Page(request, None).render("login.html", back=back, failed="", given="")


@router.post("/login")
def log_in_here(
    request: Request,
    name: Annotated[str, Form(max_length=256)],
    password: Annotated[str, Form(max_length=1024)],
    back: Annotated[str, Form(max_length=2048)] = "/",
) -> Response:
    """Begin a session, or say why not."""
    page = Page(request, None)
    try:
        person = log_in(page.station, request, name, password)
    except Refusal as refusal:
        _ = page.words.gettext
        said = _("The name or the password is wrong.")
        if refusal.code == "login_throttled":
            text = _("Too many failed attempts. Try again in %(seconds)s seconds.")
            said = text % {"seconds": max(1, round(refusal.retry or 1))}
        answer = page.render(
            "login.html", status=refusal.status, back=back, failed=said, given=name
        )
        answer.headers.update(refusal.headers())
        return answer
    response = back_to(back)
    begin_session(page.station, request, response, person)
    return response


@router.post("/logout")
def log_out(page: Viewer) -> Response:
    """End the session."""
    response = RedirectResponse("/login", status_code=303)
    end_session(page.station, page.request, response)
    return response


@router.get("/account", response_class=HTMLResponse)
def account(page: Viewer) -> HTMLResponse:
    """Show who is logged in, and the form for another password."""
    return page.render("account.html", failed="", longest=LONGEST_PASSWORD)


@router.post("/account/password")
def change_password(
    page: Viewer,
    present: Annotated[str, Form(max_length=LONGEST_PASSWORD)],
    new: Annotated[str, Form(max_length=LONGEST_PASSWORD)],
    again: Annotated[str, Form(max_length=LONGEST_PASSWORD)],
) -> Response:
    """Change one's own password, and go on in a new session; or say why not."""
    try:
        person = _with_password(page, present, new, again)
    except (Refusal, InputError) as error:
        refusal = refusal_of(error)
        failed = said(refusal.message, page.language)
        answer = page.render(
            "account.html", status=refusal.status, failed=failed, longest=LONGEST_PASSWORD
        )
        answer.headers.update(refusal.headers())
        return answer
    response = back_to("/account?changed=1")
    begin_session(page.station, page.request, response, person)
    return response


def _with_password(page: Page, present: str, new: str, again: str) -> Person:
    """Return the reader, with the new password."""
    if page.person is None:
        raise Refusal("not_logged_in", "Log in, or send an API token as a bearer token.")
    if new != again:
        raise Refusal("invalid", "The new password and its repetition differ. Type both again.")
    change_own_password(page.station, page.request, page.person, present, new)
    return page.person


@router.post("/language")
def choose_language(
    request: Request,
    language: Annotated[str, Form(max_length=16)],
    back: Annotated[str, Form(max_length=2048)] = "/",
) -> Response:
    """Remember a language in the browser."""
    response = back_to(back)
    if language in LANGUAGES:
        secure = request.url.scheme == "https"
        response.set_cookie(
            LANGUAGE_COOKIE, language, max_age=_YEAR, samesite="lax", httponly=True, secure=secure
        )
    return response


@router.post("/said", response_class=PlainTextResponse)
def say(page: Viewer, text: Annotated[str, Form(max_length=2000)]) -> PlainTextResponse:
    """Return a message of the API in the reader's language, for scripts of pages."""
    return PlainTextResponse(said(text, page.language), headers={"Cache-Control": "no-store"})


def error_page(request: Request, refusal: Refusal) -> Response:
    """Answer for people what cannot be shown: the login, or a page that says why."""
    page = Page(request, getattr(request.state, "person", None))
    _ = page.words.gettext
    titles = {
        "forbidden": _("Your role does not allow this"),
        "not_found": _("There is no such page or part"),
        "csrf": _("The page was out of date"),
        "disk_full": _("The disk is full"),
    }
    template = "refused.html" if page.is_fragment else "error.html"
    answer = page.render(
        template,
        status=refusal.status,
        heading=titles.get(refusal.code, _("This could not be done")),
        said=said(refusal.message, page.language),
    )
    answer.headers.update(refusal.headers())
    return answer
