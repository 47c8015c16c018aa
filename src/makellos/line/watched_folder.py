"""A folder that a camera or another program writes pictures into, as a source of parts."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from makellos.data.layouts import is_listed
from makellos.data.own_outputs import is_own_output
from makellos.data.parts import PICTURES, FileKind
from makellos.errors import ConfigurationError, InputError
from makellos.line.sources import Arrival
from makellos.storage import claim_folder, put_in_place, storage_errors

__all__ = ["WatchedFolder"]

# Names that programs give to what they are still writing.
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", "~")
_QUIET_S = 0.2  # a file with its end is complete when nothing changed for so long
_PATIENCE_S = 10.0  # a file without its end is taken for damaged after so long
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_TAIL = 64
_LARGEST = 64 << 20  # bytes of a file
_FIELDS = ("serial", "lot")


class _Signature(NamedTuple):
    """What changes when a file is written again or another takes its name."""

    size: int
    modified: int
    number: int


@dataclass
class _Seen:
    path: Path
    signature: _Signature
    since: float
    is_own: bool | None = None


class WatchedFolder:
    """Give the files that appear in a folder and below it, each once, when it is complete.

    Hidden files, unfinished ones by their name, and what makellos itself wrote are left out. A JPEG
    or PNG file is complete when it has its end, another when it has not changed for `settle` s; one
    whose end does not come in ten seconds is given as it is, to be named unreadable. What is
    finished is moved below the folder `done`, or stays and is remembered by the history. A file
    that is written again is another part.

    `names` is a regular expression searched for in a file's name; its named groups ``serial`` and
    ``lot`` are those of the part, further ones its fields. `recipe` is what parts are inspected
    with: another one inspects them again. A file of more than `largest` bytes is not read, and
    named unreadable.

    Raises `InputError` for no folder, `ConfigurationError` for a wrong `names` or `done`,
    `StorageError` where nothing can be moved to `done`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipe: str,
        kind: FileKind = PICTURES,
        done: Path | None = None,
        settle: float = 1.0,
        names: str | None = None,
        largest: int = _LARGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder. Create it, or name the one to watch.")
        if settle < 0:
            raise ConfigurationError(f"The time to settle is {settle:g} s; expected 0 or more.")
        self.folder, self.done = folder.resolve(), None if done is None else done.resolve()
        if self.done == self.folder:
            raise ConfigurationError(
                f"--done {done} is the watched folder itself. Name another, such as {folder}/done."
            )
        if self.done is not None:
            claim_folder(self.done)
        self._names = None if names is None else _pattern(names)
        self._recipe, self._kind, self._settle, self._clock = recipe, kind, settle, clock
        self._largest = largest
        self._seen: dict[str, _Seen] = {}
        self._ready: dict[str, str] = {}  # relative paths by key
        self._finished: dict[str, str] = {}  # keys by relative path, of files that stay
        self.has_incomplete = False

    @property
    def name(self) -> str:
        """Return what the history calls it."""
        return f"watch:{self.folder.name or self.folder}"

    def complete(self) -> list[str]:
        """Return the keys of complete files, the oldest first; raises `InputError` without it."""
        now, listed = self._clock(), dict(self._walk(self.folder))
        if not listed and not self.folder.is_dir():
            raise InputError(f"{self.folder} cannot be reached. Check that its drive is connected.")
        self._seen = {name: seen for name, seen in self._seen.items() if name in listed}
        self._finished = {name: key for name, key in self._finished.items() if name in listed}
        self._ready, self.has_incomplete = {}, False
        for name in sorted(listed, key=lambda name: (listed[name][1].modified, name)):
            path, signature = listed[name]
            key = self._key(name, signature)
            if self._finished.get(name) == key:
                continue
            seen = self._seen.get(name)
            if seen is None or seen.signature != signature:
                seen = self._seen[name] = _Seen(path, signature, now)
            if seen.is_own:
                continue
            if not self._is_complete(seen, now):
                self.has_incomplete = True
                continue
            if seen.is_own is None:
                seen.is_own = is_own_output(path)
            if not seen.is_own:
                self._ready[key] = name
        return list(self._ready)

    def take(self, key: str) -> Arrival | None:
        """Return a file as it was when `keys` saw it, None where it has changed or gone."""
        name = self._ready[key]
        seen = self._seen[name]
        content, error = b"", None
        try:
            if seen.signature.size > self._largest:
                error = (
                    f"{name} has {seen.signature.size:,} bytes; at most {self._largest:,} are "
                    "taken. Write smaller pictures or recordings."
                )
            else:
                content = seen.path.read_bytes()
            if _signature(seen.path.stat()) != seen.signature:
                return None
        except FileNotFoundError:
            return None
        except OSError as reason:
            if self._clock() - seen.since < _PATIENCE_S:
                return None  # another program may hold it
            error = f"{name} cannot be read: {reason.strerror}. Check its permissions."
        return Arrival(key=key, name=name, content=content, error=error, **self._said(name))

    def finish(self, key: str) -> None:
        """Move a file that is stored below `done`, or remember it."""
        name = self._ready.pop(key)
        if self.done is None:
            self._finished[name] = key
        else:
            _move(self._seen[name].path, self.done / name)

    def _key(self, name: str, signature: _Signature) -> str:
        text = "\0".join((self._recipe, str(self.folder), name, *map(str, signature)))
        return "watch:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _said(self, name: str) -> dict[str, Any]:
        found = None if self._names is None else self._names.search(name)
        said = {} if found is None else {k: v for k, v in found.groupdict().items() if v}
        own = {field: said.pop(field, None) for field in _FIELDS}
        return {**own, "fields": said}

    def _walk(self, folder: Path) -> Iterator[tuple[str, tuple[Path, _Signature]]]:
        """Yield the relative path of each file that counts, its path and its signature."""
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return  # it was removed meanwhile; `complete` looks for the watched one
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
        for entry in entries:
            path = Path(entry.path)
            try:
                if not is_listed(entry.name) or path == self.done:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(path)
                elif self._counts(path) and entry.is_file():
                    name = path.relative_to(self.folder).as_posix()
                    # What scandir says of a file may be old on Windows; stat asks.
                    yield name, (path, _signature(path.stat()))
            except OSError:  # gone meanwhile, or a link that leads nowhere: the others go on
                continue

    def _counts(self, path: Path) -> bool:
        name = path.name.lower()
        return not name.endswith(_UNFINISHED) and path.suffix.lower() in self._kind.suffixes

    def _is_complete(self, seen: _Seen, now: float) -> bool:
        age = now - seen.since
        if age < min(_QUIET_S, self._settle):
            return False
        try:
            ended = _has_end(seen.path)
        except OSError:
            return age >= _PATIENCE_S  # another program may hold it, as Windows has it
        if ended is None:
            return age >= self._settle
        return ended or age >= _PATIENCE_S


