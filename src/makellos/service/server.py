"""The station as a running server: where it may listen, how it starts and how it stops."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from makellos.errors import ConfigurationError
from makellos.inspection.model_file import read_model
from makellos.service.app import create_app
from makellos.service.connections import LimitedProtocol
from makellos.service.retaining import forgetting
from makellos.service.station import Settings, Station
from makellos.store import Store

__all__ = [
    "address_of",
    "check_address",
    "hosts_of",
    "is_local",
    "listening",
    "open_station",
    "run",
    "told",
]

_PATIENCE = 10  # seconds in which requests may finish when the server stops


def is_local(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hosts_of(host: str) -> tuple[str, ...]:
    """Return the names by which a browser on this machine may call the station."""
    own = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", own.lower()]))


def check_address(store: Store, host: str, add: str) -> None:
    """Raise `ConfigurationError` where others could use the station and nobody has a password.

    `add` is the command that adds a person.
    """
    if not is_local(host) and not store.people.any():
        raise ConfigurationError(
            f"On {host} everybody on the network reaches the station, and there is no user yet. "
            f"Add an administrator first: {add}. Or leave out --host to use it here alone."
        )


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises `ConfigurationError` where that is refused."""
    name = host.strip("[]")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=256)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)  # its own text repeats the address
        reason = os.strerror(number) if number and number > 0 else str(error)
        raise ConfigurationError(
            f"The station cannot listen on {host}, port {port}: {reason}. Choose another port with "
            "--port, or stop the program that uses it."
        ) from None


def address_of(host: str, listener: socket.socket) -> str:
    """Return the address for a browser."""
    shown = f"[{host}]" if ":" in host and "[" not in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def open_station(store: Store, host: str, models: Sequence[Path]) -> Station:
    """Return a station for an address, with each model as the active version of its recipe.

    The recipe has the name of the file. Raises `ModelFileError` for a file that is no model.
    """
    station = Station(store, Settings(local=is_local(host), hosts=hosts_of(host)))
    try:
        for path in models:
            read_model(path)  # says what is wrong with it
            with path.open("rb") as stream:
                model_hash = hashlib.file_digest(stream, "sha256").hexdigest()
            active = {each.name: each.model_hash for each in store.recipes.all_active()}
            if active.get(path.stem) != model_hash:
                station.add_model(path, person="serve", recipe=path.stem)
    except BaseException:
        station.close()
        raise
    return station


def told(station: Station, where: str) -> list[str]:
    """Return lines that say where to open the browser, and what is kept where."""
    store = station.store
    names = [f"{each.recipe.name} (version {each.recipe.version})" for each in station.pool.all()]
    lines = [
        f"Open {where} in a browser.",
        f"Recipes: {', '.join(names) or 'none yet; the web page leads to the first one'}",
        *(f"Recipe {name} cannot be used: {why}" for name, why in station.pool.failed.items()),
        f"History: {store.address}",
        f"Pictures, maps and models: {store.folder}",
    ]
    if not station.settings.local:
        lines.append(
            "Without TLS, passwords can be read in transit: put a proxy in front of the station."
        )
    return [*lines, "Stop with Ctrl-C."]


class _Server(uvicorn.Server):
    """End streams of events when it stops: the server waits for all requests.

    `started` is called when it takes requests, and signals.
    """

    def __init__(
        self, config: uvicorn.Config, station: Station, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._station, self._started = station, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets=sockets)
        self._started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear signals for as long as the server runs; they end it and nothing else."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [signal.SIGINT, signal.SIGTERM]
        if sys.platform == "win32":
            heard.append(signal.SIGBREAK)
        before = {each: signal.signal(each, self.handle_exit) for each in heard}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell listeners and long work to end, and wait for what is being answered."""
        self._station.stop()
        await super().shutdown(sockets=sockets)


def _was_no_cancelling(record: logging.LogRecord) -> bool:
    """Tell whether a record says more than that a request was given up when the server stopped."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError)


def run(station: Station, listener: socket.socket, *, started: Callable[[], None]) -> None:
    """Serve until a signal says stop, and finish what is being answered; the station stays open."""
    app = create_app(station)
    logging.getLogger("uvicorn.error").addFilter(_was_no_cancelling)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=LimitedProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,  # a proxy that ends TLS runs on this machine
        forwarded_allow_ips="127.0.0.1",
        timeout_graceful_shutdown=_PATIENCE,
        timeout_keep_alive=30,
        backlog=256,
    )
    try:
        with forgetting(station.store):
            _Server(config, station, started).run(sockets=[listener])
    finally:
        app.state.processes.close()
        app.state.candidates.close()
        listener.close()
