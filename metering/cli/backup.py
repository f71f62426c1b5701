"""`metering backup` and `metering restore`: the whole database in one folder, and back."""

import json
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson
from metering.cli.progress import phases, progress_bar
from metering.db.engine import is_postgres_url
from metering.server.backup.make_backup import make_backup
from metering.server.backup.manifest import Manifest
from metering.server.backup.restore import Restored, restore_database, restore_folder
from metering.server.bootstrap import owner_url
from metering.server.settings import load_settings
from metering.server.terminal.output import counted, say

# Gateways note the time of an acknowledgement by their own clocks.
RESEND_MARGIN = timedelta(minutes=10)


def backup_command(
    folder: Annotated[Path, typer.Argument(help="The folder to create.", file_okay=False)],
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of tables to dump at a time.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Back up the database into a new folder, while it is in use.

    It contains everything that is stored, as of one moment, and the roles with their password verifiers: keep it
    as safe as the database. The database is that of METERING_MIGRATION_DATABASE_URL, METERING_DATABASE_URL, or the
    running `metering up`.
    """
    began = perf_counter()
    with progress_bar("backing up, bytes written") as progress:
        manifest = make_backup(url=owner_url(load_settings()), target=folder, jobs=jobs, progress=progress)
    if as_json:
        print(json.dumps({"backup": str(folder), **_facts(manifest)}, indent=2))
        return
    say(
        f"{folder}: {counted(manifest.total_rows, 'row')} of schema {manifest.schema_version}, as of"
        f" {manifest.taken_at.isoformat(timespec='seconds')}, in {manifest.total_bytes:,} bytes and"
        f" {perf_counter() - began:,.1f} s"
    )


def restore_command(
    backup: Annotated[
        Path, typer.Argument(help="A folder made by `metering backup`.", exists=True, file_okay=False)
    ],
    into: Annotated[
        str,
        typer.Option(
            help="URL of an empty database, as its owner's login; or a data folder for `metering up --data`."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database or a new data folder: all of it, or nothing.

    Every file and the number of rows of each table are compared with the backup's manifest. Roles that are missing
    are created; objects belong to the login of the URL.
    """
    if "://" in into and not is_postgres_url(into):
        raise typer.BadParameter(
            "expected a URL such as postgresql://user:pass@host/metering", param_hint="--into"
        )
    with phases() as progress:
        if "://" in into:
            restored = restore_database(backup=backup, url=into, progress=progress)
        else:
            restored = restore_folder(backup=backup, data=Path(into), progress=progress)
    if as_json:
        roles = {"created_roles": restored.created_roles, "without_password": restored.without_password}
        print(
            json.dumps(
                {"resend_since": _resend_since(restored.manifest), **roles, **_facts(restored.manifest)}, indent=2
            )
        )
        return
    _tell_what_is_next(restored)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "taken_at": manifest.taken_at.isoformat(),
        "schema_version": manifest.schema_version,
        "release": manifest.release,
        "lsn": manifest.lsn,
        "rows": manifest.total_rows,
        "bytes": manifest.total_bytes,
    }


def _resend_since(manifest: Manifest) -> str:
    return (manifest.taken_at - RESEND_MARGIN).isoformat(timespec="seconds")


def _tell_what_is_next(restored: Restored) -> None:
    manifest = restored.manifest
    say(f"{counted(manifest.total_rows, 'row')} restored, as of {manifest.taken_at.isoformat(timespec='seconds')}")
    if restored.created_roles:
        say(f"roles created: {', '.join(restored.created_roles)}")
    for name in restored.without_password:
        say(f"{name} has no password, which the backup's login could not read: ALTER ROLE {name} PASSWORD '…'")
    say("next: metering migrate, metering audit, and start the API")
    say(f"on each gateway: metering-emitter resend --since {_resend_since(manifest)}")
    say("then start the workers and beat, and run metering reconcile (docs/backup.md)")
