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

    A connection that asks nothing within `patience` seconds is closed, and one over twice `most`
    at once.
    """

    most = 400
    patience = 30.0

    def connection_made(  # type: ignore[override] # as its base does
        self, transport: asyncio.Transport
    ) -> None:
        """Take a connection."""
        super().connection_made(transport)
        self._waited_for = self.loop.call_later(self.patience, self._close_idle)
        if len(self.connections) > 2 * self.most:
            transport.abort()
        elif len(self.connections) > self.most:
            self.app_state = {**self.app_state, _CROWDED: True}

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._waited_for.cancel()
        super().connection_lost(exc)

    def _close_idle(self) -> None:
        if getattr(self, "cycle", None) is None:  # its base gives it no type for that
            self.transport.close()
