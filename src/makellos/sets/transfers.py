"""Download one file over HTTP, going on where a connection broke off."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urljoin

from makellos.data.progress import Progress, no_progress
from makellos.data.threads import in_time
from makellos.errors import StorageError
from makellos.sets.public_sets import RemoteFile
from makellos.storage import put_in_place, write_text

if TYPE_CHECKING:
    from requests import Response

__all__ = ["Sleep", "download"]

Sleep = Callable[[float], None]

CHUNK = 256 * 1024
CONNECT_S = 15.0
READ_S = 60.0
# A connection that brought bytes is worth another at once; three that brought none are not.
MAX_IDLE = 3
# Less than this in so many seconds is a server that only pretends to send.
LEAST = 64 * 1024
SLOW_S = 60.0
MAX_ATTEMPTS = 100
PAUSE_S = 1.0

_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})  # too slow, too often, or out of order
_VERSION = ("etag", "last_modified", "total")
_LENGTH = re.compile(r"[0-9]{1,15}")
_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
_MAX_REDIRECTS = 10
_SHOWN = 200  # letters of what a server or a library says


class _InterruptedError(Exception):
    """Say why a connection ended before the file was whole; another one may help."""


class _TooSlowError(_InterruptedError):
    """Say that a connection brings next to nothing, and would for ever."""


class _RefusedError(Exception):
    """Say why the server will not give the file, however often it is asked."""


class _TooLargeError(_RefusedError):
    """Say that what comes cannot be the file."""


def download(
    file: RemoteFile, target: Path, *, progress: Progress = no_progress, sleep: Sleep = time.sleep
) -> None:
    """Download a file to `target`, going on with what an earlier call has left.

    Unfinished, the file is `NAME.part`, and `NAME.part.json` beside it says which version of it
    the server had. Where the server gives no ranges, or has another version by now, it starts anew.

    Raises
    ------
    StorageError : where the server is not reached, refuses, breaks off time and again, sends next
        to nothing, or sends more than the file can be.
    OSError : where `target` cannot be written.
    """
    part = _Part(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    idle = 0
    reason: Exception = _InterruptedError("it was never complete")
    for _ in range(MAX_ATTEMPTS):
        before = part.size()
        try:
            _transfer(file, part, progress)
        except _RefusedError as error:
            reason = error
            break
        except _InterruptedError as error:
            reason = error
            brought = part.size() > before and not isinstance(error, _TooSlowError)
            idle = 0 if brought else idle + 1
            if idle == MAX_IDLE:
                break
            sleep(PAUSE_S * 2**idle if idle else 0)
        else:
            part.finish()
            return
    raise StorageError(f"Cannot download {file.address}: {reason}.") from reason


class _Part:
    """Keep the unfinished part of a file, and what the server said of the whole."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f"{target.name}.part")
        self._state = target.with_name(f"{target.name}.part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def state(self, address: str) -> dict[str, str]:
        """Return what is known of the version that was begun, nothing where it cannot go on."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(state, dict) or state.get("address") != address:
            return {}
        known = {key: str(state.get(key, "")) for key in _VERSION}
        known["total"] = known["total"] if _LENGTH.fullmatch(known["total"]) else ""
        # With nothing known of the version, nothing tells whether the rest belongs to it.
        return known if any(known.values()) else {}

    def begin(self, state: Mapping[str, str]) -> None:
        self.drop()
        write_text(self._state, json.dumps(dict(state), indent=1))

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def finish(self) -> None:
        self.path.touch()
        put_in_place(self.path, self._target)
        self._state.unlink(missing_ok=True)


def _transfer(file: RemoteFile, part: _Part, progress: Progress) -> None:
    """Ask once for what is missing of a file and append what comes."""
    state = part.state(file.address)
    start = part.size() if state else 0
    if start and state["total"] == str(start):
        return
    with _connection(file.address, _range_headers(start, state)) as response:
        seen = _server_state(file.address, response)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and start:
            if not _continues(response, start, state, seen):
                part.drop()
                raise _InterruptedError("the file on the server has changed")
        elif response.status_code == HTTPStatus.OK:
            start = 0
            part.begin(seen)
        else:
            _raise_for(part, response)
        total = int(seen["total"] or (start and state["total"]) or 0) or None
        try:
            done = _append(response, file, part, start, total, progress)
        except _TooLargeError:
            part.drop()
            raise
    if total is not None and done != total:
        if done > total:
            part.drop()
        raise _InterruptedError(f"{done} of {total} bytes arrived")


def _append(
    response: Response,
    file: RemoteFile,
    part: _Part,
    done: int,
    total: int | None,
    progress: Progress,
) -> int:
    """Append what comes to the `done` bytes of a part and return how many it has then."""
    if max(done, total or 0) > file.largest:
        raise _TooLargeError(f"the server offers {total or done:,} bytes{_at_most(file)}")
    since, before = time.monotonic(), done
    with part.path.open("ab") as sink:
        for block in _blocks(response):
            sink.write(block)
            done += len(block)
            progress(f"download {file.name}", done, total)
            if total is not None and done > total:
                break
            if done > file.largest:
                raise _TooLargeError(f"the server sends without end{_at_most(file)}")
            if time.monotonic() - since > SLOW_S:
                if done - before < LEAST:
                    raise _TooSlowError(f"only {done - before:,} bytes arrived in {SLOW_S:.0f} s")
                since, before = time.monotonic(), done
    return done


def _at_most(file: RemoteFile) -> str:
    return f", and {file.name} has fewer than {file.largest:,}"


def _range_headers(start: int, state: Mapping[str, str]) -> dict[str, str]:
    # Packed on the way, ranges would count packed bytes.
    headers = {"Accept-Encoding": "identity", "User-Agent": "makellos"}
    if start:
        headers["Range"] = f"bytes={start}-"
        # A weak ETag allows differences in bytes and is not accepted for a range.
        etag = "" if state["etag"].startswith("W/") else state["etag"]
        if etag or state["last_modified"]:
            headers["If-Range"] = etag or state["last_modified"]
    return headers


@contextmanager
def _connection(address: str, headers: Mapping[str, str]) -> Iterator[Response]:
    from requests import RequestException

    try:
        response = in_time(partial(_answer, address, headers), CONNECT_S + READ_S)
    except TimeoutError as error:
        raise _TooSlowError(f"no answer arrived in {CONNECT_S + READ_S:.0f} s") from error
    except (RequestException, ValueError) as error:  # urllib3 lets some odd addresses through
        raise _InterruptedError(f"the server was not reached ({_root(error)})") from error
    try:
        yield response
    except _TooSlowError:
        raise  # closing would wait for what does not come
    except BaseException:
        response.close()
        raise
    response.close()


def _answer(address: str, headers: Mapping[str, str]) -> Response:
    """Return the answer of the last of several addresses, whose bodies are left unread."""
    import requests

    for _ in range(_MAX_REDIRECTS):
        response = requests.get(
            address,
            headers=headers,
            stream=True,
            timeout=(CONNECT_S, READ_S),
            allow_redirects=False,
        )
        if not response.is_redirect:
            return response
        address = urljoin(address, response.headers["Location"])
        response.close()
    raise requests.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects")


def _blocks(response: Response) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    # The raw stream: some servers label a .gz file as packed, and it must arrive as it is.
    read = partial(response.raw.read1, CHUNK, decode_content=False)
    try:
        while block := in_time(read, READ_S + SLOW_S):
            yield block
    except TimeoutError as error:
        raise _TooSlowError(f"nothing arrived in {READ_S + SLOW_S:.0f} s") from error
    except (HTTPError, ConnectionError) as error:
        raise _InterruptedError(f"the connection was lost ({_root(error)})") from error


def _root(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return _shortened(str(error))


def _shortened(said: str) -> str:
    """Return what a server said as it can be shown: printable, and so long and no longer."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in said)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _server_state(address: str, response: Response) -> dict[str, str]:
    """Return what the server says of the whole file; empty where it says nothing."""
    length = response.headers.get("Content-Length", "")
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        length = found[2] if found else ""
    return {
        "address": address,
        "etag": response.headers.get("ETag", ""),
        "last_modified": response.headers.get("Last-Modified", ""),
        "total": length if _LENGTH.fullmatch(length) else "",
    }


def _continues(
    response: Response, start: int, state: Mapping[str, str], seen: Mapping[str, str]
) -> bool:
    """Say whether a partial answer continues the version that was begun."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    changed = any(state[key] and seen[key] and state[key] != seen[key] for key in _VERSION)
    return found is not None and int(found[1]) == start and not changed


def _raise_for(part: _Part, response: Response) -> NoReturn:
    answer = f"the server answered {response.status_code} {_shortened(response.reason or '')}"
    if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.drop()
        raise _InterruptedError(answer)
    if response.status_code in _TRY_AGAIN:
        raise _InterruptedError(answer)
    raise _RefusedError(answer)
