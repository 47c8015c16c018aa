"""The verb serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import say

_LOCAL = "127.0.0.1"


def serve(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL",
            help="Model files; each becomes a recipe of its name.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; 0.0.0.0 lets the network in, which takes users.",
        ),
    ] = _LOCAL,
    port: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0: any that is free."),
    ] = 8000,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the history is kept: a folder, or the address of a database such as "
            "postgresql://…; without it, a folder of this user.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for pictures, maps and models, if not beside the history."
        ),
    ] = None,
) -> None:
    """Run the inspection station: web page, HTTP API, history.

    On this machine alone it needs no set-up. Whatever is inspected is stored before it is answered.

    Example: makellos serve screws.makellos --port 8000
    """
    from makellos.errors import MissingRuntimeError, adding

    try:
        import makellos.service.app
        import makellos.store
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("makellos"):
            raise
        raise MissingRuntimeError(
            f"The station needs {error.name}, which is not installed: {adding('station')}."
        ) from None
    del makellos
    _serve(models or [], host, port, store, pictures)


def _serve(
    models: list[Path], host: str, port: int, address: str | None, pictures: Path | None
) -> None:
    import logging

    from makellos.service import server
    from makellos.store import Store

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    at = "" if address is None else f" --store {address}"
    store = Store.open(address, pictures=pictures)
    try:
        server.check_address(store, host, f"makellos users add NAME --role administrator{at}")
        with server.listening(host, port) as listener:
            station = server.open_station(store, host, models)
            where = server.address_of(host, listener)
            server.run(station, listener, started=lambda: _tell(server.told(station, where)))
    finally:
        store.close()
    say("Stopped. Everything that was accepted is stored.")


def _tell(lines: list[str]) -> None:
    for line in lines:
        say(line)
    sys.stdout.flush()
