"""The web application of a station."""

from __future__ import annotations

from fastapi import FastAPI

from makellos import __version__
from makellos.service.api import add_api
from makellos.service.candidates import CandidateMaker
from makellos.service.failures import add_failures
from makellos.service.gate import Gate
from makellos.service.pages import add_pages
from makellos.service.station import Station

__all__ = ["create_app"]

_ABOUT = """Inspect parts, look up what was found, and change what inspects.

Machines send `Authorization: Bearer TOKEN`. Browsers have a session, whose changes carry the header
`X-CSRF-Token`. Every error has the form `{"error": {"code", "message", "details"}}`.
"""


def create_app(station: Station) -> FastAPI:
    """Return the application of a station: API and pages. It does not close the station."""
    app = FastAPI(
        title="makellos station",
        version=__version__,
        description=_ABOUT,
        openapi_url=None,  # these routes need a role
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.station = station
    app.state.candidates = CandidateMaker(station)
    app.add_middleware(Gate, station=station)
    add_failures(app)
    add_api(app)
    add_pages(app)
    return app
