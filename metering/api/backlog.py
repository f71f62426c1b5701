"""The backlog over HTTP: what needs a person, why, what would mend it, and what an admin decides."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from metering.api.auth import Admin, Reader, require_customer
from metering.api.fields import Reason
from metering.api.paging import Cursor, Limit, page_of
from metering.api.reading import Db, TheService
from metering.api.shapes import Page, resolution_shape, time_text, usage_shape
from metering.api.stream_paths import route_ending_in, stream_key_before, text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, moment_in
from metering.corrections.queries import BacklogItem, list_backlog
from metering.corrections.resolve_stream import resolve_stream
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State
from metering.streams.stream import billable_usage

_RESOLUTION = "/resolution"

router = APIRouter(prefix="/v1", tags=["backlog"])
resolution_router = APIRouter(prefix="/v1", tags=["backlog"], route_class=route_ending_in(_RESOLUTION))


class ResolutionInput(BaseModel):
    """A decision about a stream in the backlog, with the reason that is kept."""

    action: ResolutionAction
    reason: Reason


@router.get("/backlog")
def read_backlog(
    key: Reader,
    connection: Db,
    state: Literal["orphaned", "unpriced", "conflicting"] | None = None,
    customer_id: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """Streams that need a person, the longest waiting first. Nothing of them is billed until they are settled."""
    position = decode_cursor(cursor, length=3)
    items = list_backlog(
        connection,
        state=State(state) if state else None,
        customer_id=require_customer(key, text_of(customer_id)),
        after=(moment_in(position[0]), position[1], position[2]) if position else None,
        limit=limit + 1,
    )
    return page_of(items, limit=limit, shape=backlog_shape, position=_position)


def _position(item: BacklogItem) -> list[str]:
    facts = item.stream.facts
    return [item.since.isoformat(), facts.customer_id, facts.stream_id]


@resolution_router.post("/streams/{customer_id}/{stream_id:path}/resolution")
def write_resolution(
    stream: Annotated[tuple[str, str], Depends(stream_key_before(_RESOLUTION))],
    given: ResolutionInput,
    key: Admin,
    service: TheService,
) -> dict[str, Any]:
    """Settle a stream of the backlog. It holds until newer facts say something else."""
    customer_id, stream_id = stream
    resolution = resolve_stream(
        engine=service.engine,
        customer_id=customer_id,
        stream_id=stream_id,
        action=given.action,
        reason=given.reason,
        resolved_by=f"key {key.key_id}",
        now=utc_now(),
    )
    return resolution_shape(resolution)


def backlog_shape(item: BacklogItem) -> dict[str, Any]:
    """A stream that needs a person."""
    stream, facts = item.stream, item.stream.facts
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    return {
        "customer_id": facts.customer_id,
        "stream_id": facts.stream_id,
        "state": stream.state.value,
        "reason": stream.state_reason,
        "fix": item.fix,
        "actions": [action.value for action in item.actions],
        "since": time_text(item.since),
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "response_model": end.response_model if end else None,
        "outcome": end.outcome.value if end else None,
        "usage": usage_shape(billable_usage(facts).usage),
    }
