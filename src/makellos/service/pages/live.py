"""The live page: the last part, recent ones, and what the shift has spent of its budget."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from makellos.service.language import Words
from makellos.service.pages.page import AskedNumber, Page, Viewer
from makellos.service.pages.parts import view
from makellos.store import Filter, NotFoundError

__all__ = ["Budget", "budget_of", "router"]

router = APIRouter()
_RECENT = 24
_WIDTH = 320.0  # of the bar, in SVG units


@dataclass(frozen=True)
class Budget:
    """Hold the bar of the budget in SVG units, and what it says."""

    sentence: str
    spent_width: float
    open_width: float
    end: float
    over: bool
    n_open: int


@router.get("/", response_class=HTMLResponse)
def live(page: Viewer, part: AskedNumber = None) -> HTMLResponse:
    """Show the newest part, or the one that was chosen."""
    return page.render("live.html", **_values(page, part))


@router.get("/live-part", response_class=HTMLResponse)
def live_part(page: Viewer, part: AskedNumber = None) -> HTMLResponse:
    """Return what changes with each part."""
    return page.render("live_part.html", **_values(page, part))


def _values(page: Page, number: int | None) -> dict[str, Any]:
    store, spoken = page.store, page.words
    recent = store.history(Filter(), before=None, limit=_RECENT)
    shown = recent[0] if recent else None
    if number is not None:
        with suppress(NotFoundError):
            shown = store.inspection(number)
    loaded = page.station.pool.all()
    shift = page.station.shift()
    since = shift.since
    verdicts = ("ok", "look_again", "reject", "unreadable")
    counts = {name: shift.counts.get(name, 0) for name in verdicts}
    return {
        "part": None if shown is None else view(store, shown, spoken, whole=True),
        "recent": [view(store, each, spoken) for each in recent],
        "shift": {"counts": counts, "clock": spoken.clock(since)[:5]},
        "budget": budget_of(spoken, shift.allowed, shift.spent, shift.n_open) if loaded else None,
        "has_recipe": bool(loaded),
    }


def budget_of(spoken: Words, allowed: float, spent: int, n_open: int) -> Budget:
    """Return the bar of a budget: what is allowed, what is spent and what is not decided yet."""
    scale = _WIDTH / max(allowed * 1.25, float(spent + n_open), 1.0)
    text = spoken.gettext("%(spent)s of %(allowed)s false alarms spent, %(left)s left.")
    return Budget(
        sentence=text
        % {
            "spent": spoken.number(spent),
            "allowed": spoken.number(allowed, 1),
            "left": spoken.number(max(0.0, allowed - spent), 1),
        },
        spent_width=round(scale * spent, 1),
        open_width=round(scale * n_open, 1),
        end=round(min(_WIDTH - 1, scale * allowed), 1),
        over=spent > allowed,
        n_open=n_open,
    )
