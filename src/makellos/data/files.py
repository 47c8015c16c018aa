"""Files that a user names: read whole where they can be and are small enough, else refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

from makellos.errors import InputError, MakellosError

__all__ = ["check_file", "is_folder", "parse_json", "read_bytes", "read_json", "read_text"]

MOST_BYTES = 32 << 20  # of a text: parsed, it takes 25 times as much at worst
_SHOWN = 200
_LONGEST_KEY = 10_000


def check_file(path: Path, error: type[MakellosError], advice: str) -> int:
    """Return the size of a file; raise `error` for what is none, or cannot be reached.

    A pipe or a device is none: reading it could wait for ever, or never end.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise error(f"{path} does not exist. {advice}") from None
    except (OSError, ValueError) as reason:
        raise error(f"{_shown(path)} cannot be read: {_said(reason)}. {advice}") from reason
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{path} is a folder. {advice}")
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path} is a pipe or a device. {advice}")
    return status.st_size


def read_text(
    path: Path, error: type[MakellosError], advice: str, *, most: int = MOST_BYTES
) -> str:
    """Return a UTF-8 text, with or without a byte order mark; raises `error`.

    `most` is how many bytes are read at most. What is wrong with the file itself is an `error`;
    one that cannot be read an `InputError`.
    """
    try:
        return read_bytes(path, error, advice, most=most).decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(
            f"{path} is not UTF-8 text (byte {reason.start}). Save it again as UTF-8."
        ) from None


def read_bytes(
    path: Path, error: type[MakellosError], advice: str, *, most: int = MOST_BYTES
) -> bytes:
    """Return the bytes of a file; raises as `read_text` does."""
    size = check_file(path, InputError, advice)
    if size > most:
        raise error(f"{path} has {size:,} bytes; at most {most:,} are read. {advice}")
    try:
        return path.read_bytes()
    except OSError as reason:
        raise InputError(f"{path} cannot be read: {_said(reason)}. {advice}") from reason


def read_json(path: Path, error: type[MakellosError], advice: str) -> Any:
    """Return what a JSON file holds; raises as `read_text` does, and `error` for another file."""
    text = read_text(path, error, advice)
    try:
        found = parse_json(text)
        json.dumps(found, ensure_ascii=False).encode()  # "\\ud800" is no character
        return found  # noqa: TRY300
    except ValueError as reason:
        raise error(f"{path} is not JSON: {reason}. {advice}") from reason


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; raise `ValueError` for what is none, is nested deep, or says it twice.

    Numbers are finite: NaN and Infinity are no JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    longest = max(map(len, found), default=0)
    if longest > _LONGEST_KEY:
        raise ValueError(f"it has a name of {longest:,} characters")
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"{twice[:_SHOWN]!r} appears twice in an object")
    return found


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; one that cannot be looked at is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _said(reason: OSError | ValueError) -> str:
    return (isinstance(reason, OSError) and reason.strerror) or str(reason)


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
