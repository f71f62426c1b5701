"""Migrate the schema: create the roles that are missing, then upgrade to the version of this code."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

import migrations
from metering.db.engine import READER_ROLE, SERVICE_ROLE, transaction
from metering.db.locks import Lock, take
from metering.db.schema import RoleMissingError, UnknownSchemaError, stored_version


def migrate(owner: Engine) -> str:
    """Upgrade the schema to the version of this code and return that version. Concurrent runs are safe.

    Raises:
        RoleMissingError: the roles are missing and the login may not create them.
        UnknownSchemaError: the database belongs to another release.
    """
    with transaction(owner) as connection:
        take(connection, Lock.MIGRATION)
        _check_known(connection)
        _ensure_roles(connection)
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return migrations.HEAD


def _check_known(connection: Connection) -> None:
    found = stored_version(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}
    if found is not None and found not in known:
        raise UnknownSchemaError(
            f"the database is at version {found}, which this release does not know: "
            "use the release that made it, or a new database"
        )


def _ensure_roles(connection: Connection) -> None:
    for role in (SERVICE_ROLE, READER_ROLE):
        if not connection.execute(_ROLE_EXISTS, {"role": role}).first():
            _create_role(connection, role)
    if not connection.execute(_MAY_BECOME_SERVICE, {"role": SERVICE_ROLE}).scalar_one():
        _as_administrator(connection, f"GRANT {SERVICE_ROLE} TO CURRENT_USER")


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
