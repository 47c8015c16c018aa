"""Watched folders of a station: one thread follows each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from makellos.data.parts import PICTURES
from makellos.errors import ConfigurationError, MakellosError
from makellos.line.following import follow
from makellos.line.judging import StationJudge
from makellos.line.watched_folder import WatchedFolder
from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.store import StoredInspection
from makellos.vibration.parts import RECORDINGS

__all__ = ["Watched", "folders_of", "watching"]

Told = Callable[[StoredInspection], None]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Say which folder is watched for which recipe, None for the only one, and how.

    `done`, `names` and `settle` are those of a `WatchedFolder`.
    """

    folder: Path
    recipe: str | None = None
    done: Path | None = None
    names: str | None = None
    settle: float = 1.0

    def of(self, station: Station, told: Told | None = None) -> tuple[WatchedFolder, StationJudge]:
        """Return the source and what judges its parts; `told` hears of each part that is stored.

        Raises `ConfigurationError` where the recipe is not known, and what `WatchedFolder` does.
        """
        try:
            loaded = station.pool.get(self.recipe)
        except Refusal as refusal:
            raise ConfigurationError(f"{self.folder} cannot be watched: {refusal}") from None
        name = loaded.recipe.name
        source = WatchedFolder(
            self.folder,
            recipe=name,
            kind=PICTURES if loaded.takes_pictures else RECORDINGS,
            done=self.done,
            settle=self.settle,
            names=self.names,
            largest=station.settings.max_file,
        )
        return source, StationJudge(station, name, source=source.name, tell=told)


def folders_of(
    named: Sequence[str], recipes: Sequence[str], done: Path | None = None
) -> list[Watched]:
    """Return what ``[RECIPE=]FOLDER`` names; what is done moves to a folder of its name in `done`.

    >>> [each.recipe for each in folders_of(["a=b", "c=d", "e"], ["a"])]
    ['a', None, None]
    """
    found = []
    for text in named:
        recipe, sign, folder = text.partition("=")
        known = bool(sign) and recipe in recipes
        path = Path(folder if known else text)
        found.append(
            Watched(
                folder=path,
                recipe=recipe if known else None,
                done=None if done is None else done / path.resolve().name,
            )
        )
    return found


@contextmanager
def watching(
    station: Station, folders: Sequence[Watched], *, tell: Callable[[str], None]
) -> Iterator[None]:
    """Follow folders while the context lasts; `tell` hears of troubles and of their end."""
    stop = threading.Event()
    pairs = [watched.of(station) for watched in folders]
    threads = [
        threading.Thread(target=_follow, args=(source, judge, stop, tell))
        for source, judge in pairs
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _follow(
    source: WatchedFolder, judge: StationJudge, stop: threading.Event, tell: Callable[[str], None]
) -> None:
    try:
        follow(source, judge, stop=stop, tell=tell)
    except (MakellosError, Refusal) as error:
        if not stop.is_set():
            tell(f"{source.folder} is no longer watched: {error}")
