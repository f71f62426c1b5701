"""Migrate the schema: create the roles that are missing, then upgrade to the version of this code."""

import logging
import random
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

import migrations
from metering.db.citus import distribute, on_citus
from metering.db.engine import READER_ROLE, SERVICE_ROLE, transaction
from metering.db.locks import Lock, take
from metering.db.schema import (
    MigrationBlockedError,
    RoleMissingError,
    UnknownSchemaError,
    check_allowed,
    is_newer,
    stored_oldest_code,
    stored_version,
)

log = logging.getLogger(__name__)


# A migration is tried again while sessions that it waits for go on: a backup, an export, a report.
PATIENCE = timedelta(minutes=10)
_MAX_PAUSE_SECONDS = 2.0


def migrate(owner: Engine, *, patience: timedelta = PATIENCE) -> str:
    """Upgrade the schema to the version of this code and return its version. Concurrent runs are safe.

    Each migration is a transaction of its own, and waits for a lock for a second at most, so that ingest goes on.
    On Citus, tables that are not distributed yet are distributed then. A newer schema that allows this code is
    left as it is.

    Raises:
        RoleMissingError: the roles are missing and the login may not create them.
        MigrationBlockedError: other sessions held a table for longer than `patience`.
        SchemaTooNewError: a newer release made the schema unusable for this code.
        UnknownSchemaError: the database belongs to another release.
    """
    with transaction(owner) as guard:
        guard.execute(_WAIT_FOR_EVER)
        take(guard, Lock.MIGRATION)
        newer = _newer_version(guard)
        if newer is not None:
            return newer
        with transaction(owner) as connection:
            ensure_roles(connection)
        _upgrade(owner, patience=patience)
    return migrations.HEAD


# The guard is idle while migrations run on another connection, and its lock is that of the whole run.
_WAIT_FOR_EVER = text(
    "SELECT set_config('lock_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)"
)


def _newer_version(connection: Connection) -> str | None:
    """The version of a newer schema that allows this code; None if the schema is to be migrated."""
    found = stored_version(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
    if found is None or found in known:
        return None
    oldest_code = stored_oldest_code(connection)
    if oldest_code is None or not is_newer(found):
        raise UnknownSchemaError(
            f"the database is at version {found}, which this release does not know: "
            "use the release that made it, or a new database"
        )
    check_allowed(found, oldest_code=oldest_code)
    return found


def _upgrade(owner: Engine, *, patience: timedelta) -> None:
    deadline = monotonic() + patience.total_seconds()
    config = _alembic_config()
    while True:
        try:
            with owner.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            with transaction(owner) as connection:
                distribute(connection)
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
            if monotonic() > deadline:
                what = str(error.orig).splitlines()[0]
                raise MigrationBlockedError(
                    f"another session holds a table that the migration needs ({what}): end it, and run"
                    " `metering migrate` again; pg_stat_activity names it, by the age of its transaction"
                ) from error
            log.warning("a migration did not get its lock within a second, will retry")
        # Whatever queued behind the migration goes on before it is tried again.
        sleep(random.uniform(0.5, 1.0) * _MAX_PAUSE_SECONDS)


def ensure_roles(connection: Connection) -> None:
    for role in (SERVICE_ROLE, READER_ROLE):
        if not connection.execute(_ROLE_EXISTS, {"role": role}).first():
            _create_role(connection, role)
    if not connection.execute(_MAY_BECOME_SERVICE, {"role": SERVICE_ROLE}).scalar_one():
        _as_administrator(connection, f"GRANT {SERVICE_ROLE} TO CURRENT_USER")
    if on_citus(connection):
        _prepare_roles_for_workers(connection)


def _prepare_roles_for_workers(connection: Connection) -> None:
    """Citus logs in to the workers as the role that runs a statement, and with the settings of that role."""
    for role in (SERVICE_ROLE, READER_ROLE):
        if not connection.execute(_IS_READY, {"role": role}).scalar_one():
            _as_administrator(connection, f"ALTER ROLE {role} LOGIN")
            _as_administrator(connection, f"ALTER ROLE {role} SET timezone = 'UTC'")


_IS_READY = text(
    """
    SELECT rolcanlogin AND EXISTS (
        SELECT FROM pg_db_role_setting
        WHERE setrole = r.oid AND setdatabase = 0 AND 'TimeZone=UTC' = ANY (setconfig))
    FROM pg_roles r WHERE rolname = :role
    """
)


_ROLE_EXISTS = text("SELECT 1 FROM pg_roles WHERE rolname = :role")

# Since PostgreSQL 16, the creator of a role is a member of it, but may not SET ROLE to it.
_MAY_BECOME_SERVICE = text(
    """
    SELECT pg_has_role(current_user, :role, CASE
        WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
    """
)


def _create_role(connection: Connection, role: str) -> None:
    try:
        _as_administrator(connection, f"CREATE ROLE {role} NOLOGIN")
    except RoleMissingError:
        # Roles belong to the whole server: the migration of another database may have just created it.
        if not connection.execute(_ROLE_EXISTS, {"role": role}).first():
            raise


def _as_administrator(connection: Connection, statement: str) -> None:
    try:
        with connection.begin_nested():
            connection.execute(text(statement))
    except ProgrammingError as error:
        raise RoleMissingError(
            f"this login may not run `{statement}`; as an administrator run: CREATE ROLE {SERVICE_ROLE} NOLOGIN; "
            f"CREATE ROLE {READER_ROLE} NOLOGIN; GRANT {SERVICE_ROLE} TO <this login>;"
        ) from error


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config
