"""Run the migrations on the connection of ``homeroom.db.alembic_runner``."""

from __future__ import annotations

from alembic import context

from homeroom.db.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
