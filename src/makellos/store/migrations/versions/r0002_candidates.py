"""Candidates for a recipe, and the locked sets that they are judged on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    _candidates()
    _regression_sets()


def _number() -> sa.types.TypeEngine[int]:
    # SQLite counts up only what is called INTEGER.
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _candidates() -> None:
    op.create_table(
        "candidates",
        sa.Column("number", _number(), autoincrement=True, nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("base_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("model_hash", sa.Text()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_hash"], ["models.hash"]),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_candidates_recipe", "candidates", ["recipe"])
    op.create_table(
        "candidate_changes",
        sa.Column("candidate", _number(), autoincrement=False, nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("inspection_id", _number(), autoincrement=False, nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("score_before", sa.Double()),
        sa.Column("score_after", sa.Double()),
        sa.ForeignKeyConstraint(["candidate"], ["candidates.number"]),
        sa.PrimaryKeyConstraint("candidate", "of", "inspection_id"),
    )
    op.create_table(
        "learned_parts",
        sa.Column("candidate", _number(), autoincrement=False, nullable=False),
        sa.Column("inspection_id", _number(), autoincrement=False, nullable=False),
        sa.Column("picture", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["candidates.number"]),
        sa.PrimaryKeyConstraint("candidate", "inspection_id"),
    )


def _regression_sets() -> None:
    op.create_table(
        "regression_sets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("n_good", sa.Integer(), nullable=False),
        sa.Column("n_defective", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "regression_parts",
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("inspection_id", _number(), autoincrement=False, nullable=False),
        sa.Column("picture", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["set_name"], ["regression_sets.name"]),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspections.id"]),
        sa.PrimaryKeyConstraint("set_name", "inspection_id"),
    )
    op.create_index("ix_regression_parts_inspection_id", "regression_parts", ["inspection_id"])
