"""Pages: one environment for all templates, and how a page is written."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from makellos.errors import legible
from makellos.reports import formats
from makellos.reports.gallery import data_uri, outcome
from makellos.storage import ROOM, storage_errors, write_text

__all__ = ["NARROW", "WIDE", "render_page", "write_page"]

WIDE, NARROW = 1080.0, 350.0  # of a chart on a wide and on a narrow screen, in SVG units


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("makellos.reports", "templates"),
        autoescape=True,
        finalize=_legible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(wide=WIDE, narrow=NARROW)
    environment.filters.update(
        auroc=formats.auroc,
        compact=formats.compact,
        decimal=formats.decimal,
        duration=formats.duration,
        link=quote,
        number=formats.count,
        outcome=outcome,
        percent=formats.percent,
        picture=data_uri,
        rounded=formats.rounded,
        short=formats.short,
        shown=formats.shown,
    )
    return environment


def _legible(value: Any) -> Any:
    return legible(value, lines=True) if isinstance(value, str) else value


def render_page(template: str, **values: Any) -> str:
    """Return the page of a template as one HTML file; what `values` hold is escaped."""
    return _environment().get_template(template).render(values)


def write_page(path: Path, page: str, advice: str = ROOM) -> None:
    """Write a page as a whole or not at all, replacing an earlier one.

    Raises `StorageError`, which ends with `advice`, where the folder cannot be made or the file
    cannot be written.
    """
    with storage_errors(f"{path} cannot be written", advice):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page, advice)
