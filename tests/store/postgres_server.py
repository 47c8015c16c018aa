"""A PostgreSQL server for tests and benchmarks, of its own, on a loopback port.

It runs in a new folder for temporary files, as the user ``postgres`` where root starts it, because
it refuses to run as root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_database", "running", "server_programs"]


def server_programs() -> Path | None:
    """Return the folder of the newest server's programs; None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


@contextmanager
def running(programs: Path, *, durable: bool = False) -> Iterator[str]:
    """Give the address of a server, without a database's name, until the context ends.

    One that is not `durable` may forget what it confirmed when the machine loses power.
    """
    account = "postgres" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="makellos-postgres-"))
    try:
        if account is not None:
            shutil.chown(folder, account)

        def call(program: str, *words: str) -> None:
            subprocess.run(
                [str(programs / program), *words],
                check=True,
                user=account,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=120,
            )

        data, port = folder / "data", _free_port()
        call("initdb", "-D", str(data), "-U", "station", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories=''"
        if not durable:
            options += " -c fsync=off -c full_page_writes=off"
        log = ("-l", str(folder / "log"))
        call("pg_ctl", "-D", str(data), "-w", "-t", "60", *log, "-o", options, "start")
        try:
            yield f"postgresql://station@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(server: str) -> str:
    """Make an empty database on a server and return its address."""
    import psycopg

    name = f"station_{secrets.token_hex(6)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
