"""Carries out migrations on the connection that the store gives, inside its transaction."""

from __future__ import annotations

from alembic import context

from makellos.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
