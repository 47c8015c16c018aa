"""The history: filters, gallery and table, a part in full, a person's decision on it, downloads."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from makellos.errors import InputError
from makellos.service.pages.page import AskedNumber, Number, Operator, Page, Viewer
from makellos.service.pages.parts import ModelFacts, model_facts, view
from makellos.service.pages.rendering import HEADERS, back_to
from makellos.service.station import row_of
from makellos.storage import cell
from makellos.store import Box, Filter, NotFoundError

__all__ = ["asked_filter", "parse_boxes", "router"]

router = APIRouter(include_in_schema=False)
_PAGE = 48
_MOST_ROWS = 200_000  # of a CSV
_CHUNK = 500
_MOST_BOXES = 100
VERDICTS = ("reject", "look_again", "ok", "unreadable")
_TEXTS = ("recipe", "verdict", "decision", "serial", "lot", "zone", "text")
_COLUMNS = (
    *("id", "time", "recipe", "recipe_version", "serial", "lot", "source", "review"),
    *("input", "verdict", "score", "p_value", "threshold", "milliseconds", "error"),
)


class Asked:
    """Hold the filters of an address, as texts."""

    def __init__(
        self,
        recipe: str = "",
        verdict: str = "",
        decision: str = "",
        serial: str = "",
        lot: str = "",
        zone: str = "",
        text: str = "",
        since: str = "",
        until: str = "",
        view: str = "gallery",
        before: AskedNumber = None,
    ) -> None:
        self.recipe, self.verdict, self.decision = recipe, verdict, decision
        self.serial, self.lot, self.zone, self.text = serial, lot, zone, text
        self.since, self.until = since, until
        self.view = "table" if view == "table" else "gallery"
        self.before = before

    def address(self, **changed: object) -> str:
        """Return the query of these filters, with some changed."""
        given = {name: getattr(self, name) for name in (*_TEXTS, "since", "until", "view")}
        given |= changed
        return urlencode({k: v for k, v in given.items() if v not in ("", None)})


def asked_filter(asked: Asked) -> Filter:
    """Return what of the history is wanted; times are those of the station's clock on the wall."""
    given: dict[str, Any] = {name: getattr(asked, name).strip() or None for name in _TEXTS}
    if given["decision"] == "none":
        given["decision"], given["reviewed"] = None, False
    return Filter(**given, since=_moment(asked.since), until=_moment(asked.until))


def _moment(text: str) -> int | None:
    if not text:
        return None
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e6)
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"{text!r} is not a time; expected one such as 2026-05-31T14:00."
        ) from None


@router.get("/history", response_class=HTMLResponse)
def history(page: Viewer, asked: Annotated[Asked, Depends()]) -> HTMLResponse:
    """Show parts, the newest first; htmx asks for the list alone."""
    store = page.store
    found = store.history(asked_filter(asked), before=asked.before, limit=_PAGE + 1)
    more = len(found) > _PAGE
    found = found[:_PAGE]
    values: dict[str, Any] = {
        "asked": asked,
        "parts": [view(store, each, page.words) for each in found],
        "older": asked.address(before=found[-1].id) if more else None,
        "newest": asked.address() if asked.before is not None else None,
        "gallery_link": asked.address(view="gallery", before=asked.before),
        "table_link": asked.address(view="table", before=asked.before),
        "csv_link": asked.address(view=""),
        "verdicts": VERDICTS,
        "recipes": store.recipes.names(),
        "zones": _zones(page),
        "filtered": bool(asked.address(view="")),
    }
    return page.render("history_list.html" if page.is_fragment else "history.html", **values)


@router.get("/history.csv")
def history_csv(page: Viewer, asked: Annotated[Asked, Depends()]) -> StreamingResponse:
    """Return the rows of a list as CSV."""
    wanted = asked_filter(asked)  # refused before the answer begins
    headers = HEADERS | {"Content-Disposition": 'attachment; filename="makellos-history.csv"'}
    return StreamingResponse(
        _rows(page, wanted), media_type="text/csv; charset=utf-8", headers=headers
    )


def _rows(page: Page, wanted: Filter) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow((*_COLUMNS, "n_regions"))
    before, n_rows = None, 0
    while n_rows < _MOST_ROWS:
        parts = page.store.history(wanted, before=before, limit=_CHUNK)
        for part in parts:
            row = part.row()
            regions = len(row.get("regions") or ())
            writer.writerow([*(cell(row.get(name)) for name in _COLUMNS), regions])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        if len(parts) < _CHUNK:
            return
        before, n_rows = parts[-1].id, n_rows + len(parts)


@router.get("/history/{number}", response_class=HTMLResponse)
def part(page: Viewer, number: Number, draw: bool = False) -> HTMLResponse:
    """Show all that is known of a part."""
    store = page.store
    stored = store.inspection(number)
    try:
        active = store.recipes.active(stored.recipe)
    except NotFoundError:
        active = None
    return page.render(
        "part.html",
        part=view(store, stored, page.words, whole=True),
        reviews=store.reviews(number),
        facts=model_facts(store, stored.model_hash),
        active=active,
        draw=draw,
        newer=_neighbour(page, number, newer=True),
        older=_neighbour(page, number, newer=False),
    )


@router.post("/history/{number}/decision")
def decide(
    page: Operator,
    number: Number,
    decision: Annotated[str, Form()],
    note: Annotated[str, Form(max_length=2000)] = "",
    boxes: Annotated[str, Form(max_length=20_000)] = "",
    back: Annotated[str, Form()] = "/review",
) -> RedirectResponse:
    """Keep a person's decision on a part, and go back to where it was made."""
    page.store.review(
        number,
        person=page.name,
        decision=decision,
        boxes=parse_boxes(boxes),
        note=note.strip(),
    )
    page.station.events.publish("review", row_of(page.store.inspection(number)))
    return back_to(back)


@router.post("/history/{number}/keep")
def keep(page: Operator, number: Number, kept: Annotated[bool, Form()] = False) -> RedirectResponse:
    """Let a part be kept for good, or let it go with its time."""
    page.store.keep(number, person=page.name, kept=kept)
    return back_to(f"/history/{number}")


def parse_boxes(text: str) -> tuple[Box, ...]:
    """Return drawn boxes from JSON, a list of [x, y, width, height]; raises `InputError`."""
    if not text.strip():
        return ()
    try:
        listed = json.loads(text)
        boxes = [Box(*(float(each) for each in box)) for box in listed]
    except (ValueError, TypeError, RecursionError):
        boxes = []
        listed = None
    sound = all(
        all(map(math.isfinite, (box.x, box.y, box.width, box.height)))
        and box.width > 0
        and box.height > 0
        for box in boxes
    )
    if listed is None or not sound or len(boxes) > _MOST_BOXES:
        raise InputError(
            f"The boxes are no list of at most {_MOST_BOXES} [x, y, width, height] in pixels."
        )
    return tuple(boxes)


def _neighbour(page: Page, number: int, *, newer: bool) -> int | None:
    """Return the number of the part before or after; numbers may have gaps."""
    if not newer:
        found = page.store.history(Filter(), before=number, limit=1)
        return found[0].id if found else None
    if number >= page.store.newest():
        return None
    found = page.store.history(Filter(), before=number + 50, limit=50)
    later = [each.id for each in found if each.id > number]
    return min(later, default=None)


def _zones(page: Page) -> list[str]:
    """Return the zones of the models that are in use."""
    names: set[str] = set()
    for loaded in page.station.pool.all():
        facts: ModelFacts | None = model_facts(page.store, loaded.recipe.model_hash)
        names.update(() if facts is None else facts.zones)
    return sorted(names)
