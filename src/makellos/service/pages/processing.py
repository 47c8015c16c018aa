"""The processes of a station, as its pages show them."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from makellos.service.pages.page import Engineer, Page, Viewer
from makellos.service.pages.rendering import back_to
from makellos.service.processes import Processes
from makellos.store import NotFoundError

__all__ = ["processes", "router"]

router = APIRouter(prefix="/processes", include_in_schema=False)


def processes(page: Page) -> Processes:
    """Return what runs the long work of this station."""
    found: Processes = page.request.app.state.processes
    return found


@router.get("/{number}", response_class=HTMLResponse)
def show(page: Viewer, number: int) -> Response:
    """Return how far a piece of work is; htmx loads the page anew when it has ended."""
    process = processes(page).get(number)
    if process is None:
        raise NotFoundError(f"There is no process {number}.")
    if process.status != "running":
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return page.render("process.html", process=process)


@router.post("/stop")
def stop(page: Engineer, back: str = "/start") -> Response:
    """End what is running."""
    processes(page).stop()
    return back_to(back)
