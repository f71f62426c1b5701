"""Databases on a Citus cluster that was given by URL: a few that are used again, since each takes long to make.

A template is the rows of all tables. Its copy is a database that was emptied, with these rows.
"""

import psycopg
from sqlalchemy import make_url

from metering.db.distribution import PLACEMENTS
from metering.db.engine import owner_engine
from metering.db.migrate import migrate

# Enough for two shards on each of two nodes; every statement visits every shard.
_SHARDS = 4
# Rows that say which schema it is.
_KEPT = ("alembic_version", "schema_compatibility")

# What a test may have changed beside rows: privileges, columns, triggers and constraints of these tables.
_SCHEMA = """
    WITH tables AS (SELECT * FROM pg_class WHERE relname = ANY (%s) AND relnamespace = 'public'::regnamespace)
    SELECT md5(string_agg(one, ',' ORDER BY one)) FROM (
        SELECT concat_ws(' ', relname, relacl, relnatts) FROM tables
        UNION ALL
        SELECT concat_ws(' ', relname, tgname, tgenabled) FROM pg_trigger g JOIN tables t ON t.oid = g.tgrelid
        UNION ALL
        SELECT concat_ws(' ', relname, conname) FROM pg_constraint c JOIN tables t ON t.oid = c.conrelid
    ) AS everything (one)
"""

Rows = dict[str, bytes]


class Cluster:
    """The databases of one cluster. `url` names one that has the extension and all nodes."""

    def __init__(self, url: str) -> None:
        self._url = url
        with psycopg.connect(url, autocommit=True) as connection:
            self._nodes = connection.execute(
                "SELECT nodename, nodeport, groupid = 0 FROM pg_dist_node ORDER BY groupid"
            ).fetchall()
        self._free: list[str] = []
        self._made = 0
        self._schemas: dict[str, str] = {}
        self._templates: dict[str, Rows] = {}
        self._being_built: dict[str, str] = {}

    def database_url(self, name: str) -> str:
        """How to reach a database on the coordinator."""
        return self._on(self._url, name)

    def checkout(self, template: str) -> str:
        """The name of a database with the rows of a template; `give_back` it."""
        rows = self._rows_of(template)
        name = self._free.pop() if self._free else self._make()
        self._empty(name)
        with psycopg.connect(self.database_url(name)) as connection:
            connection.execute("SET session_replication_role = replica")
            for table, data in rows.items():
                with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(data)
        return name

    def build(self, template: str, *, name: str) -> str:
        """A database that becomes the template `name` when that is used first."""
        self._being_built[name] = self.checkout(template)
        return self._being_built[name]

    def give_back(self, name: str) -> None:
        """Let another test use the database, unless its schema has changed."""
        if self._schema_of(name) == self._schemas[name]:
            self._free.append(name)

    def _rows_of(self, template: str) -> Rows:
        if template not in self._templates:
            built = self._being_built.pop(template, None) or self._make()
            self._templates[template] = self._read(built)
            self._free.append(built)
        return self._templates[template]

    def _read(self, name: str) -> Rows:
        rows: Rows = {}
        with psycopg.connect(self.database_url(name)) as connection:
            for table, _ in PLACEMENTS:
                if table not in _KEPT:
                    with connection.cursor().copy(f"COPY (SELECT * FROM {table}) TO STDOUT".encode()) as copy:
                        rows[table] = b"".join(copy)
        return {table: data for table, data in rows.items() if data}

    def _make(self) -> str:
        self._made += 1
        name = f"{make_url(self._url).database}_test_{self._made}"
        for node in self._node_urls("postgres"):
            with psycopg.connect(node, autocommit=True) as connection:
                connection.execute("SET citus.enable_create_database_propagation = off")
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
                connection.execute(f"CREATE DATABASE {name}".encode())
                connection.execute(f"ALTER DATABASE {name} SET citus.shard_count = {_SHARDS}".encode())
                connection.execute(f"ALTER DATABASE {name} SET client_min_messages = warning".encode())
        for node in self._node_urls(name):
            with psycopg.connect(node, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION citus")
        with psycopg.connect(self.database_url(name), autocommit=True) as connection:
            for host, port, is_coordinator in self._nodes:
                add = "citus_set_coordinator_host" if is_coordinator else "citus_add_node"
                connection.execute(f"SELECT {add}(%s, %s)".encode(), (host, port))
        engine = owner_engine(self.database_url(name))
        migrate(engine)
        engine.dispose()
        self._schemas[name] = self._schema_of(name)
        return name

    def _schema_of(self, name: str) -> str:
        with psycopg.connect(self.database_url(name)) as connection:
            tables = [table for table, _ in PLACEMENTS]
            found: str = connection.execute(_SCHEMA.encode(), (tables,)).fetchall()[0][0]
            return found

    def _empty(self, name: str) -> None:
        for node in self._node_urls(name):
            with psycopg.connect(node) as connection:
                connection.execute("SET citus.enable_manual_changes_to_shards = on")
                connection.execute("SET citus.override_table_visibility = off")
                full = connection.execute(
                    "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                    " AND relkind = 'r' AND pg_relation_size(oid) > 0 AND relname <> ALL (%s)",
                    (list(_KEPT),),
                ).fetchall()
                if full:
                    tables = ", ".join(row[0] for row in full)
                    connection.execute(f"TRUNCATE {tables} CASCADE".encode())

    def _node_urls(self, name: str) -> list[str]:
        return [
            self._on(make_url(self._url).set(host=host, port=port).render_as_string(hide_password=False), name)
            for host, port, _ in self._nodes
        ]

    @staticmethod
    def _on(url: str, name: str) -> str:
        return make_url(url).set(database=name).render_as_string(hide_password=False)
