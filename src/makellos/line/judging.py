"""Inspect and store what a source gives, by a station in the same process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from makellos.line.sources import Arrival
from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import StoredInspection

__all__ = ["StationJudge"]


class StationJudge:
    """Give parts to a `station`, as those of a `recipe` and a `source`, and wait for the answers.

    `tell` hears of each part that is stored.
    """

    def __init__(
        self,
        station: Station,
        recipe: str,
        *,
        source: str,
        tell: Callable[[StoredInspection], None] | None = None,
    ) -> None:
        self._station, self._recipe, self._source, self._tell = station, recipe, source, tell

    def known(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys whose parts are stored already."""
        return set(self._station.store.known(keys))

    def judge(self, arrivals: Sequence[Arrival]) -> None:
        """Inspect and store parts; raises what kept one from being stored.

        Those that were stored beside it are known by their keys.
        """
        parts = [self._part(arrival) for arrival in arrivals]
        for answer in self._station.inspect(self._recipe, parts, wait=True):
            stored = answer.result()
            if self._tell is not None:
                self._tell(stored)

    def _part(self, arrival: Arrival) -> NewPart:
        return NewPart(
            name=arrival.name,
            content=arrival.content,
            error=arrival.error,
            serial=arrival.serial,
            lot=arrival.lot,
            source=self._source,
            fields=arrival.fields,
            key=arrival.key,
        )
