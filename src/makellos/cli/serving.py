"""The verb serve."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import say
from makellos.cli.station import PicturesFolder, StoreAddress, needing_station

_LOCAL = "127.0.0.1"


Models = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="MODEL", help="Model files; each becomes a recipe of its name.", show_default=False
    ),
]
Host = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Address to listen on; 0.0.0.0 lets the network in, which needs users.",
    ),
]
Port = Annotated[
    int,
    typer.Option(metavar="N", min=0, max=65535, help="Port to listen on; 0 takes any free one."),
]
Watch = Annotated[
    list[str] | None,
    typer.Option(
        "--watch",
        metavar="[RECIPE=]FOLDER",
        help="Also inspect files that appear in a folder; repeatable.",
        show_default=False,
    ),
]
Done = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Move inspected files there, into a folder named like the watched one; without it, "
        "files stay and are remembered.",
    ),
]


def serve(
    models: Models = None,
    host: Host = _LOCAL,
    port: Port = 8000,
    watch: Watch = None,
    done: Done = None,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
) -> None:
    """Run the inspection station: web page, HTTP API, history.

    On this machine alone it needs no set-up. Each part is stored before its verdict is given.

    Example: makellos serve screws.makellos --port 8000
    """
    with needing_station():
        from makellos.line.watching import folders_of, watching
        from makellos.service import server
        from makellos.store import Store

    import logging

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    at = "" if store is None else f" --store {store}"
    with ExitStack() as stack:
        opened = Store.open(store, pictures=pictures)
        stack.callback(opened.close)
        server.check_address(opened, host, f"makellos users add NAME --role administrator{at}")
        listener = stack.enter_context(server.listening(host, port))
        station = server.open_station(opened, host, models or [])
        stack.callback(station.close)
        watched = folders_of(watch or [], station.pool.names(), done)
        stack.enter_context(watching(station, watched, tell=say))
        lines = server.told(station, server.address_of(host, listener))
        server.run(station, listener, started=lambda: _tell(lines))
    say("Stopped. Everything that was accepted is stored.")


def _tell(lines: list[str]) -> None:
    for line in lines:
        say(line)
    sys.stdout.flush()
