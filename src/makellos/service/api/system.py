"""Routes of the service itself: health, readiness, metrics, description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from makellos.service.access import Person, needs
from makellos.service.api.shapes import Json, Texts, errors
from makellos.service.described import described_page
from makellos.service.failures import Refusal
from makellos.service.station import StationDep

__all__ = ["router"]

router = APIRouter(tags=["service"])
Viewer = Annotated[Person, Depends(needs("viewer"))]


@router.get("/healthz", response_model=Texts)
async def health() -> Response:
    """Answer as long as the service runs."""
    return Json({"status": "ok"})


@router.get("/readyz", response_model=Texts, responses=errors())
def ready(station: StationDep) -> Response:
    """Tell whether parts can be inspected: the store answers and a recipe is loaded."""
    station.store.newest()
    if not station.pool.names():
        raise Refusal("unavailable", "No recipe is loaded.", details=station.pool.failed or None)
    return Json({"status": "ready", "recipes": station.pool.names(), "waiting": len(station.queue)})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **errors()},
)
def metrics(station: StationDep, person: Viewer) -> Response:
    """Return figures for Prometheus."""
    del person
    text = station.metrics.text(station.measure)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/api/openapi.json", response_model=Texts, responses=errors())
def description(request: Request, person: Viewer) -> Response:
    """Return the OpenAPI description of the API."""
    del person
    return Json(api_description(request))


@router.get("/api/docs", response_class=HTMLResponse, include_in_schema=False)
def documentation(request: Request, person: Viewer) -> Response:
    """Show the description as a page, which needs nothing from elsewhere."""
    del person
    return HTMLResponse(described_page(api_description(request)))


def api_description(request: Request) -> dict[str, Any]:
    """Return the description of the app's API, without its pages."""
    whole: dict[str, Any] = request.app.openapi()
    paths = {
        path: item
        for path, item in whole["paths"].items()
        if path.startswith(("/api/", "/healthz", "/readyz", "/metrics"))
    }
    return {**whole, "paths": paths}
