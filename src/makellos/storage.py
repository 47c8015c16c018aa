"""Storage: replacing a file in one step, growing one, locking, and disks that say no.

What is written goes into a hidden file ``.NAME.….partial`` first, which no other process has: two
that write the same file do not meet, and a link that somebody laid there is not followed. A process
that is killed leaves the old file whole, and at most such a file or a folder for temporary files;
the next one that writes there removes what no living process holds.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

if sys.platform != "win32":
    import fcntl

from makellos.errors import StorageError, legible

__all__ = [
    "cell",
    "claim_file",
    "claim_folder",
    "growing",
    "locked",
    "put_in_place",
    "replacing",
    "scratch_folder",
    "storage_errors",
    "write_bytes",
    "write_out",
    "write_text",
]

ROOM = "Make room there, or choose another place."
_TRIES = 40  # to replace a file that another program has open for a moment, as Windows forbids
_TRY_SECONDS = 0.05
_LOOK_SECONDS = 0.2  # between two looks at a lock that is waited for
_SHOWN = 40  # letters of a name in that of its partial file, which must not be too long
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 -- these count as well
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{12}\.partial(\.\w+)?", re.DOTALL)
_SCRATCH, _MARK = "makellos-", "in-use"  # folders for temporary files, and what is locked in them


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
        with storage_errors(f"{_unwritten(path)}: {path.parent} cannot be created"):
            path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_device(path):
            _sweep(path.parent)
            with _draft(path):
                pass


def claim_folder(path: Path) -> None:
    """Raise `StorageError` before long work where no file can be written to a folder; make it."""
    with storage_errors(f"Nothing can be written to {path}", "Choose another folder."):
        path.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with _draft(path / "a"):
            pass


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
        _sweep_once(path.parent)
        with _draft(path, suffix) as draft:
            yield draft.stream
            draft.put(path)


def write_bytes(path: Path, data: bytes, advice: str = ROOM) -> None:
    """Write a file in one step; raises as `replacing` does."""
    with replacing(path, advice) as stream:
        stream.write(data)


def write_text(path: Path, text: str, advice: str = ROOM) -> None:
    """Write text as UTF-8 in one step, with `?` for what that cannot hold, as in odd file names."""
    write_bytes(path, text.encode("utf-8", errors="replace"), advice)


def cell(value: Any) -> Any:
    """Return a value of a table so that no spreadsheet takes it for a formula.

    >>> cell("=1+1"), cell("-.png"), cell(-1.5), cell("a=b")
    ("'=1+1", "'-.png", -1.5, 'a=b')
    """
    if not isinstance(value, str):
        return value
    text = legible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_out(text: str) -> None:
    """Write data to standard output; raises `StorageError` where it does not take them."""
    with storage_errors("Standard output cannot be written", "Name a file instead of -."):
        if sys.stdout is None:
            raise OSError("it is closed")
        sys.stdout.write(text)
        sys.stdout.flush()
        if (lost := getattr(sys.stdout, "lost", None)) is not None:
            raise lost


@contextmanager
def growing(path: Path, advice: str = ROOM) -> Iterator[Callable[[str], None]]:
    """Give a function that adds text to a file, which takes the place of `path` at the end.

    So it does after an error or an interrupt, unless nothing was written by then. Text is on its
    way to the disk when the function returns; code points that UTF-8 cannot hold are written as
    escapes. A device or a pipe is written as it is. Raises `StorageError`.
    """
    with ExitStack() as stack:
        with storage_errors(_unwritten(path), advice):
            draft = None
            if _is_device(path):
                stream = stack.enter_context(path.open("wb", buffering=0))
            else:
                _sweep(path.parent)
                draft = stack.enter_context(_draft(path, buffering=0))
                stream = cast(FileIO, draft.stream)
        rows = _Rows(stream, _unwritten(path), advice)
        try:
            yield rows.write
        finally:
            if draft is not None and rows.written:
                told = f"What was written is in {stream.name}."
                with storage_errors(f"{path} cannot be replaced", told):
                    draft.keep = True
                    _surely(partial(draft.put, path), partial(draft.put, path, again=True))


@dataclass
class _Rows:
    """Add texts to a file, each as a whole or not at all."""

    stream: FileIO
    said: str
    advice: str
    written: int = 0

    def write(self, text: str) -> None:
        with storage_errors(self.said, self.advice):
            data = memoryview(text.encode("utf-8", errors="backslashreplace"))
            size = len(data)
            try:
                while data:
                    data = data[self.stream.write(data) :]
            except BaseException:
                with suppress(OSError):  # a device cannot be cut
                    self.stream.truncate(self.written)
                    self.stream.seek(self.written)
                raise
            self.written += size


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a file that is written and closed to `path`, once it is on the disk."""
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    _rename(partial, path)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for temporary files, which is gone afterwards.

    Those that killed processes left are removed. Raises `OSError` where there is no room.
    """
    _sweep_scratch(Path(tempfile.gettempdir()))
    place = Path(tempfile.gettempdir(), _SCRATCH + secrets.token_hex(8))
    try:
        place.mkdir(mode=0o700)
        with (place / _MARK).open("xb") as mark:
            _hold(mark)
            (place / "files").mkdir()
            yield place / "files"
    finally:
        _surely(lambda: shutil.rmtree(place, ignore_errors=True))


def _surely(act: Callable[[], None], again: Callable[[], None] | None = None) -> None:
    """Do something to its end: anew, where an interrupt came meanwhile."""
    try:
        act()
    except KeyboardInterrupt:
        (again or act)()
        raise


def _rename(partial: Path, path: Path) -> None:
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


@dataclass
class _Draft:
    """A partial file, which is removed at the end unless it took its place or is to be kept."""

    stream: BinaryIO
    keep: bool = False

    def put(self, path: Path, *, again: bool = False) -> None:
        """Let it take the place of `path`, once it is on the disk."""
        if again and not Path(self.stream.name).exists():
            return  # the interrupt came when it was there already
        if not self.stream.closed:
            self.stream.flush()
            os.fsync(self.stream.fileno())
        if sys.platform == "win32":
            self.stream.close()  # no open file can be renamed there; elsewhere it is held till then
        _rename(Path(self.stream.name), path)


@contextmanager
def _draft(path: Path, suffix: str = "", *, buffering: int = -1) -> Iterator[_Draft]:
    """Give a file beside `path` that is new and held."""
    draft = None
    while draft is None:
        place = path.with_name(f".{path.name[:_SHOWN]}.{secrets.token_hex(6)}.partial{suffix}")
        try:
            with place.open("xb", buffering=buffering) as stream:
                if _hold(stream) and place.exists():  # else it was taken for one that was left
                    draft = _Draft(stream)
                    yield draft
        finally:
            if draft is None or not draft.keep:
                _surely(partial(_unlink, place))


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _hold(stream: BinaryIO) -> bool:
    """Lock an open file for as long as it is open; tell whether it is nobody else's."""
    if sys.platform != "win32":
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass  # some network drives know no locks
    return True


def _is_held(path: Path) -> bool:
    """Tell whether a process may have a file open; Windows removes no such file anyway."""
    if sys.platform == "win32":
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _sweep(folder: Path) -> None:
    """Remove what killed processes left when they wrote into a folder."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    if not _is_held(Path(entry.path)):
                        Path(entry.path).unlink()


_sweep_once = cache(_sweep)  # of folders that get many files


@cache
def _sweep_scratch(parent: Path) -> None:
    for folder in parent.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if not folder.is_symlink() and not _is_held(folder / _MARK):
                (folder / _MARK).unlink()
                shutil.rmtree(folder)


def _unwritten(path: Path) -> str:
    return f"{path} cannot be written"