def _signature(status: os.stat_result) -> _Signature:
    return _Signature(status.st_size, status.st_mtime_ns, status.st_ino)


def _has_end(path: Path) -> bool | None:
    """Tell whether a JPEG or PNG file has its end; None for a file of another kind."""
    with path.open("rb") as stream:
        head = stream.read(len(_PNG))
        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        stream.seek(max(0, size - _TAIL))
        tail = stream.read().rstrip(b"\0")
    if head.startswith(_JPEG):
        return tail.endswith(b"\xff\xd9")
    if head == _PNG:
        return b"IEND\xaeB`\x82" in tail
    return None if any(head) else False


def _pattern(names: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(names)
    except re.error as error:
        raise ConfigurationError(
            f"--names {names!r} is not a regular expression: {error}. "
            "Example: --names '(?P<serial>[0-9]+)_(?P<lot>[A-Z]+)'"
        ) from error
    if not pattern.groupindex:
        raise ConfigurationError(
            f"--names {names!r} names no group. Write (?P<serial>…) around the serial number, "
            "(?P<lot>…) around the lot."
        )
    return pattern


def _move(path: Path, target: Path) -> None:
    """Move a file to a name that no other has; one that has gone is moved already."""
    advice = "Make room there; the part is stored, and its file is moved as soon as that works."
    with storage_errors(f"{path} cannot be moved to {target.parent}", advice):
        target.parent.mkdir(parents=True, exist_ok=True)
        number, free = 1, target
        while free.exists():
            number += 1
            free = target.with_name(f"{target.stem} ({number}){target.suffix}")
        try:
            path.replace(free)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(path, free)


def _copy(path: Path, target: Path) -> None:
    """Move a file to another drive: it is there whole before it is gone here."""
    draft = target.with_name(f".{target.name}.partial")
    shutil.copy2(path, draft)
    put_in_place(draft, target)
    path.unlink()
