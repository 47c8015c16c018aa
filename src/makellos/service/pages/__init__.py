"""The pages of the station, rendered on the server."""

from __future__ import annotations

import atexit

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from makellos.service.pages import (
    account,
    drifting,
    history,
    inspecting,
    learning,
    live,
    modelling,
    people,
    pictures,
    processing,
    retaining,
    reviewing,
    starting,
)
from makellos.service.pages.rendering import STATIC
from makellos.service.processes import Processes

__all__ = ["add_pages"]

_ROUTERS = (
    *(account, live, inspecting, history, pictures, reviewing),
    *(learning, modelling, drifting, people, retaining, starting, processing),
)


class _Static(StaticFiles):
    """Serve files of the package; addresses change with the build, so browsers may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        kept = "public, max-age=31536000, immutable" if scope.get("query_string") else "no-cache"
        response.headers["Cache-Control"] = kept
        return response


def add_pages(app: FastAPI) -> None:
    """Add all pages and the files that they load to the application of a station."""
    app.state.processes = Processes()
    app.state.budgets = {}  # changes of budgets by recipe, each a `Processes`
    atexit.register(app.state.processes.close)
    app.state.error_page = account.error_page
    for each in _ROUTERS:
        app.include_router(each.router, include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC), name="static")
