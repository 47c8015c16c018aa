"""The HTTP API."""

from __future__ import annotations

from fastapi import FastAPI

from makellos.service.api import (
    candidates,
    inspections,
    people,
    recipes,
    retention,
    shift,
    system,
)

__all__ = ["add_api"]


def add_api(app: FastAPI) -> None:
    """Add all routes of the API to an app."""
    for module in (inspections, recipes, candidates, retention, shift, people, system):
        app.include_router(module.router)
