"""`metering archive`: move closed months out of the database into files, and back."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

import migrations
from metering.archive.manifest import Manifest
from metering.archive.queries import ArchiveView, list_archives
from metering.archive.remove_archived import remove_archived
from metering.archive.restore_archive import restore_archive, restore_stream
from metering.archive.write_archive import ArchiveRefusedError, Code, write_archive
from metering.cli.audit import run_audit
from metering.cli.options import AsJson, time_text
from metering.cli.progress import progress_bar, steps
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.server.backup.make_backup import DISTRIBUTION
from metering.server.bootstrap import build_owner_engine, build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import counted, say, show

app = typer.Typer()

Folder = Annotated[
    Path, typer.Argument(help="A folder made by `metering archive write`.", exists=True, file_okay=False)
]


@app.command("write", epilog="Example: metering archive write 2026-08 --out /archives/2026-08")
def write_it(
    month: Annotated[str, typer.Argument(help="The oldest month of the journal, e.g. 2026-08.")],
    out: Annotated[Path, typer.Option(help="The folder to create.", file_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Write a closed month's streams and journal to a new folder, after an audit. Nothing is removed.

    The month has to be closed for all customers, and earlier months have to be archived.
    """
    wanted = BillingPeriod.parse(month)
    settings = load_settings()
    differences = run_audit(settings).difference_count
    if differences:
        raise ArchiveRefusedError(
            f"the audit found {counted(differences, 'difference')}: nothing is archived before `metering audit`"
            " finds none"
        )
    code = Code(release=version(DISTRIBUTION), schema_version=migrations.HEAD)
    engine = build_service(settings).engine
    with steps() as progress:
        manifest = write_archive(
            engine=engine, month=wanted, folder=out, code=code, now=utc_now(), progress=progress
        )
    if as_json:
        print(json.dumps({"archive": str(out), **_facts(manifest)}, indent=2))
        return
    say(
        f"{out}: {counted(manifest.stream_count, 'stream')} and {counted(manifest.request_count, 'request')} with"
        f" {counted(manifest.event_count, 'event')}, {manifest.total_bytes:,} bytes"
    )
    say(f"copy it to where it is safe, then: metering archive remove {out}")


@app.command("remove", epilog="Example: metering archive remove /archives/2026-08")
def remove_it(folder: Folder, as_json: AsJson = False) -> None:
    """Remove from the database what a folder holds, as its owner (METERING_MIGRATION_DATABASE_URL).

    The files are compared with their checksums before. Charges, adjustments and totals stay. If it is interrupted,
    run it again.
    """
    with progress_bar("removing streams") as progress:
        removed = remove_archived(
            owner=build_owner_engine(load_settings()),
            folder=folder,
            by=operator(),
            now=utc_now(),
            progress=progress,
        )
    if as_json:
        counts = {"removed_streams": removed.streams, "changed_streams": removed.changed}
        print(json.dumps({**counts, **_facts(removed.manifest)}, indent=2))
        return
    requests = counted(removed.manifest.request_count, "request")
    say(f"{counted(removed.streams, 'stream')} and {requests} of {removed.manifest.archive_id} are removed")
    if removed.changed:
        say(f"{removed.changed:,} others stay: they have changed since, or were removed before")
    say(f"to check everything, with what was moved: metering audit --archive {folder}")


@app.command("restore", epilog="Example: metering archive restore /archives/2026-08 --stream acme/01J9")
def restore_it(
    folder: Folder,
    stream: Annotated[
        str | None, typer.Option(help="Only this stream, as customer/stream; default: the whole archive.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring streams back into the database, as its owner: one, or all with the month's journal.

    A stream that got events since it was archived is billed again by itself, and adjusted.
    """
    settings = load_settings()
    terms: dict[str, Any] = {
        "owner": build_owner_engine(settings),
        "folder": folder,
        "abandon_after": settings.abandon_after,
        "by": operator(),
        "now": utc_now(),
    }
    if stream is None:
        with progress_bar("restoring streams") as progress:
            restored = restore_archive(**terms, progress=progress)
    else:
        customer_id, slash, stream_id = stream.partition("/")
        if not (customer_id and slash and stream_id):
            raise typer.BadParameter("expected customer/stream, such as acme/01J9", param_hint="--stream")
        restored = restore_stream(**terms, customer_id=customer_id, stream_id=stream_id)
    if as_json:
        print(json.dumps(asdict(restored), indent=2))
        return
    say(f"{counted(restored.streams, 'stream')} and {counted(restored.requests, 'request')} are restored")
    if restored.late:
        say(f"{restored.late:,} of them had got events since, and are billed again")


@app.command("list", epilog="Example: metering archive list")
def list_them(as_json: AsJson = False) -> None:
    """List the archives whose rows were removed from the database, oldest month first."""
    with database() as connection:
        archives = list_archives(connection)
    show(
        [_row(each) for each in archives],
        as_json=as_json,
        empty="nothing is archived",
        important=("archive_id", "streams", "requests", "completed_at"),
    )


def _row(archive: ArchiveView) -> dict[str, Any]:
    return {
        "archive_id": archive.archive_id,
        "streams": archive.stream_count,
        "requests": archive.request_count,
        "events": archive.event_count,
        "completed_at": time_text(archive.completed_at),
        "manifest_sha256": archive.manifest_sha256,
    }


def _facts(manifest: Manifest) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(manifest)
    return facts
