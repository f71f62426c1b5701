"""What a restore writes: roles, and the sections of a dump as pg_restore prints them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any

import psycopg
from psycopg import sql

from metering.server.backup.manifest import DamagedBackupError, Role

_BATCH_BYTES = 1 << 18
_COPY = re.compile(rb"COPY (\S+) .*FROM stdin;\n")
_COPY_END = b"\\.\n"
# Meant for psql; a server does not know them.
_PSQL_ONLY = re.compile(r"^\\(un)?restrict \S+\n", re.MULTILINE)
# pg_restore prints it whatever the server, and those before 17 do not know it.
_SINCE_17 = re.compile(r"^SET transaction_timeout = 0;\n", re.MULTILINE)


def create_role(connection: psycopg.Connection[Any], role: Role) -> None:
    """Create a role with its settings and its password, and make it a member of its groups."""
    name = sql.Identifier(role.name)
    options: list[sql.Composable] = [sql.SQL("LOGIN" if role.can_login else "NOLOGIN")]
    options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(role.connection_limit)))
    if role.verifier is not None:
        options.append(sql.SQL("PASSWORD {}").format(sql.Literal(role.verifier)))
    connection.execute(sql.SQL("CREATE ROLE {} {}").format(name, sql.SQL(" ").join(options)))
    for setting in role.settings:
        key, _, value = setting.partition("=")
        statement = sql.SQL("ALTER ROLE {} SET {} = {}")
        connection.execute(statement.format(name, sql.Identifier(key), sql.Literal(value)))
    for group in role.member_of:
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), name))


def run_definitions(connection: psycopg.Connection[Any], script: str) -> None:
    """Run the SQL of a section without rows."""
    _run(connection, [script])


def copy_rows(
    connection: psycopg.Connection[Any], output: IO[bytes], *, progress: Callable[[int], None]
) -> Mapping[str, int]:
    """Load the section with the rows; returns how many PostgreSQL took, by table. `progress` gets lines loaded.

    Raises:
        DamagedBackupError: the section ends in the middle of a table.
    """
    loaded: dict[str, int] = {}
    statements: list[str] = []
    for line in output:
        copy = _COPY.fullmatch(line)
        if copy is None:
            statements.append(line.decode())
            continue
        _run(connection, statements)
        statements.clear()
        with connection.cursor() as cursor:
            with cursor.copy(line.rstrip(b";\n")) as target:
                for batch, lines in _batches(output):
                    target.write(batch)
                    progress(lines)
            loaded[_plain(copy[1])] = cursor.rowcount
    _run(connection, statements)
    return loaded


def analyze(connection: psycopg.Connection[Any]) -> None:
    """Collect the planner's statistics, which a dump does not have."""
    connection.execute("ANALYZE")


def _batches(output: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """The rows of one table up to its end, in pieces of a quarter of a megabyte or more, with their number."""
    lines: list[bytes] = []
    size = 0
    for line in output:
        if line == _COPY_END:
            yield b"".join(lines), len(lines)
            return
        lines.append(line)
        size += len(line)
        if size >= _BATCH_BYTES:
            yield b"".join(lines), len(lines)
            lines, size = [], 0
    raise DamagedBackupError("the dump ends in the middle of a table")


def _run(connection: psycopg.Connection[Any], lines: Iterable[str]) -> None:
    script = _PSQL_ONLY.sub("", "".join(lines))
    if connection.info.server_version < 170000:
        script = _SINCE_17.sub("", script)
    connection.execute(script.encode())


def _plain(name: bytes) -> str:
    """The name of a table as the manifest writes it; ours need no quotes."""
    return name.decode().replace('"', "")
