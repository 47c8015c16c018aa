"""What the verbs of the station have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["PicturesFolder", "StoreAddress", "needing_station"]

StoreAddress = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where the history is kept: a folder, or the address of a database such as "
        "postgresql://…; by default a folder of this user.",
    ),
]
PicturesFolder = Annotated[
    Path | None,
    typer.Option(
        "--pictures",
        metavar="DIR",
        help="Folder for pictures, maps and models, if not beside the history.",
    ),
]


@contextmanager
def needing_station() -> Iterator[None]:
    """Say what to install where an import in the body fails for want of the extra."""
    from makellos.errors import MissingRuntimeError, adding

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("makellos"):
            raise
        raise MissingRuntimeError(
            f"The station needs {error.name}, which is not installed: {adding('station')}."
        ) from None
