"""What is looked at before a request is: which host, from which page, how often, how large."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makellos.service.access import SAFE, who
from makellos.service.connections import is_crowded
from makellos.service.failures import Refusal, respond
from makellos.service.station import Settings, Station

__all__ = ["Gate"]

_MAX_PLAIN = 1 << 20  # bytes of a body that holds no files
_DRAINED, _DRAIN_SECONDS = 1 << 29, 30.0  # of a body that is refused
_FREE = ("/healthz", "/readyz", "/static/")
_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Gate:
    """Refuse requests that are not to reach the app, and count those that are refused."""

    def __init__(self, app: ASGIApp, station: Station) -> None:
        self._app, self._station = app, station
        self._bodies: set[_Body] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = self._telling(send)
        try:
            self._check(scope)
            await self._check_sender(scope)
        except Refusal as refusal:
            await respond(refusal, scope, receive, told)
            return
        limit, headers = self._limit(scope), Headers(scope=scope)
        announced = headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > limit:
            await self._too_large(scope, receive, told, int(announced), limit)
            return
        body = _Body(receive, limit, self._station.settings, headers)
        if body.in_memory and not self._has_room(body.n_bytes):
            await _drain(receive)
            await respond(_full(), scope, receive, told)
            return
        self._bodies.add(body)
        try:
            await self._app(scope, self._counted(body), told)
        finally:
            self._bodies.discard(body)

    def _check(self, scope: Scope) -> None:
        headers, settings = Headers(scope=scope), self._station.settings
        host = headers.get("host", "")
        if self._station.is_open:
            _check_local(headers, host, settings.hosts)
        with_token = headers.get("authorization", "").lower().startswith("bearer ")
        if scope["method"] not in SAFE and not with_token and _is_foreign(headers, host):
            raise Refusal("cross_origin", "The request comes from a page of another site.")
        if not scope["path"].startswith(_FREE):
            if is_crowded(scope):
                raise Refusal(
                    "too_many_connections", "Too many connections are open. Try again.", retry=2
                )
            client = scope.get("client")
            wait = self._station.rate.wait(client[0] if client else "unknown")
            if wait:
                raise Refusal("too_many_requests", "Requests come too fast. Slow down.", retry=wait)

    async def _check_sender(self, scope: Scope) -> None:
        """Refuse files for a page from who has not logged in, before a form is read from them.

        Routes of the API look who sends them first.
        """
        kind, path = Headers(scope=scope).get("content-type", ""), scope["path"]
        if not kind.startswith("multipart/") or path.startswith("/api/") or self._station.is_open:
            return
        person, _ = await run_in_threadpool(who, Request(scope))
        if person is None:
            raise Refusal("not_logged_in", "Log in before you send files.")

    def _limit(self, scope: Scope) -> int:
        settings: Settings = self._station.settings
        kind = Headers(scope=scope).get("content-type", "")
        if not kind.startswith("multipart/"):
            return _MAX_PLAIN
        path: str = scope["path"]
        takes_more = path in {"/api/models", "/models"} or path.startswith("/start/")
        return settings.max_model if takes_more else settings.max_body

    async def _too_large(
        self, scope: Scope, receive: Receive, send: Send, announced: int, limit: int
    ) -> None:
        """Refuse a body, and read it to its end, or clients see a broken connection instead."""
        refusal = Refusal(
            "too_large", f"The body has {announced:,} bytes; at most {limit:,} are accepted here."
        )
        if Headers(scope=scope).get("expect", "").lower() != "100-continue":
            await _drain(receive)
        await respond(refusal, scope, receive, send)

    def _has_room(self, n_bytes: int) -> bool:
        """Tell whether so many bytes more may be held in memory."""
        held = sum(each.n_bytes for each in self._bodies if each.in_memory)
        return not n_bytes or held + n_bytes <= self._station.settings.queue_bytes

    def _counted(self, body: _Body) -> Receive:
        """Return a `receive` that refuses a body of unknown length where there is no room."""

        async def counted() -> Message:
            before, message = body.n_bytes, await body.receive()
            if body.in_memory and body.n_bytes > before and not self._has_room(1):
                raise _full()  # at once, so that what it holds is free
            return message

        return counted

    def _telling(self, send: Send) -> Callable[[Message], Awaitable[None]]:
        """Return a `send` that adds headers, and counts what is refused by its status."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in _SECURITY if pair[0] not in present]
                message["headers"] = [*message["headers"], *added]
                if message["status"] >= 400:
                    self._station.metrics.refused.labels(str(message["status"])).inc()
            await send(message)

        return told


def _check_local(headers: Headers, host: str, hosts: tuple[str, ...]) -> None:
    """Refuse what may come from elsewhere while nobody has to log in.

    A page of another site may have a name that leads here, and a proxy brings in everybody.
    """
    if _name(host) not in hosts:
        raise Refusal(
            "unknown_host", f"This station answers to {', '.join(hosts)}, not to {host[:100]!r}."
        )
    if any(name in headers for name in _OF_PROXIES):
        raise Refusal(
            "unknown_host",
            "The request comes through a proxy, and nobody has to log in here yet. Add an "
            "administrator first: makellos users add NAME --role administrator.",
        )


def _full() -> Refusal:
    return Refusal("queue_full", "Too much is being sent at once.", retry=1)


class _Body:
    """Receive a body, and refuse one that is over its limit or does not go on coming.

    `n_bytes` are those that were announced, or more where more came.
    """

    def __init__(self, receive: Receive, limit: int, settings: Settings, headers: Headers) -> None:
        self._receive, self._limit = receive, limit
        self._patience = settings.patience
        self.in_memory = limit <= settings.max_body  # those of models are on the disk
        announced = headers.get("content-length", "0")
        self.n_bytes = int(announced) if announced.isdigit() else 0
        self._n_came, self._whole = 0, False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(
                "invalid", f"Nothing of the body came for {self._patience:g} seconds."
            ) from None
        self._whole = message["type"] != "http.request" or not message.get("more_body")
        self._n_came += len(message.get("body", b""))
        self.n_bytes = max(self.n_bytes, self._n_came)
        if self._n_came > self._limit:
            if not self._whole:
                await _drain(self._receive)
            raise Refusal("too_large", f"The body has more than {self._limit:,} bytes.")
        return message


async def _drain(receive: Receive) -> None:
    n_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while n_bytes < _DRAINED:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


def _name(host: str) -> str:
    """Return a host without its port, in lower case."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return (name or host).lower()


def _is_foreign(headers: Headers, host: str) -> bool:
    """Tell whether a browser says that the request comes from another site's page."""
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
