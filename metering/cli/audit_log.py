"""`metering audit-log`: what admins did, with the values before and after."""

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from metering.access.queries import AuditLogFilter, LoggedAction, list_audit_log
from metering.cli.export import Format, file_target
from metering.cli.options import AsJson, Limit, time_text, utc_or
from metering.cli.service import database
from metering.core.clock import utc_now
from metering.exports.audit_log_export import export_audit_log
from metering.exports.export_month import ExportFormat
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import done, show

app = typer.Typer()

OnlyKind = Annotated[str | None, typer.Option("--kind", help="Only actions about this, e.g. key or customer.")]
OnlySubject = Annotated[str | None, typer.Option("--subject", help="Only actions about the object with this ID.")]
OnlyActor = Annotated[str | None, typer.Option("--actor", help="Only actions by this actor, e.g. 'key 3f2a9c1e'.")]
Since = Annotated[datetime | None, typer.Option(help="Only from this time on, in UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Only before this time, in UTC.")]


@app.command("list", epilog="Example: metering audit-log list --kind key --limit 20")
def list_them(
    kind: OnlyKind = None,
    subject: OnlySubject = None,
    actor: OnlyActor = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List actions, newest first."""
    where = _filter(kind, subject, actor, since, until)
    with database() as connection:
        found = list_audit_log(connection, where=where, before=None, limit=limit)
    show(
        [_row(each, as_json=as_json) for each in found],
        as_json=as_json,
        empty="no actions match",
        important=("at", "what", "subject", "actor"),
    )


@app.command("export", epilog="Example: metering audit-log export audit-log.parquet --format parquet")
def export(
    out: Annotated[Path, typer.Argument(help="The file to write; it appears when it is complete.")],
    format: Format = ExportFormat.CSV,
    kind: OnlyKind = None,
    subject: OnlySubject = None,
    actor: OnlyActor = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Write all actions to a file, oldest first."""
    service = build_service(load_settings())
    where = _filter(kind, subject, actor, since, until)
    parts = export_audit_log(engine=service.engine, format=format, where=where, now=utc_now())
    with closing(parts), file_target(out) as target:
        size = sum(target.write(part) for part in parts)
    done(f"wrote {out}", {"file": str(out), "bytes": size}, as_json=as_json)


def _filter(
    kind: str | None, subject: str | None, actor: str | None, since: datetime | None, until: datetime | None
) -> AuditLogFilter:
    now = utc_now()
    return AuditLogFilter(
        kind=kind,
        subject=subject,
        actor=actor,
        start=utc_or(since, now) if since else None,
        end=utc_or(until, now) if until else None,
    )


def _row(each: LoggedAction, *, as_json: bool) -> dict[str, Any]:
    row = {
        "audit_id": each.audit_id,
        "at": time_text(each.at),
        "actor": each.actor,
        "from": each.address,
        "what": f"{each.kind} {each.action}",
        "subject": each.subject,
    }
    if not as_json:
        return {**row, "changed": _changed(each)}
    return {
        **row,
        "door": each.door,
        "request_id": each.request_id,
        "before": each.before,
        "after": each.after,
        "row_hash": each.row_hash.hex(),
    }


def _changed(each: LoggedAction) -> str:
    """The values that differ, as name=value."""
    before, after = each.before or {}, each.after or {}
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(f"{name}={after.get(name)}" for name in names)
