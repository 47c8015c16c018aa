"""Who may do what: every route of the app with every role, sessions, tokens, logins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.formparsers import MultiPartParser
from starlette.routing import BaseRoute, Mount, Route

from makellos.errors import InputError
from makellos.service.access import PUBLIC, Needs
from makellos.service.access import log_in as log_in_here
from makellos.service.app import create_app
from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.service.throttle import Rate
from makellos.store import ROLES, Store

# What each route takes; a route that is not here fails the test.
ROLE_OF = {
    "POST /api/inspections": "operator",
    "GET /api/inspections": "viewer",
    "GET /api/inspections/{number}": "viewer",
    "GET /api/inspections/{number}/picture": "viewer",
    "GET /api/inspections/{number}/map.png": "viewer",
    "GET /api/inspections/{number}/overlay.png": "viewer",
    "GET /api/inspections/{number}/reviews": "viewer",
    "POST /api/inspections/{number}/reviews": "operator",
    "PUT /api/inspections/{number}/kept": "operator",
    "GET /api/recipes": "viewer",
    "POST /api/recipes/{name}/versions": "engineer",
    "POST /api/recipes/{name}/activate": "engineer",
    "POST /api/recipes/{name}/budget": "engineer",
    "POST /api/recipes/{name}/candidates": "engineer",
    "GET /api/candidates": "viewer",
    "GET /api/candidates/{number}": "viewer",
    "POST /api/candidates/{number}/compare": "engineer",
    "POST /api/candidates/{number}/release": "engineer",
    "POST /api/candidates/{number}/withdraw": "engineer",
    "GET /api/retention": "viewer",
    "PUT /api/retention": "engineer",
    "GET /api/regression-sets": "viewer",
    "POST /api/regression-sets": "engineer",
    "GET /api/models": "viewer",
    "POST /api/models": "engineer",
    "GET /api/counts": "viewer",
    "GET /api/drift/{recipe}": "viewer",
    "POST /api/drift/{recipe}/reset": "engineer",
    "GET /api/events": "viewer",
    "GET /api/me": "viewer",
    "POST /api/me/password": "viewer",
    "GET /api/people": "administrator",
    "POST /api/people": "administrator",
    "PATCH /api/people/{name}": "administrator",
    "GET /api/tokens": "administrator",
    "POST /api/tokens": "administrator",
    "DELETE /api/tokens/{name}": "administrator",
    "GET /api/audit": "administrator",
    "GET /api/audit/verify": "administrator",
    "GET /metrics": "viewer",
    "GET /api/openapi.json": "viewer",
    "GET /api/docs": "viewer",
}
PAGES = {
    "GET /": "viewer",
    "GET /live-part": "viewer",
    "GET /inspect": "operator",
    "GET /inspected": "operator",
    "GET /history": "viewer",
    "GET /history.csv": "viewer",
    "GET /history/{number}": "viewer",
    "POST /history/{number}/decision": "operator",
    "POST /history/{number}/keep": "operator",
    "GET /parts/{number}/view.jpg": "viewer",
    "GET /parts/{number}/heat.png": "viewer",
    "GET /parts/{number}/chart.png": "viewer",
    "GET /review": "operator",
    "POST /review/{number}/decision": "operator",
    "GET /agreement": "engineer",
    "GET /models": "viewer",
    "POST /models": "engineer",
    "GET /models/{name}": "viewer",
    "GET /models/{name}/budget": "viewer",
    "POST /models/{name}/budget": "engineer",
    "GET /models/{name}/budget/progress": "viewer",
    "POST /models/{name}/activate": "engineer",
    "GET /models/{name}/candidates": "viewer",
    "POST /models/{name}/candidates": "engineer",
    "POST /models/{name}/sets": "engineer",
    "GET /models/{name}/candidates/{number}": "viewer",
    "GET /models/{name}/candidates/{number}/state": "viewer",
    "POST /models/{name}/candidates/{number}/{act}": "engineer",
    "GET /drift": "viewer",
    "POST /drift/reset": "engineer",
    "GET /start": "operator",
    "POST /start/demo": "engineer",
    "POST /start/pictures": "engineer",
    "POST /start/fit": "engineer",
    "POST /start/examples": "operator",
    "GET /processes/{number}": "viewer",
    "POST /processes/stop": "engineer",
    "GET /people": "administrator",
    "POST /people": "administrator",
    "POST /people/role": "administrator",
    "POST /said": "viewer",
    "GET /account": "viewer",
    "POST /account/password": "viewer",
    "POST /people/password": "administrator",
    "POST /people/disabled": "administrator",
    "POST /people/tokens": "administrator",
    "POST /people/tokens/revoke": "administrator",
    "GET /audit": "administrator",
    "GET /retention": "viewer",
    "POST /retention": "engineer",
    "POST /logout": "viewer",
}
ROLE_OF |= PAGES
NOBODY = {"GET /healthz", "GET /readyz"}
ANYBODY = {"GET /login", "POST /login", "POST /language", "MOUNT /static"}
EFFECTS = {"POST /logout", "POST /start/demo"}  # the one ends the session, the other learns
STREAMS = {"GET /api/events"}


def routes_of(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, BaseRoute]]:
    """Yield every route with its method and path, however deep it lies."""
    for route in routes:
        below = getattr(route, "routes", None)
        if isinstance(route, Route):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield f"{method} {before}{route.path}", route
        elif isinstance(route, Mount) and not below:
            yield f"MOUNT {before}{route.path}", route
        else:
            inner = below if below is not None else route.original_router.routes
            yield from routes_of(list(inner), before + getattr(route, "path", ""))


def needed(route: BaseRoute) -> list[str]:
    """Return the roles that a route asks for."""
    assert isinstance(route, APIRoute)
    found, open_ = [], [route.dependant]
    while open_:
        each = open_.pop()
        open_ += each.dependencies
        if isinstance(each.call, Needs):
            found.append(each.call.role)
    return found


def all_routes(app: FastAPI) -> dict[str, BaseRoute]:
    return dict(routes_of(app.routes))


def test_every_route_asks_for_the_role_that_is_written_down(station: Station) -> None:
    found = all_routes(create_app(station))
    assert set(found) == set(ROLE_OF) | NOBODY | ANYBODY
    for name in set(ROLE_OF) | NOBODY:
        route = found[name]
        expected = [] if name in NOBODY else [ROLE_OF[name]]
        assert needed(route) == expected, name


def called(client: TestClient, name: str) -> int:
    method, path = name.split()
    filled = re.sub(r"\{[^}]+\}", "1", path)
    answer = client.request(method, filled)
    if answer.status_code == 403 and name not in PAGES:
        assert answer.json()["error"]["code"] == "forbidden"
    return answer.status_code


@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("way", ["session", "token"])
def test_a_role_reaches_what_it_may_and_nothing_else(
    station: Station,
    store: Store,
    client: TestClient,
    log_in: Callable[..., TestClient],
    role: str | None,
    way: str,
) -> None:
    store.people.add("boss", "a long password", "administrator", by="test")
    if role is not None and way == "session":
        log_in(client, "someone", role)
    elif role is not None:
        secret = store.people.add_token("machine", role, by="test")
        client.headers["Authorization"] = f"Bearer {secret}"
    for name in all_routes(create_app(station)).keys() - NOBODY - STREAMS - ANYBODY - EFFECTS:
        wanted = ROLE_OF[name]
        status = called(client, name)
        if role is None:
            assert status == (303 if name in PAGES else 401), name
        elif ROLES.index(role) < ROLES.index(wanted):
            assert status == 403, name
        else:
            assert status not in {401, 403}, name
            assert status < 500, name


def test_public_paths_need_nobody(client: TestClient, store: Store) -> None:
    store.people.add("boss", "a long password", "administrator", by="test")
    assert {name.split()[1] for name in NOBODY} <= PUBLIC
    for name in NOBODY:
        assert called(client, name) == 200


def test_alone_on_this_machine_everything_is_open_until_there_is_a_person(
    client: TestClient,
) -> None:
    assert client.get("/api/me").json()["name"] == "local"
    new = {"name": "ada", "password": "a long password", "role": "operator"}
    assert client.post("/api/people", json=new).status_code == 422
    new["role"] = "administrator"
    assert client.post("/api/people", json=new).status_code == 201
    assert client.get("/api/me").status_code == 401


def test_a_change_in_a_session_needs_its_token(
    client: TestClient, log_in: Callable[..., TestClient]
) -> None:
    log_in(client, "eve", "administrator", csrf=False)
    new = {"name": "press", "role": "operator"}
    assert client.get("/api/tokens").status_code == 200
    refused = client.post("/api/tokens", json=new)
    assert refused.json()["error"]["code"] == "csrf"
    wrong = client.post("/api/tokens", json=new, headers={"X-CSRF-Token": "guess"})
    assert wrong.json()["error"]["code"] == "csrf"
    token = client.get("/api/me").json()["csrf"]
    right = client.post("/api/tokens", json=new, headers={"X-CSRF-Token": token})
    assert right.status_code == 201


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "https://evil.example"}, "cross_origin"),
        ({"Origin": "null"}, "cross_origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_origin"),
        ({"Host": "evil.example"}, "unknown_host"),
        ({"X-Forwarded-For": "10.0.0.9"}, "unknown_host"),
    ],
)
def test_pages_of_others_and_proxies_do_not_get_in(
    client: TestClient, headers: dict[str, str], code: str
) -> None:
    answer = client.post("/api/tokens", json={"name": "x", "role": "viewer"}, headers=headers)
    assert answer.json()["error"]["code"] == code
    assert client.get("/api/tokens").json()["tokens"] == []


def test_a_page_of_the_station_itself_gets_in(client: TestClient) -> None:
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    new = {"name": "x", "role": "viewer"}
    assert client.post("/api/tokens", json=new, headers=own).status_code == 201


def test_a_revoked_token_and_a_locked_person_are_out(
    client: TestClient, store: Store, log_in: Callable[..., TestClient]
) -> None:
    log_in(client, "boss", "administrator")
    secret = client.post("/api/tokens", json={"name": "plc", "role": "operator"}).json()["token"]
    machine = {"Authorization": f"Bearer {secret}"}
    client.cookies.clear()
    assert client.get("/api/me", headers=machine).json()["name"] == "token plc"
    store.people.revoke_token("plc", by="test")
    assert client.get("/api/me", headers=machine).status_code == 401
    log_in(client, "ann", "viewer")
    assert client.get("/api/me").status_code == 200
    store.people.disable("ann", by="test")
    assert client.get("/api/me").status_code == 401


def test_the_last_administrator_stays(
    client: TestClient, log_in: Callable[..., TestClient]
) -> None:
    log_in(client, "boss", "administrator")
    for change in ({"role": "viewer"}, {"disabled": True}):
        answer = client.patch("/api/people/boss", json=change)
        assert "last administrator" in answer.json()["error"]["message"]


def test_too_fast_a_client_has_to_wait(
    build: Callable[..., Station], connect: Callable[..., TestClient], clock: Any
) -> None:
    station = build(rate=1.0, burst=2)
    station.rate = Rate(1.0, 2, clock)
    client = connect(station)
    assert [client.get("/api/recipes").status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/api/recipes").headers["Retry-After"] == "1"
    assert client.get("/healthz").status_code == 200
    clock.wait(1.1)
    assert client.get("/api/recipes").status_code == 200


@pytest.mark.parametrize("name", ["local", "Serve", "token plc"])
def test_nobody_has_a_name_that_the_audit_log_gives_to_others(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="another meaning in the audit log"):
        store.people.add(name, "a long password", "operator", by="test")


def test_the_first_person_is_an_administrator_on_the_page_too(
    client: TestClient, store: Store
) -> None:
    new = {"name": "ada", "password": "a long password", "role": "viewer"}
    assert client.post("/people", data=new).status_code == 422
    assert not store.people.any()
    assert client.post("/people", data=new | {"role": "administrator"}).status_code == 303


@pytest.mark.parametrize("path", ["/start/pictures", "/models", "/login"])
def test_files_for_a_page_are_not_read_from_who_has_not_logged_in(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    store.people.add("boss", "a long password", "administrator", by="test")
    monkeypatch.setattr(MultiPartParser, "parse", pytest.fail)
    client.cookies.set("makellos_session", "guessed")
    answer = client.post(path, files={"files": ("a.png", b"1" * 2_000_000)})
    assert answer.status_code in {303, 401}


def test_who_is_refused_keeps_the_menu(
    client: TestClient, log_in: Callable[..., TestClient]
) -> None:
    answer = log_in(client, "Ann", "viewer").get("/people")
    assert answer.status_code == 403
    assert 'href="/history"' in answer.text


def test_logins_sent_at_once_are_throttled_too(station: Station, store: Store) -> None:
    store.people.add("boss", "a long password", "administrator", by="test")
    request = Request({"type": "http", "client": ("10.0.0.9", 1), "headers": []})

    def refused(_number: int) -> str:
        with pytest.raises(Refusal) as caught:
            log_in_here(station, request, "boss", "wrong")
        return caught.value.code

    with ThreadPoolExecutor(20) as threads:
        codes = list(threads.map(refused, range(20)))
    assert codes.count("not_logged_in") == 5
    assert codes.count("login_throttled") == 15
