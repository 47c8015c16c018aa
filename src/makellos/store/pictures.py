"""Files by the hash of their content: pictures as they came, maps of findings, models."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.storage import replacing, storage_errors

__all__ = ["Files", "digest", "map_bytes", "map_from", "sync_folder"]

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
    with storage_errors(f"{path} cannot be read", "Restore it from a back-up."):
        try:
            values: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise OSError(f"it is damaged ({error})") from error
    return values


class Files:
    """Keep files of one kind in a folder, each once, under the hash of its content.

    A file is whole from the moment that it has its name, and stays through a power cut.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder = folder
        self.suffix = suffix

    def place(self, name: str) -> Path:
        """Return where the file with this hash lies, or would lie."""
        return self.folder / name[:2] / f"{name}{self.suffix}"

    def find(self, name: str | None) -> Path | None:
        """Return the file with this hash; None where there is none, or where it is no hash."""
        if name is None or not _HASH.fullmatch(name):
            return None
        path = self.place(name)
        return path if path.is_file() else None

    def put(self, name: str, data: bytes) -> bool:
        """Write a file that has this hash, unless it is there; tell whether it was written.

        It is on the disk when this returns. Raises `StorageError`.
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
            sync_folder(path.parent)
        return True

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
        for path in self.folder.glob(f"??/*{self.suffix}"):
            name = path.name.removesuffix(self.suffix)
            if _HASH.fullmatch(name):
                yield name


def sync_folder(folder: Path) -> None:
    """Put on the disk which files a folder has."""
    if sys.platform == "win32":
        return  # it does so by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
