"""The review: parts that wait for a person's word, and blind second looks at decided ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse

from makellos.service.agreement import agreements
from makellos.service.pages.history import parse_boxes
from makellos.service.pages.page import AskedNumber, Engineer, Number, Operator
from makellos.service.pages.parts import DASH, PartView, view
from makellos.service.pages.rendering import back_to

__all__ = ["hidden", "router"]

router = APIRouter(include_in_schema=False)
_SHOWN = 20


@router.get("/review", response_class=HTMLResponse)
def review(page: Operator, part: AskedNumber = None) -> HTMLResponse:
    """Show the part that waits longest for a decision, or the one that was chosen of those."""
    waiting = page.store.to_review(page.name, limit=_SHOWN)
    chosen = next((each for each in waiting if each.id == part), waiting[0] if waiting else None)
    values: dict[str, Any] = {"part": None, "blind": False, "later": None}
    if chosen is not None:
        blind = chosen.decision is not None
        shown = view(page.store, chosen, page.words, whole=True)
        place = waiting.index(chosen)
        later = waiting[(place + 1) % len(waiting)].id if len(waiting) > 1 else None
        values = {"part": hidden(shown) if blind else shown, "blind": blind, "later": later}
    # All alike: among parts that show their verdicts, those for a second look would stand out.
    queue = [hidden(view(page.store, stored, page.words)) for stored in waiting]
    return page.render("review.html", queue=queue, **values)


@router.get("/agreement", response_class=HTMLResponse)
def agreement(page: Engineer, recipe: str = "") -> HTMLResponse:
    """Show how people agree with each other and with the model on parts that several judged."""
    names = page.store.recipes.names()
    chosen = recipe if recipe in names else names[0] if names else ""
    found = agreements(page.store, chosen)
    return page.render(
        "agreement.html", recipes=names, chosen=chosen, study=found.study, n_once=found.n_once
    )


@router.post("/review/{number}/decision")
def decide(
    page: Operator,
    number: Number,
    decision: Annotated[str, Form()],
    note: Annotated[str, Form(max_length=2000)] = "",
    boxes: Annotated[str, Form(max_length=20_000)] = "",
) -> RedirectResponse:
    """Keep a decision made by the picture alone; it overrules nobody, and is made once."""
    is_decided = page.store.inspection(number).decision is not None
    if is_decided and any(each.person == page.name for each in page.store.reviews(number)):
        return back_to("/review")  # it was sent twice
    page.store.review(
        number,
        person=page.name,
        decision=decision,
        boxes=parse_boxes(boxes),
        note=note.strip(),
        blind=True,
    )
    page.station.events.publish("review", {"id": number})
    return back_to("/review")


def hidden(part: PartView) -> PartView:
    """Return a part without what would tell how it was judged, for a blind second look."""
    return replace(
        part,
        verdict="unreadable",
        decision=None,
        score_text=DASH,
        p_text=DASH,
        regions=(),
        zones=(),
        notes=(),
        finding=None,
        has_map=False,
        has_chart=False,  # it tells the verdict
        gauge=None,
    )
