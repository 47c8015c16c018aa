"""A password of one's own, tokens of people who are disabled, and too many connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from makellos.service.app import create_app
from makellos.service.connections import LimitedProtocol
from makellos.service.station import Station
from makellos.store import Store

OLD, NEW = "a long password", "an even longer one"
LogIn = Callable[..., TestClient]


def test_a_person_changes_their_own_password(
    client: TestClient, store: Store, log_in: LogIn
) -> None:
    store.people.add("boss", OLD, "administrator", by="test")
    log_in(client, "boss", "administrator")
    other = store.people.begin_session("boss").token
    refused = client.post("/api/me/password", json={"present": "a guess", "new": NEW})
    assert refused.json()["error"]["message"] == "The current password is wrong."
    weak = client.post("/api/me/password", json={"present": OLD, "new": "short"})
    assert "has 10 to" in weak.json()["error"]["message"]
    assert store.people.session(other) is not None
    assert client.post("/api/me/password", json={"present": OLD, "new": NEW}).status_code == 200
    assert store.people.session(other) is None
    assert client.get("/api/me").status_code == 401
    assert store.people.check_password("boss", OLD) is None
    assert store.people.check_password("boss", NEW) is not None
    assert [entry.action for entry in store.audit.entries(limit=2)] == [
        "person_password",
        "password_refused",
    ]


def test_guesses_at_the_present_password_are_throttled(
    client: TestClient, store: Store, log_in: LogIn
) -> None:
    store.people.add("boss", OLD, "administrator", by="test")
    log_in(client, "boss", "administrator")
    guess = {"present": "a guess", "new": NEW}
    codes = [client.post("/api/me/password", json=guess).status_code for _ in range(6)]
    assert codes == [422] * 5 + [429]


def test_machines_and_local_use_have_no_password(client: TestClient, store: Store) -> None:
    change = {"present": "", "new": NEW}
    assert client.post("/api/me/password", json=change).status_code == 422
    store.people.add("boss", OLD, "administrator", by="test")
    machine = {"Authorization": f"Bearer {store.people.add_token('plc', 'viewer', by='boss')}"}
    assert client.post("/api/me/password", json=change, headers=machine).status_code == 422


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_page_changes_the_password_and_goes_on(
    client: TestClient, store: Store, log_in: LogIn, language: str
) -> None:
    store.people.add("boss", OLD, "administrator", by="test")
    log_in(client, "boss", "administrator")
    client.headers["Accept-Language"] = language
    client.cookies.set("makellos_language", language)
    form = {"present": "a guess", "new": NEW, "again": NEW}
    wrong = client.post("/account/password", data=form)
    text = {"en": "The current password is wrong.", "de": "Das bisherige Passwort ist falsch."}
    assert wrong.status_code == 422 and text[language] in wrong.text
    apart = client.post("/account/password", data=form | {"present": OLD, "again": "another one"})
    assert apart.status_code == 422
    done = client.post("/account/password", data=form | {"present": OLD})
    assert done.headers["Location"] == "/account?changed=1"
    assert client.get("/account?changed=1").status_code == 200  # in the new session
    assert store.people.check_password("boss", NEW) is not None


def test_tokens_of_who_is_disabled_let_nobody_in(client: TestClient, store: Store) -> None:
    store.people.add("boss", OLD, "administrator", by="test")
    store.people.add("ann", OLD, "administrator", by="test")
    secret = store.people.add_token("plc", "operator", by="ann")
    early = store.people.add_token("camera", "operator", by="local")  # before there was anybody
    machine = {"Authorization": f"Bearer {secret}"}
    assert client.get("/api/me", headers=machine).status_code == 200
    store.people.disable("ann", by="boss")
    assert client.get("/api/me", headers=machine).status_code == 401
    assert {each.name: each.disabled for each in store.people.tokens()} == {
        "camera": False,
        "plc": True,
    }
    assert store.people.token(early) is not None
    store.people.disable("ann", by="boss", disabled=False)
    assert client.get("/api/me", headers=machine).status_code == 200


class Few(LimitedProtocol):
    """Take two connections."""

    most, patience = 2, 0.4


async def asked(port: int, path: str) -> tuple[str, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().split("content-length:")[1].split()[0])
    return head + (await reader.readexactly(length)).decode(), writer


async def begun_again(port: int) -> bytes:
    """Ask once, begin to ask again, and return what comes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET /api/recipes HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.split("content-length:")[1].split()[0]))
    writer.write(request[:20])
    left = await asyncio.wait_for(reader.read(), 4)
    writer.close()
    return left


def test_a_connection_too_many_is_refused_in_words(station: Station) -> None:
    app = create_app(station)
    config = uvicorn.Config(app, port=0, http=Few, lifespan="off", log_config=None)

    async def go() -> dict[str, Any]:
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        (first, a), (second, b) = await asked(port, "/api/me"), await asked(port, "/api/me")
        third, c = await asked(port, "/api/recipes")
        page, d = await asked(port, "/history")
        a.close()
        b.close()
        await asyncio.sleep(0.1)
        later, e = await asked(port, "/api/recipes")
        silent, f = await asyncio.open_connection("127.0.0.1", port)
        ended = await asyncio.wait_for(silent.read(), 5)
        for each in (c, d, e, f):
            each.close()
        await asyncio.sleep(0.1)
        slow = await begun_again(port)
        await server.shutdown()
        return {
            "first": [first, second],
            "third": third,
            "page": page,
            "later": later,
            "silent": ended,
            "slow": slow,
        }

    # Not in this thread: a browser's test may have a loop in it.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(asyncio.run, go()).result(60)
    assert all(" 200 " in each for each in found["first"])
    head, _, body = found["third"].partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503") and "retry-after: 2" in head.lower()
    assert json.loads(body)["error"]["code"] == "too_many_connections"
    assert " 503 " in found["page"] and "<main" in found["page"]
    assert " 200 " in found["later"]
    assert found["silent"] == b""  # closed, as nothing was asked
    assert found["slow"] == b""  # nor with half a request after a whole one
