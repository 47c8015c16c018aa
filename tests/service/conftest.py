"""A station with a model that opens at once, and clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from makellos.service.app import create_app
from makellos.service.queue import NewPart
from makellos.service.station import Settings, Station
from makellos.store import Store

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"  # noqa: S105


class Clock:
    """Give a time that tests set, in microseconds."""

    def __init__(self) -> None:
        self.now = 1_790_000_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = Store.open(tmp_path / "station", clock=clock, hasher=CHEAP)
    yield opened
    opened.close()


@pytest.fixture
def build(store: Store, clock: Clock, toy_model: Path) -> Iterator[Callable[..., Station]]:
    """Return what makes a station with the toy model, with some settings."""
    made: list[Station] = []

    def make(*, model: Path | None = toy_model, **settings: object) -> Station:
        station = Station(store, Settings(**settings), clock)
        if model is not None and not station.pool.names():
            station.add_model(model, person="test", recipe="toy")
        made.append(station)
        return station

    yield make
    for station in made:
        station.close()


@pytest.fixture
def station(build: Callable[..., Station]) -> Station:
    return build()


def client_of(station: Station, **headers: str) -> TestClient:
    return TestClient(
        create_app(station),
        base_url="http://localhost",
        headers=headers,
        raise_server_exceptions=False,
        follow_redirects=False,
    )


@pytest.fixture
def client(station: Station) -> TestClient:
    return client_of(station)


@pytest.fixture
def connect() -> Callable[..., TestClient]:
    return client_of


def png(seed: int = 0, side: int = 32, spot: bool = False) -> bytes:
    """Return a gray picture as the toy detector knows it, with or without a spot."""
    picture = np.random.default_rng(seed).integers(90, 110, (side, side)).astype(np.uint8)
    if spot:
        picture[8:16, 8:16] = 250
    return bytes(cv2.imencode(".png", picture)[1])


@pytest.fixture
def picture() -> Callable[..., bytes]:
    return png


@pytest.fixture
def log_in(store: Store) -> Callable[..., TestClient]:
    """Return what gives a client the session of a person, with its CSRF token or without."""

    def act(client: TestClient, name: str, role: str, *, csrf: bool = True) -> TestClient:
        if all(each.name != name for each in store.people.list()):
            store.people.add(name, PASSWORD, role, by="test")
        session = store.people.begin_session(name, seconds=3600)
        client.cookies.set("makellos_session", session.token)
        if csrf:
            client.headers["X-CSRF-Token"] = session.csrf
        return client

    return act


@pytest.fixture
def judged(station: Station, picture: Callable[..., bytes]) -> Station:
    """Return a station that has inspected a good part and a spotted one."""
    parts = [
        NewPart("a.png", picture(1), serial="A-1", lot="L-7"),
        NewPart("=b.png", picture(2, spot=True), serial="A-2"),
    ]
    for part in parts:
        station.judge("toy", [part])
    return station
