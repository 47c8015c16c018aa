"""Compiled graphs kept between processes: a model that was opened here before opens faster.

They lie in the user's own cache folder, or where ``MAKELLOS_CACHE`` says; ``off`` keeps none. What
is missing, damaged or of another runtime is compiled again, and what cannot be kept is not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from makellos.errors import StorageError
from makellos.storage import write_bytes

__all__ = ["Compiled", "cache_folder", "compiled_key", "keep_compiled", "kept_compiled"]

_SWITCH, _OFF = "MAKELLOS_CACHE", frozenset({"off", "0", "no", "none"})
_FORMAT = 1  # of the files below
_SUFFIX = ".compiled"
_MOST_BYTES = 1 << 30  # of all that is kept; the one used longest ago goes first
_MOST_HEADER = 1 << 16


class Compiled(NamedTuple):
    """Hold a compiled graph as its runtime exports it, and the graph's outputs in their order."""

    blob: bytes
    names: tuple[str, ...]


def cache_folder() -> Path | None:
    """Return where compiled graphs are kept; None where none are."""
    asked = os.environ.get(_SWITCH, "").strip()
    if asked.lower() in _OFF:
        return None
    if asked:
        return Path(asked) / "compiled"
    from platformdirs import user_cache_path

    return user_cache_path("makellos", appauthor=False) / "compiled"


def compiled_key(*told: object) -> str:
    """Return the name of what was compiled under just these circumstances."""
    return hashlib.sha256(json.dumps([_FORMAT, *map(str, told)]).encode()).hexdigest()


def kept_compiled(key: str) -> Compiled | None:
    """Return what was kept under a key, if it is whole."""
    folder = cache_folder()
    if folder is None:
        return None
    path = folder / f"{key}{_SUFFIX}"
    try:
        with path.open("rb") as stream:
            if not _is_own(stream.fileno()):
                return None
            header = json.loads(stream.readline(_MOST_HEADER))
            blob = stream.read()
        names = tuple(map(str, header["names"]))
        whole = header["key"] == key and header["sha256"] == hashlib.sha256(blob).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    with suppress(OSError):
        os.utime(path)  # the one used longest ago goes first
    return Compiled(blob, names)


def _is_own(file: int) -> bool:
    """Tell whether a file is this user's: a runtime does not check what it is given to run."""
    told = os.fstat(file)
    return not hasattr(os, "getuid") or (told.st_uid == os.getuid() and not told.st_mode & 0o002)


def keep_compiled(key: str, blob: bytes, names: Sequence[str]) -> None:
    """Keep what was compiled, and make room for it; without a word where it cannot be kept."""
    folder = cache_folder()
    if folder is None or len(blob) > _MOST_BYTES // 2:
        return
    digest = hashlib.sha256(blob).hexdigest()
    header = json.dumps({"key": key, "sha256": digest, "names": list(names)}).encode()
    with suppress(StorageError, OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_room(folder, _MOST_BYTES - len(blob))
        write_bytes(folder / f"{key}{_SUFFIX}", header + b"\n" + blob)


def _make_room(folder: Path, most: int) -> None:
    """Remove what was used longest ago until at most so many bytes are left."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError):
            told = path.stat()
            found.append((told.st_mtime, told.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        with suppress(OSError):
            path.unlink()
            total -= size
