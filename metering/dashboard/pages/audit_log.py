"""The audit log page: what admins did, newest first, with the values before and after."""

from typing import Any

import msgspec

from metering.access.queries import AuditLogFilter, LoggedAction, list_audit_log
from metering.core.cursors import parse_number
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Column, Kind, Row, Table
from metering.dashboard.values import plain_times

_PAGE = 50


def audit_log(request: PageRequest) -> Page:
    """The page."""
    kind, subject, actor = request.text("kind"), request.text("subject"), request.text("actor")
    limit, position = request.page_limit("audit-log", _PAGE), request.position(1)
    sort = request.sort("audit-log", by=("audit_id",), default="-audit_id")
    found = list_audit_log(
        request.connection,
        where=AuditLogFilter(kind=kind, subject=subject, actor=actor),
        before=parse_number(position[0]) if position else None,
        limit=limit + 1,
        oldest_first=not sort.descending,
    )
    shown = found[:limit]
    table = Table(
        name="audit-log",
        title="Actions",
        columns=[
            Column("audit_id", "Number", Kind.COUNT),
            Column("at", "Time", Kind.TIME),
            Column("actor", "Who"),
            Column("door", "Through"),
            Column("address", "From"),
            Column("what", "What"),
            Column("subject", "Subject", Kind.CODE),
            Column("before", "Before", Kind.CODE),
            Column("after", "After", Kind.CODE),
            Column("request_id", "Request", Kind.CODE),
        ],
        rows=[_row(each) for each in shown],
        more=request.next_page("audit-log", [str(shown[-1].audit_id)]) if len(found) > limit else None,
        sorted_by=str(sort),
        sorts=("audit_id",),
        empty="Nothing matches.",
        note="Rows are only added. Each has a hash of the row before; `metering audit` checks the chain.",
    )
    return Page(
        template="audit_log.html.j2",
        title="Audit log",
        section="audit_log",
        context={"table": table, "kind": kind, "subject": subject, "actor": actor},
        tables=[table],
    )


def _row(each: LoggedAction) -> Row:
    return {
        "audit_id": each.audit_id,
        "at": each.at,
        "actor": each.actor,
        "door": each.door,
        "address": each.address,
        "what": f"{each.kind} {each.action}".replace("_", " "),
        "subject": each.subject,
        "before": _text(each.before),
        "after": _text(each.after),
        "request_id": each.request_id,
    }


def _text(value: Any) -> str | None:
    return None if value is None else plain_times(msgspec.json.encode(value).decode())
