"""What every source of parts gives: a camera, a folder, a broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Arrival", "Source"]


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Hold a part that is there to be inspected.

    `key` tells it from every other part, also after a restart. `content` are the bytes of its
    file; where that cannot be read `error` says why. `serial`, `lot` and `fields` say what the
    source knows of it.
    """

    key: str
    name: str
    content: bytes = field(repr=False)
    error: str | None = None
    serial: str | None = None
    lot: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Give parts as they come, each until it is finished."""

    @property
    def name(self) -> str:
        """Return what the history calls it, such as ``watch:camera-2``."""
        ...

    @property
    def has_incomplete(self) -> bool:
        """Tell whether something is there that is not complete yet, after a call of `complete`."""
        ...

    def complete(self) -> list[str]:
        """Return the keys of what is there and unfinished, the oldest first, without waiting.

        Raises `InputError` where the source cannot be reached.
        """
        ...

    def take(self, key: str) -> Arrival | None:
        """Return a part that is there; None where it has gone or is not complete after all."""
        ...

    def finish(self, key: str) -> None:
        """Note that a part is stored; it is not given again. Raises `StorageError`."""
        ...
