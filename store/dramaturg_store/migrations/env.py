"""Alembic's entry: runs the migrations on the connection that `dramaturg_store.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from dramaturg_store.schema import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite cannot alter a table in place: it is copied.
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    include_name=lambda name, kind, _parents: kind != "table" or str(name).startswith("dramaturg_"),
)
with context.begin_transaction():
    context.run_migrations()
