"""The loop on a page: candidates from decisions, what they would change, release."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from makellos.errors import InputError
from makellos.service.candidates import CandidateMaker, Wanted
from makellos.service.pages.page import Engineer, Page, Viewer
from makellos.service.pages.parts import view
from makellos.service.pages.rendering import back_to
from makellos.store import Candidate, Filter, NotFoundError

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_DAY = 86_400_000_000  # µs
_PAGE = 500
_MOST_LOCKED = 10_000
_SHOWN = 60  # parts that flip
_VERDICTS = ("ok", "look_again", "reject", "unreadable")


@router.get("/models/{name}/candidates", response_class=HTMLResponse)
def candidates(page: Viewer, name: str) -> HTMLResponse:
    """Show the candidates of a recipe and the locked sets that judge them."""
    active = page.store.recipes.active(name)
    return page.render(
        "candidates.html",
        name=name,
        active=active,
        candidates=page.store.candidates.all(name),
        sets=page.store.regression_sets.all(name),
        n_decided=len(_decided(page, name, limit=_PAGE)),
        most=_PAGE,
    )


@router.post("/models/{name}/candidates")
def begin(
    page: Engineer,
    name: str,
    how: Annotated[str, Form()] = "calibrate",
    days: Annotated[float, Form(gt=0, le=3650)] = 7.0,
) -> Response:
    """Begin to calibrate or to learn anew from the parts of the last days."""
    since = page.station.clock() - int(days * _DAY)
    made = _maker(page).start(name, Wanted(how=how, since=since), person=page.name)
    return back_to(_address(made))


@router.post("/models/{name}/sets")
def lock(page: Engineer, name: str, title: Annotated[str, Form(max_length=100)]) -> Response:
    """Lock the decided parts of a recipe as a set on which every candidate is judged."""
    page.store.recipes.active(name)
    parts = [part.id for part in _decided(page, name, limit=_MOST_LOCKED)]
    if not parts:
        raise InputError("Nobody has decided on a part of this recipe yet. Review some first.")
    page.store.regression_sets.lock(title.strip(), name, parts, person=page.name)
    return back_to(f"/models/{quote(name)}/candidates")


@router.get("/models/{name}/candidates/{number}", response_class=HTMLResponse)
def candidate(page: Viewer, name: str, number: int) -> HTMLResponse:
    """Show what a candidate learned from, how it compares, and the parts that flip."""
    found = _found(page, name, number)
    active = page.store.recipes.active(name)
    changes = page.store.candidates.changes(number)
    comparison = found.details.get("comparison")
    values: dict[str, Any] = {
        "name": name,
        "candidate": found,
        "active": active,
        "comparison": comparison,
        "verdicts": _VERDICTS,
        "is_current": comparison is not None and comparison.get("version") == active.version,
        "n_flips": len(changes),
        "flips": [
            (view(page.store, page.store.inspection(each.inspection_id), page.words), each)
            for each in changes[:_SHOWN]
        ],
    }
    return page.render("candidate.html", **values)


@router.get("/models/{name}/candidates/{number}/state", response_class=HTMLResponse)
def state(page: Viewer, name: str, number: int) -> Response:
    """Return what a candidate is at; htmx loads the page anew when it is made."""
    found = _found(page, name, number)
    if found.state != "working":
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return page.render("candidate_state.html", candidate=found, name=name)


@router.post("/models/{name}/candidates/{number}/{act}")
def settle(page: Engineer, name: str, number: int, act: str) -> Response:
    """Release a candidate, set it aside, or compare it again."""
    found, maker = _found(page, name, number), _maker(page)
    if act == "release":
        maker.release(number, person=page.name)
        return back_to(f"/models/{quote(name)}")
    if act == "withdraw":
        maker.withdraw(number, person=page.name)
    elif act == "compare":
        maker.compare_again(number)
    else:
        raise NotFoundError(f"A candidate cannot be asked to {act!r}.")
    return back_to(_address(found))


def _maker(page: Page) -> CandidateMaker:
    maker: CandidateMaker = page.request.app.state.candidates
    return maker


def _address(found: Candidate) -> str:
    return f"/models/{quote(found.recipe)}/candidates/{found.number}"


def _found(page: Page, name: str, number: int) -> Candidate:
    found: Candidate = page.store.candidates.get(number)
    if found.recipe != name:
        raise NotFoundError(f"Recipe {name!r} has no candidate {number}.")
    return found


def _decided(page: Page, name: str, *, limit: int) -> list[Any]:
    """Return parts of a recipe with a decision and a picture, the newest first."""
    found: list[Any] = []
    before = None
    while len(found) < limit:
        wanted = Filter(recipe=name, reviewed=True)
        some = page.store.history(wanted, before=before, limit=_PAGE)
        found += [part for part in some if page.store.picture(part.picture) is not None]
        if len(some) < _PAGE:
            break
        before = some[-1].id
    return found[:limit]
