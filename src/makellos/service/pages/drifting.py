"""The drift page: control chart, the named cause, parts before and after side by side."""

from __future__ import annotations

import math
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from makellos.service.pages.charts import control_chart
from makellos.service.pages.page import Engineer, Page, Viewer
from makellos.service.pages.parts import PartView, model_facts, view
from makellos.service.pages.rendering import back_to
from makellos.store import Filter, NotFoundError

__all__ = ["cause_word", "router"]

router = APIRouter(include_in_schema=False)
_LOOKED_BACK = 500  # parts
_PAIR = 4  # parts before and after
_MARGIN = 20  # parts between


@router.get("/drift", response_class=HTMLResponse)
def drift(page: Viewer, recipe: str = "") -> HTMLResponse:
    """Show how far the parts of a recipe are from its good state."""
    pool = page.station.pool
    names = pool.names()
    chosen = recipe if recipe in names else names[0] if names else ""
    return page.render("drift.html", recipes=names, chosen=chosen, **_values(page, chosen))


@router.post("/drift/reset")
def reset(page: Engineer, recipe: Annotated[str, Form()]) -> Response:
    """Go back to the model's good state, as after the cause of an alarm is gone."""
    page.station.drift.reset(page.station.pool.get(recipe))
    page.store.audit.log(page.name, "drift_reset", recipe)
    return back_to(f"/drift?recipe={quote(recipe)}")


def _values(page: Page, recipe: str) -> dict[str, Any]:
    if not recipe:
        return {"state": None}
    loaded = page.station.pool.get(recipe)
    state = page.station.drift.state(loaded)
    facts = model_facts(page.store, loaded.recipe.model_hash)
    found = page.store.history(Filter(recipe=recipe), before=None, limit=_LOOKED_BACK)
    parts = [
        (part.id, part.p_value, part.verdict) for part in found[::-1] if part.p_value is not None
    ]
    alarms = list(state["alarms"])
    chart = control_chart(
        parts,
        budget=loaded.false_alarms,
        again=loaded.false_alarms if facts is None else facts.look_again_limit,
        alarms=[(each["inspection"], cause_word(page, each["cause"])) for each in alarms],
    )
    latest = alarms[-1] if alarms else None
    pair: dict[str, list[PartView]] = {"before": [], "after": []}
    if latest is not None:
        pair = _pair(page, recipe, latest)
    evidence = math.log10(max(1.0, state["wealth"])) / math.log10(max(10.0, state["alarm_at"]))
    return {
        "state": state,
        "chart": chart,
        "n_parts": len(parts),
        "latest": latest,
        "cause": "" if latest is None else cause_word(page, latest["cause"]),
        "share": min(1.0, evidence),
        "pair": pair,
    }


def _pair(page: Page, recipe: str, alarm: dict[str, Any]) -> dict[str, list[PartView]]:
    """Return parts from before a change and from after it."""
    at = int(alarm["inspection"])
    n_since = max(1, int(alarm["at"]) - int(alarm["since"]))
    changed = page.store.history(Filter(recipe=recipe), before=at + 1, limit=n_since)
    first = changed[-1].id if changed else at
    # When a change began is known to some parts only: those before are taken from well before.
    earlier = page.store.history(Filter(recipe=recipe), before=first, limit=_MARGIN + _PAIR)
    before = earlier[-_PAIR:]
    try:
        after = changed[:_PAIR] or [page.store.inspection(at)]
    except NotFoundError:
        after = []
    return {
        name: [view(page.store, each, page.words) for each in parts]
        for name, parts in (("before", before), ("after", after))
    }


def cause_word(page: Page, cause: str) -> str:
    """Return the name of a cause in the reader's language."""
    _ = page.words.gettext
    known = {
        "brighter or darker": _("brighter or darker"),
        "colour cast": _("colour cast"),
        "out of focus": _("out of focus"),
        "shifted, rotated or scaled": _("shifted, rotated or scaled"),
        "noisier": _("noisier"),
        "dirt that stays in one place": _("dirt that stays in one place"),
        "the parts themselves": _("the parts themselves"),
        "sharper": _("sharper"),
        "less noisy": _("less noisy"),
    }
    return known.get(cause, cause)
