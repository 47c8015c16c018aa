"""Storage: replacing a file in one step, growing one, locking, and disks that say no.

A process that is killed while it writes leaves the old file whole, and at most a hidden
``.partial`` beside it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from makellos.errors import StorageError

__all__ = [
    "claim_file",
    "growing",
    "locked",
    "put_in_place",
    "replacing",
    "storage_errors",
    "write_bytes",
    "write_text",
]

ROOM = "Make room there, or choose another place."
_TRIES = 40  # to replace a file that another program has open for a moment, as Windows forbids
_TRY_SECONDS = 0.05
_LOOK_SECONDS = 0.2  # between two looks at a lock that is waited for


@contextmanager
def storage_errors(said: str, advice: str = ROOM) -> Iterator[None]:
    """Raise what the system refuses as a `StorageError`: what is `said`, the reason, the advice.

    A pipe whose reader has left is no storage: `BrokenPipeError` passes.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"{said}: {error.strerror or error}. {advice}") from error


def claim_file(path: Path, is_ours: Callable[[Path], bool], foreign: str) -> None:
    """Raise `StorageError` before long work where `path` cannot be written or is another's.

    A file that is there must be one that `is_ours`; `foreign` says what it is otherwise ("holds no
    JSON"). Folders on the way are made. A device or a pipe may be written.
    """
    with storage_errors(_unwritten(path)):
        if path.is_dir():
            raise StorageError(f"{path} is a folder. Give the name of a file in it.")
        if path.is_file() and not is_ours(path):
            raise StorageError(
                f"{path} exists and {foreign}; it is left alone. Choose another name, or remove it."
            )
        with storage_errors(f"{_unwritten(path)}: {path.parent} cannot be made"):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_device(path):
            with _partial(path).open("wb"):
                pass
            _partial(path).unlink()


@contextmanager
def replacing(path: Path, advice: str = ROOM, *, suffix: str = "") -> Iterator[BinaryIO]:
    """Give a stream whose content takes the place of `path` in one step, when it is on the disk.

    Whatever goes wrong, `path` stays as it was and nothing is left beside it. A device or a pipe is
    written as it is. `OSError` in the body, too, becomes a `StorageError` with `advice`. The file
    that is written first has the name ``stream.name``, which ends in `suffix`.
    """
    with storage_errors(_unwritten(path), advice):
        if _is_device(path):
            with path.open("wb") as stream:
                yield stream
            return
        partial = _partial(path, suffix)
        try:
            with partial.open("wb") as stream:
                yield stream
            put_in_place(partial, path)
        finally:
            with suppress(OSError):
                partial.unlink()


def write_bytes(path: Path, data: bytes, advice: str = ROOM) -> None:
    """Write a file in one step; raises as `replacing` does."""
    with replacing(path, advice) as stream:
        stream.write(data)


def write_text(path: Path, text: str, advice: str = ROOM) -> None:
    """Write text as UTF-8 in one step, with `?` for what that cannot hold, as in odd file names."""
    write_bytes(path, text.encode("utf-8", errors="replace"), advice)


@contextmanager
def growing(path: Path, advice: str = ROOM) -> Iterator[Callable[[str], None]]:
    """Give a function that adds text to a file, which takes the place of `path` at the end.

    So it does after an error or an interrupt, unless nothing was written by then. Text is on its
    way to the disk when the function returns; code points that UTF-8 cannot hold are written as
    escapes. A device or a pipe is written as it is. Raises `StorageError`.
    """
    with storage_errors(_unwritten(path), advice):
        place = path if _is_device(path) else _partial(path)
        stream = place.open("w", encoding="utf-8", errors="backslashreplace", newline="")

    def write(text: str) -> None:
        with storage_errors(_unwritten(path), advice):
            stream.write(text)
            stream.flush()

    try:
        yield write
    finally:
        with suppress(OSError):  # told when it was written
            stream.close()
        if place != path:
            with storage_errors(f"{path} cannot be replaced", f"What was written is in {place}."):
                if place.stat().st_size:
                    put_in_place(place, path)
                else:
                    place.unlink()


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a file that is written and closed to `path`, once it is on the disk."""
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    for left in reversed(range(_TRIES)):
        try:
            partial.replace(path)
        except PermissionError:
            if not left:
                raise
            time.sleep(_TRY_SECONDS)
        else:
            return


@contextmanager
def locked(
    path: Path, busy: str, *, wait: Callable[[str], None] | None = None
) -> Iterator[BinaryIO]:
    """Lock the file `path`, which is made and stays, for as long as the context lasts; give it.

    The lock is the system's own: it ends with the process, however that ends, unless a process that
    was started with the file open still lives. Where another holds it `StorageError` says `busy`;
    with `wait` that is told `busy`, and the end of the lock is waited for.
    """
    folder = path.parent
    with storage_errors(f"Nothing can be written to {folder}", "Choose another folder."):
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
    with stream:
        if not _lock(stream, blocking=False):
            if wait is None:
                raise StorageError(busy)
            wait(busy)
            _lock(stream, blocking=True)
        yield stream


def _lock(stream: BinaryIO, *, blocking: bool) -> bool:
    from filelock import lock_descriptor

    try:
        return lock_descriptor(stream.fileno(), blocking=blocking, poll_interval=_LOOK_SECONDS)
    except OSError:
        return True  # some network drives know no locks


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _partial(path: Path, suffix: str = "") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial{suffix}")


def _unwritten(path: Path) -> str:
    return f"{path} cannot be written"
