"""Server-sent events: what happens in the station, told to everyone who listens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

__all__ = ["Events"]

_WAITING = 200  # events that a listener may be behind, before it is dropped
_MOST = 500  # listeners


class Events:
    """Pass events to listeners, each `WAITING` behind at most: who is slower is dropped.

    A browser that was dropped connects anew by itself. `publish` may be called from any thread and
    never waits. Every `heartbeat` seconds without an event a comment keeps the connection open.
    """

    def __init__(self, *, heartbeat: float = 15.0) -> None:
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}
        self._closed = False

    @property
    def n_listeners(self) -> int:
        """Return how many listen."""
        return len(self._listeners)

    def publish(self, kind: str, data: Any) -> None:
        """Tell all listeners of something, such as an ``inspection`` with its row."""
        text = f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=True)}\n\n"
        self._tell(text)

    def close(self) -> None:
        """End all streams, and those to come."""
        self._closed = True
        self._tell(None)

    def _tell(self, text: str | None) -> None:
        with self._lock:
            listeners = list(self._listeners.items())
        for queue, loop in listeners:
            try:
                loop.call_soon_threadsafe(self._put, queue, text)
            except RuntimeError:  # its loop has ended
                self._forget(queue)

    def _put(self, queue: asyncio.Queue[str | None], text: str | None) -> None:
        if queue.full():
            while not queue.empty():
                queue.get_nowait()
            text = None
        queue.put_nowait(text)
        if text is None:
            self._forget(queue)

    def _forget(self, queue: asyncio.Queue[str | None]) -> None:
        with self._lock:
            self._listeners.pop(queue, None)

    async def listen(
        self, may_listen: Callable[[], Awaitable[bool]] | None = None
    ) -> AsyncIterator[str]:
        """Yield the text of events from now on, until the station stops or the listener is slow.

        With each heartbeat's time, whether or not there are events, `may_listen` is asked again.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue(_WAITING)
        with self._lock:
            if self._closed or len(self._listeners) >= _MOST:
                return
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield "retry: 2000\n\n"
            clock = asyncio.get_running_loop().time
            due = clock() + self._heartbeat
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), max(0.0, due - clock()))
                except TimeoutError:
                    text = ": still here\n\n"
                if clock() >= due:
                    if may_listen is not None and not await may_listen():
                        return
                    due = clock() + self._heartbeat
                if text is None:
                    return
                yield text
        finally:
            self._forget(queue)
