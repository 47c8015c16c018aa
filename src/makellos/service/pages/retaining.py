"""How long pictures and parts are kept."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from makellos.errors import InputError
from makellos.service.pages.page import Engineer, Viewer
from makellos.service.pages.rendering import back_to
from makellos.store import Retention

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_GB = 1_000_000_000
Amount = Annotated[str, Form(max_length=20)]


@router.get("/retention", response_class=HTMLResponse)
def retention(page: Viewer) -> HTMLResponse:
    """Show how long things are kept."""
    kept = page.store.retention()
    size = None if kept.picture_bytes is None else kept.picture_bytes / _GB
    return page.render("retention.html", kept=kept, picture_gb=size)


@router.post("/retention")
def set_retention(
    page: Engineer, picture_days: Amount = "", row_days: Amount = "", picture_gb: Amount = ""
) -> Response:
    """Say how long things are kept from now on; what is left empty is kept forever."""
    size = _amount(picture_gb)
    wanted = Retention(
        picture_days=_amount(picture_days),
        row_days=_amount(row_days),
        picture_bytes=None if size is None else round(size * _GB),
    )
    page.store.set_retention(wanted, person=page.name)
    return back_to("/retention")


def _amount(text: str) -> float | None:
    """Return a number as people write it, with a point or a comma; None for nothing."""
    if not text.strip():
        return None
    try:
        found = float(text.strip().replace(",", "."))
    except ValueError:
        raise InputError(f"{text!r} is not a number.") from None
    if not 0 < found < 1e9:
        raise InputError(f"{text!r} is not a number above 0.")
    return found
