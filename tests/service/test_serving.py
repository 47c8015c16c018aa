"""The verb serve as a process: what it says, how it stops, what a kill leaves."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from makellos.store import Store

BOUNDARY = "boundary"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@pytest.fixture
def serve(tmp_path: Path, toy_model: Path) -> Iterator[Callable[[], Any]]:
    """Return what starts a station on a free port and gives its process, address and words."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str, list[str]]:
        command = [sys.executable, "-m", "makellos", "serve", str(toy_model), "--port", "0"]
        process = subprocess.Popen(
            [*command, "--store", str(tmp_path / "station")],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        started.append(process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith("Stop with"):
                break
        return process, said[0].split()[1], said

    yield start
    for process in started:
        process.kill()
        process.communicate()


def post(address: str, content: bytes, key: str) -> int:
    """Post a part and return the number under which it is stored."""
    head = 'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = f"--{BOUNDARY}\r\n{head}".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Idempotency-Key": key,
    }
    request = urllib.request.Request(f"{address}/api/inspections", body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return int(json.load(answer)["inspections"][0]["id"])


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_says_where_everything_is_and_stops_cleanly(
    serve: Callable[[], Any],
    picture: Callable[..., bytes],
    tmp_path: Path,
    sign: int,
    hears_interrupts: None,
) -> None:
    process, address, said = serve()
    assert said[0] == f"Open {address} in a browser."
    assert "Recipes: toy (version 1)" in said
    assert f"Pictures, maps and models: {tmp_path / 'station'}" in said
    assert post(address, picture(), "1") == 1
    listener = urllib.request.urlopen(f"{address}/api/events", timeout=30)  # noqa: S310
    process.send_signal(sign)
    rest, _ = process.communicate(timeout=30)
    listener.close()
    assert process.returncode == 0
    assert rest == "Stopped. Everything that was accepted is stored.\n"


def test_what_was_answered_before_a_kill_is_stored_once(
    serve: Callable[[], Any], picture: Callable[..., bytes], tmp_path: Path
) -> None:
    answered: dict[str, int] = {}

    def client(number: int, address: str) -> None:
        for n in range(1000):
            try:
                key = f"{number}-{len(answered)}-{n}"
                answered[key] = post(address, picture(n), key)
            except (OSError, http.client.HTTPException):  # killed before or amid an answer
                return

    for round_ in range(2):
        process, address, _ = serve()
        clients = [
            threading.Thread(target=client, args=(2 * round_ + n, address)) for n in range(2)
        ]
        for each in clients:
            each.start()
        threading.Event().wait(0.6)
        process.kill()
        for each in clients:
            each.join(30)
    assert len(answered) > 4
    store = Store.open(tmp_path / "station")
    try:
        known = store.known([f"api:{key}:0" for key in answered])
        assert known == {f"api:{key}:0": number for key, number in answered.items()}
        for number in answered.values():
            stored = store.inspection(number)
            assert stored.picture is not None
            assert store.picture(stored.picture) is not None
    finally:
        store.close()
