"""Alembic's entry: runs each migration in its own transaction, on the connection that `metering.db.migrate` gives.

The code that may run on the schema is recorded in the same transaction.
"""

from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import text

_RECORD = text(
    """
    INSERT INTO schema_compatibility (oldest_code) VALUES (:oldest_code)
    ON CONFLICT (only_row) DO UPDATE SET oldest_code = excluded.oldest_code
    """
)


def record_oldest_code(*, ctx: MigrationContext, step: MigrationInfo, **_: Any) -> None:
    """Record what the migration says; those before 0017 say nothing."""
    script = context.script.get_revision(step.up_revision_id)
    oldest_code = getattr(script.module, "OLDEST_CODE", None) if script else None
    if oldest_code is not None and ctx.connection is not None:
        ctx.connection.execute(_RECORD, {"oldest_code": oldest_code})


context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=True,
    on_version_apply=record_oldest_code,
)
with context.begin_transaction():
    context.run_migrations()
