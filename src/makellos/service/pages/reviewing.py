"""The review: parts that wait for a person's word, and blind second looks at decided ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from makellos.service.pages.page import AskedNumber, Operator
from makellos.service.pages.parts import DASH, PartView, view

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
    queue = [
        hidden(each) if each.decision is not None else each
        for each in (view(page.store, stored, page.words) for stored in waiting)
    ]
    return page.render("review.html", queue=queue, **values)


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
        gauge=None,
    )
