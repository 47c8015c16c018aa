"""Addresses of files that lie elsewhere, such as ``s3://bucket/parts``: listed, read, written.

What is at an address is reached by fsspec, and by the package that fsspec names for its kind.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import PICTURE_SUFFIXES, Picture, decode_picture
from makellos.errors import InputError, MissingRuntimeError, StorageError, adding
from makellos.storage import write_bytes

__all__ = ["Addressed", "Place", "is_address"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")  # not C:\, which has one letter
_DRAFT = ".partial"
_MOST_BYTES = 1 << 30  # of a picture file
_CHECK = "Check the address, the connection and your access keys."


def is_address(text: str) -> bool:
    """Tell whether a text is an address that fsspec takes, and no path.

    >>> is_address("s3://bucket/parts"), is_address("C:/parts"), is_address("parts/a.png")
    (True, False, False)
    """
    return _ADDRESS.match(text) is not None


@dataclass(frozen=True)
class Addressed:
    """Be the source of a part that lies at an address; it is fetched when it is read."""

    address: str
    is_whole: ClassVar[bool] = True

    @property
    def path(self) -> Path:
        """Raise `InputError`: it is no file of this machine."""
        raise InputError(f"{self.address} is not a file on this machine. Copy it here first.")

    def read(self) -> Picture:
        """Return the picture; raises `InputError` where it cannot be fetched or decoded."""
        return decode_picture(Place(self.address).read(), self.address)

    def read_mask(self, mask: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Raise `InputError`: masks belong to files."""
        del size
        raise InputError(
            f"{self.address}: masks, such as {mask}, are read only for pictures in files. Copy the "
            "picture to this machine first."
        )


@dataclass(frozen=True)
class Place:
    """Be a file or a folder at an address, or at a path of this machine.

    Raises `MissingRuntimeError` where fsspec, or its package for this kind of address, is missing.
    """

    address: str

    def __truediv__(self, name: str) -> Place:
        """Return what has a name in the folder."""
        return Place(f"{self.address.rstrip('/')}/{name}")

    def __str__(self) -> str:
        """Return the address."""
        return self.address

    def pictures(self) -> list[str]:
        """Return the addresses of all pictures below a folder, sorted; of a file its own.

        Hidden files are left out, as in folders. Raises `InputError` for what is not there.
        """
        try:
            files, path = self._files()
            if files.isfile(path):
                return [self.address]
            if not files.exists(path):
                raise InputError(f"{self.address} does not exist. Check the address.")
            found = files.find(path)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.address} cannot be listed: {error}. {_CHECK}") from error
        root = path.rstrip("/")
        inside = (name[len(root) :] for name in found if not _is_hidden(name[len(root) :]))
        named = (name for name in inside if Path(name).suffix.lower() in PICTURE_SUFFIXES)
        return sorted(f"{self.address.rstrip('/')}/{name.lstrip('/')}" for name in named)

    def names(self) -> list[str]:
        """Return the names of what lies in a folder, sorted; of none where there is no folder."""
        try:
            files, path = self._files()
            files.invalidate_cache()
            found = files.ls(path, detail=False) if files.isdir(path) else []
        except (OSError, ValueError, RuntimeError) as error:
            raise StorageError(f"{self.address} cannot be listed: {error}. {_CHECK}") from error
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)

    def read(self) -> bytes:
        """Return the bytes of a file; raises `InputError` where it cannot be read."""
        try:
            files, path = self._files()
            with files.open(path, "rb") as stream:
                content: bytes = stream.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise InputError(f"{self.address} does not exist. Check the address.") from None
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.address} cannot be read: {error}. {_CHECK}") from error
        if len(content) > _MOST_BYTES:
            raise InputError(
                f"{self.address} has more than {_MOST_BYTES:,} bytes, the most that are read. "
                "Leave it out, or save it smaller."
            )
        return content

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give a stream that reads a file from any place in it; raises `InputError`."""
        try:
            files, path = self._files()
            with files.open(path, "rb") as stream:
                yield stream
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.address} cannot be read: {error}. {_CHECK}") from error

    def write(self, content: bytes) -> None:
        """Write a file in one step: under a name of its own first, then renamed.

        Raises `StorageError`; what was there stays then.
        """
        files, path = self._storage()
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/.{name}.{secrets.token_hex(6)}{_DRAFT}"
        try:
            files.makedirs(folder, exist_ok=True)
            if type(files).__name__ == "LocalFileSystem":
                write_bytes(Path(path), content)  # it is on the disk when this returns
                return
            try:
                files.pipe_file(draft, content)
                files.mv(draft, path)
            except BaseException:
                with suppress(Exception):
                    files.rm_file(draft)
                raise
        except (OSError, ValueError, RuntimeError) as error:
            raise StorageError(
                f"{self.address} cannot be written: {error}. Check your access and the free space "
                "there, or choose another place with -o."
            ) from error

    def remove_drafts(self) -> None:
        """Remove from a folder what was written and not renamed; nobody may be writing there."""
        files, path = self._storage()
        for name in self.names():
            if name.startswith(".") and name.endswith(_DRAFT):
                with suppress(OSError):
                    files.rm_file(f"{path.rstrip('/')}/{name}")

    def _storage(self) -> tuple[Any, str]:
        try:
            return self._files()
        except (OSError, ValueError, RuntimeError) as error:
            raise StorageError(f"{self.address} cannot be reached: {error}. {_CHECK}") from error

    def _files(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            files, path = url_to_fs(self.address)
        except ImportError as error:
            package = str(error) if "fsspec" not in (error.name or "") else adding("cluster")
            raise MissingRuntimeError(f"{self.address} cannot be reached: {package}") from error
        return files, str(path)


def _is_hidden(inside: str) -> bool:
    return any(piece.startswith(".") for piece in inside.split("/"))
