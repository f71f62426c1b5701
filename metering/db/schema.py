"""Check the version of the schema, and add and drop journal partitions."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, text

import migrations
from metering.core.errors import MeteringError
from metering.db.engine import transaction


class RoleMissingError(MeteringError):
    """The login may not create the service's roles; an administrator must create them."""


class MigrationBlockedError(MeteringError):
    """A migration did not get its locks; what it had done before is kept, and the next run goes on from there."""


class SchemaOutdatedError(MeteringError):
    """The schema does not have what this code needs."""


class SchemaTooNewError(MeteringError):
    """A newer release migrated the schema so that this code may not run on it."""


class RetentionRefusedError(MeteringError):
    """The owner of the database does not allow the service to drop that much of the journal."""


class UnknownSchemaError(MeteringError):
    """The database was migrated by another release, whose versions this one does not know."""


def check_usable(engine: Engine) -> None:
    """Check that this code may run on the schema: on its own version, or on a newer one that allows it.

    Raises:
        SchemaOutdatedError: the schema is older than this code; the message says what to run.
        SchemaTooNewError: the schema is newer, and needs newer code.
    """
    with transaction(engine) as connection:
        found = stored_version(connection)
        oldest_code = stored_oldest_code(connection)
    if found == migrations.HEAD:
        return
    if found is None or oldest_code is None or not is_newer(found):
        needed = f"this code needs {migrations.HEAD}: run `metering migrate`"
        raise SchemaOutdatedError(f"the database is at {found or 'no version'}, {needed}")
    check_allowed(found, oldest_code=oldest_code)


def check_allowed(found: str, *, oldest_code: str) -> None:
    """Check that this code may run on a newer schema.

    Raises:
        SchemaTooNewError: it may not.
    """
    if _number(oldest_code) > _number(migrations.HEAD):
        raise SchemaTooNewError(
            f"the database is at {found}, which needs the code of {oldest_code} or newer, and this code is of"
            f" {migrations.HEAD}: install the newer release"
        )


def is_newer(version: str) -> bool:
    """Whether a version of the schema is newer than this code."""
    return _number(version) > _number(migrations.HEAD)


def _number(version: str) -> str:
    return version.partition("_")[0]


# Alembic's own table. Its library takes a tenth of a second to import, and only a migration needs it.
_HAS_VERSIONS = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_VERSION = text("SELECT version_num FROM alembic_version")
_HAS_OLDEST_CODE = text("SELECT to_regclass('schema_compatibility') IS NOT NULL")
_OLDEST_CODE = text("SELECT oldest_code FROM schema_compatibility")


def stored_version(connection: Connection) -> str | None:
    """The version of the schema; None if it was never migrated."""
    if not connection.execute(_HAS_VERSIONS).scalar_one():
        return None
    version: str | None = connection.execute(_VERSION).scalar_one_or_none()
    return version


def stored_oldest_code(connection: Connection) -> str | None:
    """The oldest code that may run on the schema; None if the schema is older than this rule."""
    if not connection.execute(_HAS_OLDEST_CODE).scalar_one():
        return None
    oldest_code: str | None = connection.execute(_OLDEST_CODE).scalar_one_or_none()
    return oldest_code


def ensure_journal_partitions(engine: Engine, *, now: datetime) -> int:
    """Create the journal partitions of this month and the next two; returns how many were created."""
    with transaction(engine) as connection:
        made: int = connection.execute(text("SELECT ensure_journal_partitions(:now)"), {"now": now}).scalar_one()
    return made


_ALLOW_DROPS = text(
    """
    INSERT INTO journal_retention (at_least) VALUES (:at_least)
    ON CONFLICT (one) DO UPDATE SET at_least = :at_least
    """
)
_ALLOW_NO_DROPS = text("DELETE FROM journal_retention")
_ALLOWED = text("SELECT (SELECT at_least FROM journal_retention) <= :retention")


def allow_journal_drops(owner: Engine, *, at_least: timedelta | None) -> None:
    """Set, as the owner, how much of the journal the service has to keep; None: all of it."""
    with transaction(owner) as connection:
        if at_least is None:
            connection.execute(_ALLOW_NO_DROPS)
        else:
            connection.execute(_ALLOW_DROPS, {"at_least": at_least})


def drop_journal_partitions(engine: Engine, *, retention: timedelta) -> list[str]:
    """Drop journal partitions that ended longer ago than `retention`; returns their names, oldest first.

    The clock of the database applies, and the database refuses a retention of less than 31 days.

    Raises:
        RetentionRefusedError: it is less than the owner of the database allows.
    """
    with transaction(engine) as connection:
        if connection.execute(_ALLOWED, {"retention": retention}).scalar_one() is not True:
            raise RetentionRefusedError(
                f"METERING_JOURNAL_RETENTION: the owner of the database does not allow {retention.days} days: run"
                " `metering migrate` with the same setting"
            )
        dropped: list[str] = connection.execute(
            text("SELECT drop_journal_partitions(:retention)"), {"retention": retention}
        ).scalar_one()
    return dropped
