"""`GET /v1/audit-log`: what admins did, with the values before and after."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query
from typing_extensions import TypedDict

from metering.access.queries import AuditLogFilter, LoggedAction, list_audit_log
from metering.access.scopes import Scope
from metering.api.answers import Time, described, time_text
from metering.api.auth import needs
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import Db, FromFilter, Text, ToFilter
from metering.api.routes import v1_router
from metering.core.cursors import NUMBER, decode_cursor, parse_number

router = v1_router("audit log")

_VALUES = "They never contain a secret; null where there are none."


class AuditLogRow(TypedDict):
    """An action of an admin. Rows are never changed; each has a hash over itself and the hash before."""

    audit_id: Annotated[int, described("The number of the row: 1, 2, 3, …", example=17)]
    at: Annotated[Time, described("When it was done.")]
    actor: Annotated[str, described("Who did it: a key, or a user of the command line.", example="key k1")]
    door: Annotated[str, described("Where it came in: api, dashboard, cli, service or migration.", example="api")]
    address: Annotated[str | None, described("The client's address, or the machine's name.", example="192.0.2.7")]
    request_id: Annotated[
        str | None, described("The request's `X-Request-Id`, or one that was made.", example="req_5d4c0a9b")
    ]
    kind: Annotated[str, described("What it is about.", example="key")]
    action: Annotated[str, described("What was done.", example="create")]
    subject: Annotated[str, described("The id of what it is about.", example="3f2a9c1e70b4")]
    before: Annotated[Mapping[str, Any] | None, described(f"The values before. {_VALUES}")]
    after: Annotated[Mapping[str, Any] | None, described(f"The values after. {_VALUES}")]
    row_hash: Annotated[str, described("The hash of the row and of the one before, in hex.")]


def audit_log_shape(row: LoggedAction) -> AuditLogRow:
    """A row of the audit log."""
    return {
        "audit_id": row.audit_id,
        "at": time_text(row.at),
        "actor": row.actor,
        "door": row.door,
        "address": row.address,
        "request_id": row.request_id,
        "kind": row.kind,
        "action": row.action,
        "subject": row.subject,
        "before": row.before,
        "after": row.after,
        "row_hash": row.row_hash.hex(),
    }


@router.get("/audit-log", operation_id="listAuditLog", summary="List what admins did")
@needs(Scope.AUDIT_LOG_READ)
def read_audit_log(
    connection: Db,
    kind: Annotated[Text | None, Query(description="Only actions about this.", examples=["key"])] = None,
    subject: Annotated[Text | None, Query(description="Only actions about the thing with this id.")] = None,
    actor: Annotated[Text | None, Query(description="Only actions by this actor.", examples=["key k1"])] = None,
    start: FromFilter = None,
    to: ToFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(NUMBER)] = None,
) -> Page[AuditLogRow]:
    """Actions of admins, the newest first: over the API, in the dashboard and on the command line."""
    position = decode_cursor(cursor, length=1)
    found = list_audit_log(
        connection,
        where=AuditLogFilter(kind=kind, subject=subject, actor=actor, start=start, end=to),
        before=parse_number(position[0]) if position else None,
        limit=limit + 1,
    )
    return page_of(found, limit=limit, shape=audit_log_shape, position=lambda each: [str(each.audit_id)])
