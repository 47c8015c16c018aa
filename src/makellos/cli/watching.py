"""The verb watch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import say
from makellos.cli.station import PicturesFolder, StoreAddress, needing_station
from makellos.errors import legible

if TYPE_CHECKING:
    from makellos.store import StoredInspection

Done = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Move inspected files there; without it, files stay and are remembered.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Regular expression for file names; its groups serial, lot and others are stored, as "
        "in '(?P<serial>[0-9]+)_(?P<lot>[A-Z]+)'.",
    ),
]
Settle = Annotated[
    float,
    typer.Option(
        metavar="S",
        help="Seconds without a change until a file counts as complete; a JPEG or PNG file is "
        "complete once its end is there.",
    ),
]


def watch(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to watch.")],
    done: Done = None,
    names: Names = None,
    settle: Settle = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Stop once everything there is inspected.")
    ] = False,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
) -> None:
    """Inspect files as they appear in a folder, and store them in the history of a station.

    Each file is inspected once, when it is complete, even if the program or the machine stops in
    between. Stop with Ctrl-C. 'makellos serve --watch' does the same beside the web page.

    Example: makellos watch screws.makellos camera/ --done camera/done
    """
    with needing_station():
        from makellos.line import follow
        from makellos.line.watching import Watched
        from makellos.service.server import open_station
        from makellos.store import Store

    with ExitStack() as stack:
        opened = Store.open(store, pictures=pictures)
        stack.callback(opened.close)
        station = open_station(opened, "localhost", [model])
        stack.callback(station.close)
        wanted = Watched(folder=folder, recipe=model.stem, done=done, names=names, settle=settle)
        source, judge = wanted.of(station, _tell)
        stop = stack.enter_context(_stopping())
        if not once:
            say(f"Watching {source.folder}. Stop with Ctrl-C.")
        follow(source, judge, stop=stop, tell=say, once=once)
    say("Stopped. Everything that was inspected is stored.")


def _tell(part: StoredInspection) -> None:
    """Say what was found on a part, on one line."""
    found = "" if part.p_value is None else f"  p {part.p_value:.4f}"
    said = "" if part.error is None else f"  {part.error}"
    typer.echo(legible(f"{part.id:>8}  {part.verdict:<10}  {part.input}{found}{said}"))


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and a request to end set; the parts in work are finished first."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
