"""The tables of the store, and how texts and plain data lie in them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator

__all__ = [
    "JsonText",
    "SafeText",
    "as_json",
    "audit_head",
    "audit_log",
    "candidate_changes",
    "candidates",
    "inspection_keys",
    "inspection_rows",
    "inspection_words",
    "inspection_zones",
    "inspections",
    "learned_parts",
    "metadata",
    "models",
    "people",
    "readable",
    "recipes",
    "regression_parts",
    "regression_sets",
    "reviews",
    "safe",
    "sessions",
    "settings",
    "tokens",
]

# What a database may refuse in a text (PostgreSQL NUL, both what UTF-8 cannot hold), and the sign
# that stands before the number of such a character.
_SIGN = "\x1a"
_REFUSED = re.compile("[\x00\x1a\ud800-\udfff]")
_REPLACED = re.compile("\x1a([0-9a-f]{4})")


def safe(value: str) -> str:
    """Return any text as one that every database keeps; `readable` undoes it.

    >>> readable(safe("a\\x00b\\udc80")) == "a\\x00b\\udc80"
    True
    """
    return _REFUSED.sub(lambda found: f"{_SIGN}{ord(found[0]):04x}", value)


def readable(value: str) -> str:
    """Return the text that `safe` made safe."""
    return _REPLACED.sub(lambda found: chr(int(found[1], 16)), value)


def as_json(value: Any) -> str:
    """Return plain data as JSON in ASCII, with null for figures that are not finite."""
    try:
        return _dumped(value)
    except ValueError:
        return _dumped(_finite(value))


def _dumped(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class SafeText(TypeDecorator[str]):
    """Keep any text, also what holds NUL or code points that UTF-8 has not."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return what the database gets."""
        return None if value is None else safe(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return what was given to it."""
        return readable(value) if isinstance(value, str) else value


class JsonText(TypeDecorator[Any]):
    """Keep plain data as JSON text, the same on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return what the database gets."""
        return None if value is None else as_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return what was given to it."""
        return None if value is None else json.loads(value)


metadata = MetaData()


def _number() -> BigInteger:
    # SQLite counts up only what is called INTEGER.
    return BigInteger().with_variant(Integer(), "sqlite")


def _plain_id() -> Column[int]:
    return Column("inspection_id", _number(), nullable=False)


def _inspection_id(**options: Any) -> Column[int]:
    return Column("inspection_id", _number(), ForeignKey("inspections.id"), **options)


# What is filtered by, narrow, so that looking through it is fast.
inspections = Table(
    "inspections",
    metadata,
    Column("id", _number(), primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("recipe", SafeText, nullable=False),
    Column("recipe_version", Integer, nullable=False),
    Column("model_hash", SafeText, nullable=False),
    Column("serial", SafeText),
    Column("lot", SafeText),
    Column("source", SafeText, nullable=False),
    Column("verdict", SafeText, nullable=False),
    Column("score", Double),
    Column("p_value", Double),
    Column("threshold", Double),
    Column("milliseconds", Double, nullable=False),
    Column("picture", SafeText),
    Column("map", SafeText),
    Column("decision", SafeText),
    Column("kept", Boolean, nullable=False, server_default=false()),
    sqlite_autoincrement=True,  # the number of a removed part is never given again
)
for _name in ("recipe", "serial", "lot", "source", "verdict", "decision"):
    Index(f"inspections_by_{_name}", inspections.c[_name], inspections.c.id)
Index(  # holds all that a shift is counted from
    "inspections_by_time",
    *(inspections.c[name] for name in ("time", "recipe", "verdict", "recipe_version", "decision")),
)
Index("inspections_by_picture", inspections.c.picture)
Index("inspections_by_map", inspections.c.map)

# What is wide, and read for the parts that are shown alone.
inspection_rows = Table(
    "inspection_rows",
    metadata,
    _inspection_id(primary_key=True, autoincrement=False),
    Column("input", SafeText, nullable=False),
    Column("error", SafeText),
    Column("fields", JsonText, nullable=False),
    Column("row", JsonText, nullable=False),
)

# What texts are looked for in, by looking through all of it, hence nothing else.
inspection_words = Table(
    "inspection_words",
    metadata,
    _inspection_id(primary_key=True, autoincrement=False),
    Column("words", SafeText, nullable=False),
)

# Keys stay when their parts are removed, so that no part is taken for new.
inspection_keys = Table(
    "inspection_keys",
    metadata,
    Column("key", SafeText, primary_key=True),  # its SHA-256
    _plain_id(),
)

inspection_zones = Table(
    "inspection_zones",
    metadata,
    _inspection_id(primary_key=True, autoincrement=False),
    Column("zone", SafeText, primary_key=True),
    Index("zones_by_zone", "zone", "inspection_id"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("id", _number(), primary_key=True, autoincrement=True),
    _inspection_id(nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("decision", SafeText, nullable=False),
    Column("boxes", JsonText, nullable=False),
    Column("note", SafeText, nullable=False),
    Column("blind", Boolean, nullable=False),
    Index("reviews_by_inspection", "inspection_id", "id"),
    sqlite_autoincrement=True,
)

models = Table(
    "models",
    metadata,
    Column("hash", SafeText, primary_key=True),
    Column("file_name", SafeText, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("detector", SafeText, nullable=False),
    Column("summary", JsonText, nullable=False),
)

recipes = Table(
    "recipes",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("model_hash", SafeText, ForeignKey("models.hash"), nullable=False),
    Column("acceptance", JsonText),
    Column("note", SafeText, nullable=False),
    Column("active", Boolean, nullable=False),
)
Index(
    "recipes_one_active",
    recipes.c.name,
    unique=True,
    sqlite_where=text("active"),
    postgresql_where=text("active"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("number", _number(), primary_key=True, autoincrement=True),
    Column("recipe", SafeText, nullable=False, index=True),
    Column("time", BigInteger, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("how", SafeText, nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("state", SafeText, nullable=False),
    Column("model_hash", SafeText, ForeignKey("models.hash")),
    Column("message", SafeText, nullable=False),
    Column("details", JsonText, nullable=False),
    sqlite_autoincrement=True,
)

candidate_changes = Table(
    "candidate_changes",
    metadata,
    Column("candidate", _number(), ForeignKey("candidates.number"), primary_key=True),
    Column("of", SafeText, primary_key=True),
    # No foreign key: a part may be forgotten, what a candidate said of it stays.
    Column("inspection_id", _number(), primary_key=True, autoincrement=False),
    Column("before", SafeText, nullable=False),
    Column("after", SafeText, nullable=False),
    Column("score_before", Double),
    Column("score_after", Double),
)

# What a candidate's model learned from: it says nothing of the model on these parts.
learned_parts = Table(
    "learned_parts",
    metadata,
    Column("candidate", _number(), ForeignKey("candidates.number"), primary_key=True),
    Column("inspection_id", _number(), primary_key=True, autoincrement=False),
    Column("picture", SafeText, nullable=False),
)

regression_sets = Table(
    "regression_sets",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("recipe", SafeText, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("hash", SafeText, nullable=False),
    Column("n_good", Integer, nullable=False),
    Column("n_defective", Integer, nullable=False),
)

regression_parts = Table(
    "regression_parts",
    metadata,
    Column("set_name", SafeText, ForeignKey("regression_sets.name"), primary_key=True),
    _inspection_id(primary_key=True, autoincrement=False, index=True),
    Column("picture", SafeText, nullable=False),
    Column("decision", SafeText, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("password_hash", SafeText, nullable=False),
    Column("role", SafeText, nullable=False),
    Column("language", SafeText, nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", SafeText, primary_key=True),
    Column("person", SafeText, ForeignKey("people.name"), nullable=False, index=True),
    Column("expires", BigInteger, nullable=False),
    Column("csrf", SafeText, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("token_hash", SafeText, nullable=False, unique=True),
    Column("role", SafeText, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("last_used", BigInteger),
    Column("revoked", Boolean, nullable=False, server_default=false()),
)

settings = Table(
    "settings",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("value", JsonText, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", _number(), primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("action", SafeText, nullable=False),
    Column("subject", SafeText, nullable=False),
    Column("details", SafeText, nullable=False),  # JSON as it was hashed
    Column("previous", SafeText, nullable=False),
    Column("hash", SafeText, nullable=False),
)

# One row: where the log ends.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", SafeText, nullable=False),
)
