"""How many connections a station holds, and for how long it waits for what they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["LimitedProtocol", "is_crowded"]

_CROWDED = "crowded"


def is_crowded(scope: Mapping[str, Any]) -> bool:
    """Tell whether a request came over a connection that is one too many."""
    return bool(scope.get("state", {}).get(_CROWDED))


class LimitedProtocol(H11Protocol):
    """Mark requests of connections over `most`, for the gate to refuse them in its own words.

    A connection that asks nothing within `patience` seconds is closed, also one that begins another
    request and does not go on, and one over twice `most` at once.
    """

    most = 400
    patience = 30.0

    def connection_made(  # type: ignore[override] # as its base does
        self, transport: asyncio.Transport
    ) -> None:
        """Take a connection."""
        super().connection_made(transport)
        self._waited_for: asyncio.TimerHandle | None = None
        self._wait()
        if len(self.connections) > 2 * self.most:
            transport.abort()
        elif len(self.connections) > self.most:
            self.app_state = {**self.app_state, _CROWDED: True}

    def data_received(self, data: bytes) -> None:
        """Take what a client sends; what has not become a request by then is waited for."""
        super().data_received(data)
        if not self._asks_nothing:
            self._wait_no_more()
        elif self._waited_for is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._wait_no_more()
        super().connection_lost(exc)

    @property
    def _asks_nothing(self) -> bool:
        cycle = getattr(self, "cycle", None)  # its base gives it no type for none
        return cycle is None or cycle.response_complete

    def _wait(self) -> None:
        self._waited_for = self.loop.call_later(self.patience, self._close_idle)

    def _wait_no_more(self) -> None:
        if self._waited_for is not None:
            self._waited_for.cancel()
            self._waited_for = None

    def _close_idle(self) -> None:
        self._waited_for = None
        if self._asks_nothing:
            self.transport.close()
