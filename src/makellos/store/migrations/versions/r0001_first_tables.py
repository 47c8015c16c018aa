"""The first tables of a station."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    _parts()
    _reviews()
    _recipes()
    _people()
    _rest()


def _number() -> sa.types.TypeEngine[int]:
    # SQLite counts up only what is called INTEGER.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _parts() -> None:
    op.create_table(
        "inspections",
        sa.Column("id", _number(), autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("recipe_version", sa.Integer(), nullable=False),
        sa.Column("model_hash", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text()),
        sa.Column("lot", sa.Text()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("score", sa.Double()),
        sa.Column("p_value", sa.Double()),
        sa.Column("threshold", sa.Double()),
        sa.Column("milliseconds", sa.Double(), nullable=False),
        sa.Column("picture", sa.Text()),
        sa.Column("map", sa.Text()),
        sa.Column("decision", sa.Text()),
        sa.Column("kept", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("inspections_by_decision", "inspections", ["decision", "id"])
    op.create_index("inspections_by_lot", "inspections", ["lot", "id"])
    op.create_index("inspections_by_map", "inspections", ["map"])
    op.create_index("inspections_by_picture", "inspections", ["picture"])
    op.create_index("inspections_by_recipe", "inspections", ["recipe", "id"])
    op.create_index("inspections_by_serial", "inspections", ["serial", "id"])
    op.create_index("inspections_by_source", "inspections", ["source", "id"])
    op.create_index(
        "inspections_by_time",
        "inspections",
        ["time", "recipe", "verdict", "recipe_version", "decision"],
    )
    op.create_index("inspections_by_verdict", "inspections", ["verdict", "id"])


def _reviews() -> None:
    op.create_table(
        "inspection_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("inspection_id", _number(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "inspection_rows",
        sa.Column("inspection_id", _number(), autoincrement=False, nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"]),
        sa.PrimaryKeyConstraint("inspection_id"),
    )
    op.create_table(
        "inspection_words",
        sa.Column("inspection_id", _number(), autoincrement=False, nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"]),
        sa.PrimaryKeyConstraint("inspection_id"),
    )
    op.create_table(
        "inspection_zones",
        sa.Column("inspection_id", _number(), autoincrement=False, nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"]),
        sa.PrimaryKeyConstraint("inspection_id", "zone"),
    )
    op.create_index("zones_by_zone", "inspection_zones", ["zone", "inspection_id"])
    op.create_table(
        "reviews",
        sa.Column("id", _number(), autoincrement=True, nullable=False),
        sa.Column("inspection_id", _number(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("boxes", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("reviews_by_inspection", "reviews", ["inspection_id", "id"])


def _recipes() -> None:
    op.create_table(
        "models",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "recipes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("model_hash", sa.Text(), nullable=False),
        sa.Column("acceptance", sa.Text()),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["model_hash"], ["models.hash"]),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_index(
        "recipes_one_active",
        "recipes",
        ["name"],
        unique=True,
        sqlite_where=sa.text("active"),
        postgresql_where=sa.text("active"),
    )


def _people() -> None:
    op.create_table(
        "people",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.name"]),
        sa.PrimaryKeyConstraint("token_hash"),
    )
    op.create_index("ix_sessions_person", "sessions", ["person"])
    op.create_table(
        "tokens",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("last_used", sa.BigInteger()),
        sa.Column("revoked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("token_hash"),
    )


def _rest() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit_log",
        sa.Column("number", _number(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.execute(f"INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '{'0' * 64}')")  # noqa: S608
