"""Restore a backup into an empty database, or into a new data folder of `metering up`; all of it, or nothing."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import psycopg

import migrations
from metering.core.errors import MeteringError
from metering.core.folders import sync
from metering.db.engine import DatabaseUnavailableError, owner_engine, transaction, will_pass
from metering.db.failures import why_failed, why_unreachable
from metering.db.migrate import ensure_roles
from metering.server.backup.manifest import (
    DUMP,
    DamagedBackupError,
    Manifest,
    Role,
    check_files,
    read_manifest,
)
from metering.server.backup.queries import existing_roles, first_object, server_facts
from metering.server.backup.store import analyze, copy_rows, create_role, run_definitions
from metering.server.backup.tools import conninfo_of, end, said, start_reading
from metering.server.embedded.data_dir import locked_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor

Progress = Callable[[str, int, int], None]

# All rows are in one transaction, whose commit may have been the last thing that PostgreSQL did.
_AGAIN = (
    "run it again; if the database is not empty then, all of it was restored: run ANALYZE there, and go on with"
    " `metering migrate` and `metering audit`"
)


class RestoreRefusedError(MeteringError):
    """The backup does not fit the place where it is to be restored; nothing was written."""


class RestoreFailedError(MeteringError):
    """PostgreSQL refused a part of the backup; the database is as empty as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored. `without_password`: logins that were created, and cannot log in by password yet."""

    manifest: Manifest
    created_roles: list[str]
    without_password: list[str]


def restore_folder(*, backup: Path, data: Path, progress: Progress) -> Restored:
    """Restore into a data folder of `metering up` that has no database yet.

    The new cluster gets its name in the folder when it is whole and its server has stopped.

    Raises:
        RestoreRefusedError: the folder has a database.
        DamagedBackupError, RestoreFailedError, DataDirInUseError, DataDirUnusableError: as they say.
    """
    manifest = checked_manifest(backup, progress)
    with locked_data_dir(data, note="metering restore") as folder:
        cluster = folder / "postgres"
        if cluster.exists():
            raise RestoreRefusedError(f"{folder} has a database already: name another folder, or move it away")
        partial = folder / f"restoring-{secrets.token_hex(4)}"
        partial.mkdir(mode=0o755)
        try:
            with (
                Supervisor(quiet=True) as supervisor,
                embedded_services(data=partial, supervisor=supervisor, valkey=False) as services,
            ):
                restored = _restore(backup, manifest, services.database_url, progress)
            os.rename(partial / "postgres", cluster)
            sync(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return restored


def restore_database(*, backup: Path, url: str, progress: Progress) -> Restored:
    """Restore into an empty database. `url` logs in as its owner to be, who may create roles if some are missing.

    Raises:
        RestoreRefusedError: the database is not empty, or cannot hold the backup.
        DamagedBackupError, RestoreFailedError, RoleMissingError, DatabaseUnavailableError: as they say.
    """
    return _restore(backup, checked_manifest(backup, progress), url, progress)


def checked_manifest(backup: Path, progress: Progress) -> Manifest:
    """The manifest of a backup whose files were compared with it, and whose schema this release knows.

    Raises:
        DamagedBackupError: a file was changed or is missing.
        RestoreRefusedError: a newer release made the backup.
    """
    manifest = read_manifest(backup)
    if manifest.schema_version > migrations.HEAD:
        raise RestoreRefusedError(
            f"the backup has schema {manifest.schema_version}, this release knows those up to {migrations.HEAD}:"
            f" restore it with release {manifest.release}"
        )
    done = 0

    def checked(size: int) -> None:
        nonlocal done
        done += size
        progress("bytes checked", done, manifest.total_bytes)

    check_files(manifest, backup, progress=checked)
    return manifest


def _restore(backup: Path, manifest: Manifest, url: str, progress: Progress) -> Restored:
    with _connected(url) as connection:
        _check_target(connection, manifest)
    engine = owner_engine(url)
    with transaction(engine) as owner:
        ensure_roles(owner)
    engine.dispose()
    with _connected(url) as connection:
        created = _create_roles(connection, manifest)
    with _connected(url) as connection:
        _load(connection, backup, manifest, progress)
    with _connected(url) as connection:
        connection.autocommit = True
        analyze(connection)
    return Restored(
        manifest=manifest,
        created_roles=[role.name for role in created],
        without_password=[role.name for role in created if role.can_login and role.verifier is None],
    )


def _check_target(connection: psycopg.Connection[Any], manifest: Manifest) -> None:
    found = first_object(connection)
    if found is not None:
        raise RestoreRefusedError(
            f"the database is not empty (it has the {found}): create a new one, and restore into that"
        )
    facts = server_facts(connection)
    if facts.version // 10_000 < manifest.server_version // 10_000:
        raise RestoreRefusedError(
            f"the backup is of PostgreSQL {manifest.server_version // 10_000}, this server is"
            f" {facts.version // 10_000}: restore into the same or a newer version"
        )
    if facts.encoding != manifest.encoding:
        raise RestoreRefusedError(
            f"the database has the encoding {facts.encoding}, the backup {manifest.encoding}:"
            f" create it with ENCODING '{manifest.encoding}' TEMPLATE template0"
        )


def _create_roles(connection: psycopg.Connection[Any], manifest: Manifest) -> list[Role]:
    present = existing_roles(connection, [role.name for role in manifest.roles])
    missing = [role for role in manifest.roles if role.name not in present]
    for role in missing:
        create_role(connection, role)
    return missing


def _load(connection: psycopg.Connection[Any], backup: Path, manifest: Manifest, progress: Progress) -> None:
    """All sections in one transaction, which is committed only if each table has the rows of the manifest."""
    done = 0

    def loaded(rows: int) -> None:
        nonlocal done
        done += rows
        progress("rows restored", done, manifest.total_rows)

    with _section(backup, "pre-data") as output:
        run_definitions(connection, output.read().decode())
    with _section(backup, "data") as output:
        _check_rows(manifest, copy_rows(connection, output, progress=loaded))
    with _section(backup, "post-data") as output:
        run_definitions(connection, output.read().decode())


def _check_rows(manifest: Manifest, loaded: Mapping[str, int]) -> None:
    for table in sorted({*manifest.rows, *loaded}):
        if manifest.rows.get(table, 0) != loaded.get(table, 0):
            raise DamagedBackupError(
                f"table {table}: the manifest has {manifest.rows.get(table, 0):,} rows, the dump"
                f" {loaded.get(table, 0):,}"
            )


@contextmanager
def _section(backup: Path, section: str) -> Iterator[IO[bytes]]:
    """What pg_restore prints of a section; after the block it has ended well."""
    with TemporaryFile() as errors:
        process = start_reading(backup / DUMP, section=section, errors=errors)
        assert process.stdout is not None
        try:
            with process.stdout as output:
                yield output
            if process.wait() != 0:
                raise DamagedBackupError(f"pg_restore cannot read {backup}: {said(errors)}")
        finally:
            end(process)


@contextmanager
def _connected(url: str) -> "Iterator[psycopg.Connection[Any]]":
    """A transaction that commits when the block ends well."""
    try:
        connection = psycopg.connect(conninfo_of(url), connect_timeout=5)
    except psycopg.Error as error:
        raise DatabaseUnavailableError(f"PostgreSQL cannot be reached: {why_unreachable(error)}") from error
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        if will_pass(error):
            raise DatabaseUnavailableError(f"{why_failed(error)} during the restore: {_AGAIN}") from error
        raise RestoreFailedError(f"PostgreSQL refused a part of the backup: {error}") from error
