"""What a backup reads beside the rows: counts, roles, the server; and whether a database is empty."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from metering.db.engine import READER_ROLE, SERVICE_ROLE
from metering.server.backup.manifest import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The server, and the owner of the schema. `version` is PostgreSQL's number, such as 180006."""

    version: int
    encoding: str
    owner: str
    taken_at: datetime
    lsn: str


def check_connected(connection: psycopg.Connection[Any]) -> None:
    """Ask PostgreSQL for an answer.

    Raises:
        psycopg.Error: there is none.
    """
    connection.execute("SELECT")


_SERVER = """
SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,
       coalesce((SELECT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename = 'alembic_version'),
                current_user)::text AS owner,
       transaction_timestamp() AS taken_at,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text AS lsn
"""

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1, 2
"""

_OBJECT = """
SELECT kind || ' ' || name FROM (
    SELECT 'table' AS kind, c.oid::regclass::text AS name, c.relnamespace AS namespace FROM pg_class c
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, p.pronamespace FROM pg_proc p
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
) AS object JOIN pg_namespace n ON n.oid = namespace
WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
UNION ALL
SELECT 'schema ' || nspname FROM pg_namespace
WHERE nspname NOT IN ('information_schema', 'public') AND nspname NOT LIKE 'pg\\_%'
LIMIT 1
"""

# The service's roles, their members, and all that were granted anything. A superuser is not copied.
_ROLES = """
WITH named AS (
    SELECT oid FROM pg_roles WHERE rolname IN (%(service)s, %(reader)s)
    UNION
    SELECT m.member FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
    WHERE g.rolname IN (%(service)s, %(reader)s)
    UNION
    SELECT (aclexplode(acl)).grantee FROM (
        SELECT relacl AS acl FROM pg_class UNION ALL SELECT nspacl FROM pg_namespace
        UNION ALL SELECT proacl FROM pg_proc UNION ALL SELECT attacl FROM pg_attribute
        UNION ALL SELECT defaclacl FROM pg_default_acl
    ) AS granted
)
SELECT r.rolname AS name, r.rolcanlogin AS can_login, r.rolconnlimit AS connection_limit,
       coalesce(r.rolconfig, ARRAY[]::text[]) AS settings,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid AND g.rolname NOT LIKE 'pg\\_%%' ORDER BY 1) AS member_of
FROM named JOIN pg_roles r USING (oid)
WHERE NOT r.rolsuper AND r.rolname NOT LIKE 'pg\\_%%' AND r.rolname <> current_user
ORDER BY r.rolcanlogin, r.rolname
"""

_VERIFIERS = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s) AND rolpassword IS NOT NULL"
_MAY_READ_VERIFIERS = "SELECT has_table_privilege('pg_authid', 'SELECT')"
_EXISTING = "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)"


def server_facts(connection: psycopg.Connection[Any]) -> ServerFacts:
    """The server, as of the transaction."""
    with connection.cursor(row_factory=class_row(ServerFacts)) as cursor:
        found = cursor.execute(_SERVER).fetchone()
    assert found is not None
    return found


def export_snapshot(connection: psycopg.Connection[Any]) -> str:
    """The name under which other sessions see what this transaction sees, while it lasts."""
    return str(_value(connection, "SELECT pg_export_snapshot()"))


def schema_version(connection: psycopg.Connection[Any]) -> str | None:
    """The version of the schema; None if this is not a database of the service."""
    if _value(connection, "SELECT to_regclass('public.alembic_version')::text") is None:
        return None
    return _value(connection, "SELECT version_num FROM public.alembic_version")


def is_cluster(connection: psycopg.Connection[Any]) -> bool:
    """Whether the database is one of Citus, whose rows are on several nodes."""
    return _value(connection, "SELECT extname FROM pg_extension WHERE extname = 'citus'") is not None


def row_counts(connection: psycopg.Connection[Any], progress: Callable[[], None]) -> dict[str, int]:
    """The rows of each table, by its quoted name with its schema."""
    counts = {}
    for schema, table in connection.execute(_TABLES).fetchall():
        name = sql.Identifier(schema, table)
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone()
        assert row is not None
        counts[f"{schema}.{table}"] = row[0]
        progress()
    return counts


def first_object(connection: psycopg.Connection[Any]) -> str | None:
    """The kind and name of something that the database holds; None if it is empty."""
    return _value(connection, _OBJECT)


def needed_roles(connection: psycopg.Connection[Any]) -> list[Role]:
    """The roles that the database needs, groups first. Passwords only if the login may read their verifiers."""
    parameters = {"service": SERVICE_ROLE, "reader": READER_ROLE}
    with connection.cursor(row_factory=class_row(Role)) as cursor:
        roles = cursor.execute(_ROLES, parameters).fetchall()
    row = connection.execute(_MAY_READ_VERIFIERS).fetchone()
    if row is None or not row[0]:
        return roles
    verifiers = dict(connection.execute(_VERIFIERS, [[role.name for role in roles]]).fetchall())
    return [
        Role(
            name=role.name,
            can_login=role.can_login,
            connection_limit=role.connection_limit,
            verifier=verifiers.get(role.name),
            settings=role.settings,
            member_of=role.member_of,
        )
        for role in roles
    ]


def existing_roles(connection: psycopg.Connection[Any], names: list[str]) -> set[str]:
    """Those of the names that are roles of the server."""
    return {name for (name,) in connection.execute(_EXISTING, [names]).fetchall()}


def _value(connection: psycopg.Connection[Any], query: str) -> str | None:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None or row[0] is None else str(row[0])
