"""A station that listens on this machine, for a browser in front of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from argon2 import PasswordHasher

from makellos.service.app import create_app
from makellos.service.station import Settings, Station
from makellos.store import Store

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
PASSWORD = "a long password of tests"  # noqa: S105
# Stands in names, serial numbers, lots, notes: nowhere may it be more than text.
SCRIPT = "<img src=x onerror=window.owned=1><script>window.owned=1</script>"


@dataclass(frozen=True)
class Served:
    """Hold a station that listens, and its address."""

    station: Station
    address: str

    @property
    def store(self) -> Store:
        return self.station.store


@contextmanager
def listening(store: Store) -> Iterator[Served]:
    """Serve a station with a store on a free port of this machine."""
    station = Station(store, Settings(local=True, rate=10_000, burst=10_000, heartbeat=1.0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            create_app(station), log_level="warning", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Served(station, f"http://127.0.0.1:{listener.getsockname()[1]}")
        station.close()
        server.should_exit = True
        thread.join(10)
    store.close()


def cheap_store(folder: Path) -> Store:
    return Store.open(folder, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
