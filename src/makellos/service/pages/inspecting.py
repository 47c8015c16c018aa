"""The page on which pictures are dropped to be inspected."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from makellos.service.pages.page import Operator, Page
from makellos.service.pages.parts import view
from makellos.store import NotFoundError

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_MOST = 200


@router.get("/inspect", response_class=HTMLResponse)
def inspect(page: Operator) -> HTMLResponse:
    """Show the field to drop pictures on."""
    return page.render("inspect.html", recipes=page.station.pool.names())


@router.get("/inspected", response_class=HTMLResponse)
def inspected(page: Operator, ids: str = "") -> HTMLResponse:
    """Return parts by their numbers, joined by commas, as a gallery."""
    return page.render("inspected.html", parts=_parts(page, ids))


def _parts(page: Page, ids: str) -> list[object]:
    found: list[object] = []
    for text in ids.split(",")[:_MOST]:
        if text.isascii() and text.isdigit() and len(text) < 19:
            try:
                found.append(view(page.store, page.store.inspection(int(text)), page.words))
            except NotFoundError:
                continue
    return found
