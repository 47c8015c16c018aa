"""What goes into the store and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from makellos.errors import InputError
from makellos.inspection import Inspection
from makellos.store.times import iso

__all__ = [
    "DECISIONS",
    "LONGEST_INPUT",
    "LONGEST_TEXT",
    "Box",
    "Filter",
    "NewInspection",
    "NotFoundError",
    "Removed",
    "Retention",
    "Review",
    "StoredInspection",
    "Tally",
    "check_texts",
    "stored_inspection",
]

DECISIONS = ("good", "defective")
LONGEST_TEXT = 256  # characters of what is looked up; more would not fit into an index everywhere
LONGEST_INPUT = 4096


class NotFoundError(InputError):
    """Say that the store has no such part, recipe, model or person."""


def check_texts(**given: str | None) -> None:
    """Raise `InputError` for a text that is too long to be looked up by."""
    for name, value in given.items():
        longest = LONGEST_INPUT if name == "input" else LONGEST_TEXT
        if value is not None and len(value) > longest:
            raise InputError(
                f"{name} has {len(value):,} characters: {value[:40]!r}…; at most {longest:,} are "
                "kept. Shorten it."
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class NewInspection:
    """Hold a finding and what it belongs to, as it is to be stored.

    `picture` are the bytes that were judged, as they came. `fields` are free. With a `key` the part
    is stored once, however often it is recorded.
    """

    inspection: Inspection
    recipe: str
    recipe_version: int
    model_hash: str
    picture: bytes | None = field(default=None, repr=False)
    serial: str | None = None
    lot: str | None = None
    source: str = "api"
    fields: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoredInspection:
    """Hold a part of the history.

    `time` is in µs since 1970. `result` is what `Inspection.row()` gave; `picture` and `map` are
    hashes, None where there is none (any more). `decision` is the operator's word that stands:
    ``good``, ``defective`` or None. What is `kept` is never removed by age or size.
    """

    id: int
    time: int
    recipe: str
    recipe_version: int
    model_hash: str
    input: str
    serial: str | None
    lot: str | None
    source: str
    fields: dict[str, Any]
    verdict: str
    score: float | None
    p_value: float | None
    threshold: float | None
    milliseconds: float
    error: str | None
    result: dict[str, Any]
    picture: str | None
    map: str | None
    decision: str | None
    kept: bool

    def row(self) -> dict[str, Any]:
        """Return the row as `makellos inspect` gives it, with what the history adds before it."""
        return {
            "id": self.id,
            "time": iso(self.time),
            "recipe": self.recipe,
            "recipe_version": self.recipe_version,
            "serial": self.serial,
            "lot": self.lot,
            "source": self.source,
            "review": self.decision,
            "fields": self.fields,
            **self.result,
        }


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Say which parts of the history are wanted; None leaves a matter open.

    `since` ≤ time < `until` in µs since 1970. `text` is part of the input's name, the serial number
    or the lot, in any case. `zone` is one in which something was found to judge. `reviewed` asks
    for parts with a decision, or for those without.
    """

    recipe: str | None = None
    verdict: str | None = None
    decision: str | None = None
    serial: str | None = None
    lot: str | None = None
    zone: str | None = None
    source: str | None = None
    since: int | None = None
    until: int | None = None
    text: str | None = None
    reviewed: bool | None = None


@dataclass(frozen=True)
class Box:
    """Mark a place in the picture of a part, in its pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Tally:
    """Count the parts of a version of a recipe that have one verdict and one decision."""

    version: int
    verdict: str
    decision: str | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Review:
    """Hold a person's decision on a part; a later one overrules, a `blind` one does not."""

    id: int
    inspection_id: int
    time: int
    person: str
    decision: str
    boxes: tuple[Box, ...]
    note: str
    blind: bool


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Say what may be forgotten; None keeps everything.

    Pictures and maps of parts older than `picture_days` go, then the oldest, until they take at
    most `picture_bytes`; rows go when they are older than `row_days`. What a person decided on or
    marked to be kept stays.
    """

    picture_days: float | None = None
    row_days: float | None = None
    picture_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Removed:
    """Count what was forgotten: rows, files of pictures and maps, and their bytes."""

    rows: int = 0
    pictures: int = 0
    bytes: int = 0


def stored_inspection(row: Row[Any]) -> StoredInspection:
    """Return a part from the columns of both of its tables."""
    values = dict(row._mapping)
    named = {
        name: values[name] for name in StoredInspection.__dataclass_fields__ if name != "result"
    }
    return StoredInspection(result=values["row"], **named)
