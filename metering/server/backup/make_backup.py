"""Make a backup: pg_dump in one snapshot, with the roles, the rows of each table and the checksum of each file."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

import psycopg

from metering.core.folders import new_folder
from metering.db.engine import DatabaseUnavailableError, will_pass
from metering.db.failures import why_failed, why_unreachable
from metering.server.backup.manifest import (
    DUMP,
    BackupFailedError,
    Manifest,
    checksums,
    write_manifest,
)
from metering.server.backup.queries import (
    ServerFacts,
    check_connected,
    export_snapshot,
    is_cluster,
    needed_roles,
    row_counts,
    schema_version,
    server_facts,
)
from metering.server.backup.tools import Process, conninfo_of, end, said, start_dump

DISTRIBUTION = "stream-metering"
_POLL_SECONDS = 0.2
# The snapshot belongs to this session, which is idle while pg_dump reads.
_OPTIONS = (
    "-c timezone=UTC -c idle_in_transaction_session_timeout=0 -c statement_timeout=0"
    " -c default_transaction_read_only=on"
)


def make_backup(*, url: str, target: Path, jobs: int, progress: Callable[[int], None]) -> Manifest:
    """Back up the database into a new folder, while it is in use. `url` logs in as the owner of the schema.

    The folder gets its name when it is whole and synced. `progress` is called with the bytes written so far.

    Raises:
        BackupFailedError: pg_dump failed; nothing is left.
        FolderError: the folder exists, or cannot be made.
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    with new_folder(target) as partial:
        manifest = _dump(url, partial, jobs, progress)
        write_manifest(manifest, partial)
    return manifest


def _dump(url: str, partial: Path, jobs: int, progress: Callable[[int], None]) -> Manifest:
    with _snapshot(url) as connection:
        found = schema_version(connection)
        if found is None:
            raise BackupFailedError("the database has no schema of this service: nothing to back up")
        if is_cluster(connection):
            raise BackupFailedError(
                "this is a Citus cluster, whose nodes have no common snapshot: back up each node (docs/scaling.md)"
            )
        facts, roles = server_facts(connection), needed_roles(connection)
        snapshot = export_snapshot(connection)
        with TemporaryFile() as errors:
            process = start_dump(
                url,
                encrypted=connection.pgconn.ssl_in_use,
                folder=partial / DUMP,
                snapshot=snapshot,
                jobs=jobs,
                errors=errors,
            )
            try:
                # In the same snapshot and at the same time: the pages are read once.
                rows = row_counts(connection, lambda: progress(_size(partial)))
                _await(process, lambda: progress(_size(partial)))
            finally:
                end(process)
            if process.returncode != 0:
                check_connected(connection)  # what ends pg_dump mostly ends this connection, too
                raise BackupFailedError(f"pg_dump failed: {said(errors)}")
    return _manifest(facts, found, partial, rows=rows, roles=roles)


def _manifest(facts: ServerFacts, schema: str, partial: Path, **counted: object) -> Manifest:
    return Manifest(
        release=version(DISTRIBUTION),
        schema_version=schema,
        server_version=facts.version,
        encoding=facts.encoding,
        taken_at=facts.taken_at,
        lsn=facts.lsn,
        owner=facts.owner,
        files=checksums(partial),
        **counted,  # type: ignore[arg-type]
    )


@contextmanager
def _snapshot(url: str) -> "Iterator[psycopg.Connection[tuple[object, ...]]]":
    try:
        connection = psycopg.connect(conninfo_of(url), options=_OPTIONS, connect_timeout=5)
    except psycopg.Error as error:
        raise DatabaseUnavailableError(f"PostgreSQL cannot be reached: {why_unreachable(error)}") from error
    with connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            yield connection
        except psycopg.Error as error:
            kind = DatabaseUnavailableError if will_pass(error) else BackupFailedError
            raise kind(f"the backup was not made: {why_failed(error)}") from error


def _await(process: Process, poll: Callable[[], None]) -> None:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return
        poll()


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
