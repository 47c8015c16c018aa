"""Bodies that come slowly, or many at once, neither fill the memory nor hold the station up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from makellos.service.app import create_app
from makellos.service.station import Station

T = TypeVar("T")
HEAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


async def sent(
    app: Any, receive: Callable[[], Any], n_bytes: int | None = None
) -> tuple[int, bytes]:
    """Return status and body of the answer to files whose messages `receive` gives."""
    length = [] if n_bytes is None else [(b"content-length", str(n_bytes).encode())]
    said: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/inspections",
        "raw_path": b"/api/inspections",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"multipart/form-data; boundary=x"),
            *length,
        ],
    }

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app(scope, receive, send)
    return said[0]["status"], b"".join(each.get("body", b"") for each in said)


def carried_out(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread: the browser of other tests has a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(act())).result()


def begun(n_bytes: int) -> Callable[[], Any]:
    """Return messages of a body that begins and never ends."""
    left = [HEAD + b"1" * n_bytes]

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": left.pop(), "more_body": True}

    return receive


def whole(content: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        body = HEAD + content + b"\r\n--x--\r\n"
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def test_a_body_that_does_not_go_on_is_given_up(build: Callable[..., Station]) -> None:
    status, body = carried_out(lambda: sent(create_app(build(patience=0.1)), begun(1000)))
    assert (status, b"Nothing of the body came for 0.1 seconds" in body) == (422, True)


@pytest.mark.parametrize("announced", [True, False])
def test_bodies_together_are_bounded_and_leave_room_when_they_are_gone(
    build: Callable[..., Station], picture: Callable[..., bytes], announced: bool
) -> None:
    app = create_app(build(queue_bytes=10_000, patience=0.5))
    small, large = (2_000, 9_900) if announced else (None, None)

    async def act() -> tuple[tuple[int, bytes], int, int]:
        slow = asyncio.create_task(sent(app, begun(100 if announced else 9_800), large))
        await asyncio.sleep(0.1)
        refused = await sent(app, whole(picture(1)), small)
        given_up, _ = await slow
        again, _ = await sent(app, whole(picture(1)), small)
        return refused, given_up, again

    refused, given_up, again = carried_out(act)
    assert (refused[0], b"queue_full" in refused[1]) == (429, True)
    assert (given_up, again) == (422, 201)
