"""Stores to test, empty: in SQLite, and in PostgreSQL."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from argon2 import PasswordHasher
from postgres_server import new_database, running, server_programs

from makellos.inspection import Inspection
from makellos.store import NewInspection, Store

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
START = 1_790_000_000_000_000


class Ticking:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1_000_000
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


DATABASES = ["sqlite", *(["postgresql"] if importlib.util.find_spec("psycopg") else [])]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the address of a PostgreSQL server that runs for these tests alone."""
    pytest.importorskip("psycopg")
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    with running(programs) as address:
        yield address


@pytest.fixture(params=DATABASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return where an empty store is: what `Store.open` takes, for each kind of database."""
    folder = tmp_path / "station"
    if request.param == "sqlite":
        return {"address": folder}
    return {"address": new_database(request.getfixturevalue("postgres")), "pictures": folder}


@pytest.fixture
def opened(place: dict[str, Any], clock: Ticking) -> Iterator[Callable[..., Store]]:
    """Return a function that opens the same store each time."""
    stores = []

    def open_store(**options: Any) -> Store:
        options = {"clock": clock, "hasher": CHEAP, **place, **options}
        stores.append(Store.open(**options))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[..., Store]) -> Store:
    return opened()


@pytest.fixture
def part() -> Callable[..., NewInspection]:
    """Return a function that makes a part to store, whose picture and map follow its number."""

    def make(number: int = 1, *, verdict: str = "ok", **options: Any) -> NewInspection:
        found: dict[str, Any] = options.pop("found", {})
        drawn = np.full((4, 6), number, np.float32)
        found = {"score": 1.5, "p_value": 0.25, "threshold": 2.0, "anomaly_map": drawn, **found}
        name = options.pop("name", f"part {number}.png")
        return NewInspection(
            **{
                "inspection": Inspection(name, verdict, **found),
                "recipe": "screws",
                "recipe_version": 1,
                "model_hash": "0" * 64,
                "picture": b"picture %d" % number,
                **options,
            }
        )

    return make
