"""Files by the hash of their content: pictures as they came, maps of findings, models."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from makellos.storage import replacing, storage_errors

__all__ = ["Batch", "Files", "digest", "map_bytes", "map_from", "sync_folder"]

_CHUNK = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")


def digest(data: bytes) -> str:
    """Return the SHA-256 of data in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def map_bytes(values: NDArray[np.float32]) -> bytes:
    """Return a map, h×w float32, as the bytes of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values, dtype=np.float32), allow_pickle=False)
    return stream.getvalue()


def map_from(path: Path) -> NDArray[np.float32]:
    """Return a map, h×w float32, from its file; raises `StorageError`."""
    with storage_errors(f"{path} cannot be read", "Restore it from a backup."):
        try:
            values: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise OSError(f"it is damaged ({error})") from error
    return values


class _WrongContentError(Exception):
    """Say that a file is not what its name says."""


class Files:
    """Keep files of one kind in a folder, each once, under the hash of its content.

    A file is whole from the moment that it has its name, and stays through a power cut.
    """

    def __init__(self, folder: Path, suffix: str = "", *, many: bool = True) -> None:
        self.folder = folder
        self.suffix = suffix
        self.many = many  # they lie in folders by the first two letters of their names

    def place(self, name: str) -> Path:
        """Return where the file with this hash lies, or would lie."""
        return self._folder_of(name) / f"{name}{self.suffix}"

    def _folder_of(self, name: str) -> Path:
        return self.folder / name[:2] if self.many else self.folder

    def find(self, name: str | None) -> Path | None:
        """Return the file with this hash; None where there is none, or where it is no hash."""
        if name is None or not _HASH.fullmatch(name):
            return None
        path = self.place(name)
        return path if path.is_file() else None

    def put(self, name: str, data: bytes) -> bool:
        """Write a file that has this hash, unless it is there; tell whether it was written.

        Its content is on the disk when this returns, its name when `sync_folder` has been there.
        Raises `StorageError`.
        """
        path = self.place(name)
        if path.is_file():
            return False
        with storage_errors(f"{path} cannot be written"):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                sync_folder(self.folder)
            with replacing(path) as stream:
                stream.write(data)
        return True

    def put_stream(self, name: str, source: IO[bytes]) -> bool:
        """Write a file from a stream, unless it is there; tell whether it has the hash it should.

        Raises `StorageError`; what does not have the hash is not kept.
        """
        path = self.place(name)
        if path.is_file():
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == name
        hashed = hashlib.sha256()
        with storage_errors(f"{path} cannot be written"), suppress(_WrongContentError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as stream:
                while chunk := source.read(_CHUNK):
                    hashed.update(chunk)
                    stream.write(chunk)
                if hashed.hexdigest() != name:
                    raise _WrongContentError
        return hashed.hexdigest() == name

    def total(self) -> int:
        """Return the size of all files in bytes."""
        return sum(self.size(name) for name in self.names())

    def remove(self, name: str) -> int:
        """Remove a file and return its size in bytes; 0 where it is gone already."""
        path = self.place(name)
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            return size
        return 0

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; 0 where there is none."""
        try:
            return self.place(name).stat().st_size
        except OSError:
            return 0

    def names(self) -> Iterator[str]:
        """Yield the hashes of all files."""
        for path in self.folder.glob(f"{'??/' if self.many else ''}*{self.suffix}"):
            name = path.name.removesuffix(self.suffix)
            if _HASH.fullmatch(name):
                yield name


def sync_folder(folder: Path) -> None:
    """Put on the disk which files a folder has; raises `StorageError`."""
    if sys.platform == "win32":
        return  # it does so by itself
    with storage_errors(f"{folder} cannot be written"):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass
class Batch:
    """Write files of several kinds together, because a disk is faster with many at once.

    `written` are those that were not there, also after an error.
    """

    threads: Executor
    written: list[tuple[Files, str]] = field(default_factory=list)

    def put(self, wanted: Iterable[tuple[Files, str, bytes]]) -> None:
        """Write files, unless they are there, and return when they will stay; `StorageError`."""
        already = len(self.written)
        missing = {(id(job[0]), job[1]): job for job in wanted if job[0].find(job[1]) is None}
        _all_done([self.threads.submit(self._put, *job) for job in missing.values()])
        folders = {files.place(name).parent for files, name in self.written[already:]}
        _all_done([self.threads.submit(sync_folder, folder) for folder in folders])

    def _put(self, files: Files, name: str, data: bytes) -> None:
        if files.put(name, data):
            self.written.append((files, name))


def _all_done(steps: Sequence[Future[None]]) -> None:
    """Wait for all steps, and raise what the first that failed raised."""
    wait(steps)
    for step in steps:
        step.result()
