"""Servers that send without end, next to nothing, or what no server should say."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from makellos.errors import StorageError
from makellos.sets import transfers
from makellos.sets.public_sets import PUBLIC_SETS, RemoteFile
from makellos.sets.transfers import download

Pieces = Callable[[], Iterator[bytes]]
OK = b"HTTP/1.1 200 OK\r\n"
LIMIT = 1 << 20
# A connection that is given up is not closed: that would wait for what does not come.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Pieces], str]]:
    """Answer every connection with the pieces of bytes that a test gives, as long as it lasts."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONNECT_S", "READ_S", "SLOW_S"):
        monkeypatch.setattr(transfers, name, 0.3)
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def answer(pieces: Pieces) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(65536)
                for piece in pieces():
                    if ended.is_set():
                        break
                    connection.sendall(piece)

    def start(pieces: Pieces) -> str:
        threading.Thread(target=answer, args=(pieces,), daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/screw.tar.xz"

    yield start
    ended.set()
    listening.close()


def refusal(address: str, folder: Path) -> str:
    file = RemoteFile("screw.tar.xz", address, largest=LIMIT)
    begun = time.monotonic()
    with pytest.raises(StorageError) as raised:
        download(file, folder / "screw.tar.xz", sleep=lambda _: None)
    assert time.monotonic() - begun < 20
    assert not (folder / "screw.tar.xz").exists()
    return str(raised.value)


def slowly(piece: bytes) -> Iterator[bytes]:
    for _ in itertools.count():
        yield piece
        time.sleep(0.05)


def without_end() -> Iterator[bytes]:
    yield OK + b"\r\n"
    yield from itertools.repeat(bytes(1 << 16))


def chunks_without_end() -> Iterator[bytes]:
    yield OK + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from itertools.repeat(b"10000\r\n" + bytes(1 << 16) + b"\r\n")


@pytest.mark.parametrize("pieces", [without_end, chunks_without_end])
def test_a_body_without_end_is_given_up(
    serve: Callable[[Pieces], str], pieces: Pieces, tmp_path: Path
) -> None:
    said = refusal(serve(pieces), tmp_path)
    assert "sends without end, and screw.tar.xz has fewer than 1,048,576" in said
    assert not list(tmp_path.iterdir())


def test_a_length_that_cannot_be_is_given_up_at_once(
    serve: Callable[[Pieces], str], tmp_path: Path
) -> None:
    said = refusal(serve(lambda: iter([OK + b"Content-Length: 3221225472\r\n\r\n"])), tmp_path)
    assert "offers 3,221,225,472 bytes, and screw.tar.xz has fewer" in said


@pytest.mark.parametrize("length", [b"9" * 5000, b"-1", b"\xb2", b"1e9", b"1, 2"])
def test_a_length_that_is_no_number_says_nothing(
    serve: Callable[[Pieces], str], length: bytes, tmp_path: Path
) -> None:
    address = serve(lambda: iter([OK + b"Content-Length: " + length + b"\r\n\r\nhello"]))
    file = RemoteFile("screw.tar.xz", address)
    with suppress(StorageError):  # a length below 0 breaks the answer off
        download(file, tmp_path / "x", sleep=lambda _: None)
        assert (tmp_path / "x").read_bytes() == b"hello"


def test_a_range_of_thousands_of_digits_says_nothing(
    serve: Callable[[Pieces], str], tmp_path: Path
) -> None:
    digits = b"9" * 5000
    head = b"HTTP/1.1 206 Partial\r\nETag: a\r\nContent-Range: bytes " + digits + b"-9/" + digits
    (tmp_path / "screw.tar.xz.part").write_bytes(b"hel")
    address = serve(lambda: iter([head + b"\r\n\r\nlo"]))
    state = f'{{"address": "{address}", "etag": "a", "total": "{"9" * 5000}"}}'
    (tmp_path / "screw.tar.xz.part.json").write_text(state, encoding="utf-8")
    assert "Cannot download" in refusal(address, tmp_path)


DRIPS = {
    "body": OK + b"Content-Length: 99999\r\n\r\n",
    "size of a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n",
    "headers": OK + b"X-Long: ",
    "status": b"HTTP/1.1 ",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 99999\r\n\r\n",
}


@pytest.mark.parametrize("head", DRIPS.values(), ids=DRIPS)
def test_a_drip_is_given_up(serve: Callable[[Pieces], str], head: bytes, tmp_path: Path) -> None:
    said = refusal(serve(lambda: itertools.chain([head], slowly(b"1"))), tmp_path)
    assert any(why in said for why in ("arrived in", "redirects", "was lost", "not reached")), said


def test_what_a_server_says_is_shown_short_and_without_control_characters(
    serve: Callable[[Pieces], str], tmp_path: Path
) -> None:
    head = b"HTTP/1.1 404 \x1b[31m" + b"no" * 5000 + b"\r\n\r\n"
    said = refusal(serve(lambda: iter([head])), tmp_path)
    assert "\x1b" not in said
    assert len(said) < 600


def test_every_set_has_a_limit() -> None:
    files = [file for entry in PUBLIC_SETS.values() for file in entry.files]
    assert all(256 << 20 <= file.largest <= 8 << 30 for file in files)
