"""Manual adjustments, and the backlog: streams that need attention, and what an admin decides about them."""

from typing import Annotated, Literal

from fastapi import Depends, Header, Query
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.api.answers import (
    BookedBy,
    Cents,
    CustomerId,
    Month,
    StreamId,
    Time,
    UsageCounts,
    described,
    time_text,
    usage_shape,
)
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import (
    CentsInput,
    CustomerFilter,
    Db,
    Id,
    Input,
    MonthFilter,
    Reason,
    TheService,
    month_text,
    stream_key_before,
)
from metering.api.routes import raises, route_ending_in, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.corrections.adjust_manually import InvalidAdjustmentError, adjust_manually
from metering.corrections.queries import BacklogItem, list_backlog
from metering.corrections.resolve_stream import (
    InvalidResolutionError,
    NotInBacklogError,
    UnknownStreamError,
    resolve_stream,
)
from metering.customers.store import UnknownCustomerError
from metering.events.events import Outcome
from metering.ledger.entries import ManualAdjustment as BookedAdjustment
from metering.ledger.entries import ManualKind
from metering.ledger.queries.charges import list_manual_adjustments
from metering.ledger.store.open_periods import UnusableTimeZoneError
from metering.streams.resolutions import Resolution as StoredResolution
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.stream import billable_usage

_RESOLUTION = "/resolution"

router = v1_router("corrections")
resolution_router = v1_router("corrections", route_class=route_ending_in(_RESOLUTION))


class ManualAdjustment(TypedDict):
    """A credit or a correction that an admin booked."""

    adjustment_id: Annotated[str, described("The id of the adjustment.", example="adj_5d4c0a9b")]
    customer_id: CustomerId
    stream_id: Annotated[str | None, described("The stream that it is for; null: for the customer as a whole.")]
    booked_at: Annotated[Time, described("When it was booked.")]
    booked_by: BookedBy
    period: Annotated[Month, described("The billing month that it counts for.")]
    kind: Annotated[ManualKind, described("A credit is below 0; a correction may have either sign.")]
    reason: Annotated[ManualKind, described("The same as `kind`, for clients that know it by this name.")]
    note: Annotated[str, described("The `reason` of the request.", example="Outage on 2026-11-20")]
    usd_cents: Annotated[Cents, described("The exact amount; below 0 in the customer's favour.", example="-500")]


class AdjustmentInput(Input):
    """A credit or a correction, for a customer or one of its streams."""

    customer_id: Annotated[Id, Field(description="The customer.", examples=["acme"])]
    stream_id: Annotated[
        Id | None, Field(description="The stream that it is for; without it, the customer as a whole.")
    ] = None
    kind: Annotated[
        ManualKind, Field(description="A credit must be below 0; a correction may have either sign.")
    ] = ManualKind.CREDIT
    usd_cents: Annotated[CentsInput, Field(description="The exact amount in cents, as a string; not 0.")]
    reason: Reason


class Resolution(TypedDict):
    """What an admin decided about a stream, and why."""

    customer_id: CustomerId
    stream_id: StreamId
    action: Annotated[ResolutionAction, described("What was decided.")]
    reason: Annotated[str, described("Why.", example="Upstream confirmed the first end")]
    resolved_by: BookedBy
    resolved_at: Annotated[Time, described("When it was decided.")]


class ResolutionInput(Input):
    """A decision about a stream in the backlog, with the reason that is stored."""

    action: Annotated[
        ResolutionAction,
        Field(
            description="`bill_as_is`: bill the start and the end that win the merge. "
            "`bill_as_received`: price and file a misdated stream by the time of receipt. "
            "`write_off`: bill nothing. "
            "`actions` of the backlog item lists what is possible."
        ),
    ]
    reason: Reason


class BacklogStream(TypedDict):
    """A stream that needs attention. It is not billed until it is resolved."""

    customer_id: CustomerId
    stream_id: StreamId
    state: Annotated[State, described(f"{', '.join(NEEDS_PERSON)}.", example="unpriced")]
    reason: Annotated[str | None, described("Why it is in this state.")]
    fix: Annotated[str, described("What resolves it.")]
    actions: Annotated[list[ResolutionAction], described("The decisions that an admin can take.")]
    since: Annotated[Time, described("Since when it has waited.")]
    provider: Annotated[str | None, described("The provider; null without a start.", example="anthropic")]
    model: Annotated[str | None, described("The requested model; null without a start.")]
    response_model: Annotated[str | None, described("The model that answered, where the upstream named it.")]
    outcome: Annotated[Outcome | None, described("How it ended; null without an end.")]
    usage: Annotated[UsageCounts, described("The usage that would be billed.")]


def manual_adjustment_shape(adjustment: BookedAdjustment) -> ManualAdjustment:
    """A credit or a correction that an admin booked."""
    return {
        "adjustment_id": adjustment.adjustment_id,
        "customer_id": adjustment.customer_id,
        "stream_id": adjustment.stream_id,
        "booked_at": time_text(adjustment.booked_at),
        "booked_by": adjustment.booked_by,
        "period": adjustment.period,
        "kind": adjustment.kind,
        "reason": adjustment.kind,
        "note": adjustment.reason,
        "usd_cents": cents_text(adjustment.usd_cents),
    }


def resolution_shape(resolution: StoredResolution) -> Resolution:
    """What an admin decided about a stream, and why."""
    return {
        "customer_id": resolution.customer_id,
        "stream_id": resolution.stream_id,
        "action": resolution.action,
        "reason": resolution.reason,
        "resolved_by": resolution.resolved_by,
        "resolved_at": time_text(resolution.resolved_at),
    }


def backlog_shape(item: BacklogItem) -> BacklogStream:
    """A stream that needs attention."""
    stream, facts = item.stream, item.stream.facts
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    return {
        "customer_id": facts.customer_id,
        "stream_id": facts.stream_id,
        "state": stream.state,
        "reason": stream.state_reason,
        "fix": item.fix,
        "actions": list(item.actions),
        "since": time_text(item.since),
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "response_model": end.response_model if end else None,
        "outcome": end.outcome if end else None,
        "usage": usage_shape(billable_usage(facts).usage),
    }


@router.get("/adjustments", operation_id="listAdjustments", summary="List manual adjustments")
@needs(Scope.CORRECTIONS_READ)
def read_adjustments(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    period: MonthFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT)] = None,
) -> Page[ManualAdjustment]:
    """Manual credits and corrections, newest first. `period` is the month that they count for."""
    position = decode_cursor(cursor, length=2)
    adjustments = list_manual_adjustments(
        connection,
        customer_id=require_customer(key, customer_id),
        period=month_text(period),
        after=(parse_time(position[0]), position[1]) if position else None,
        limit=limit + 1,
    )
    return page_of(
        adjustments,
        limit=limit,
        shape=manual_adjustment_shape,
        position=lambda each: [time_part(each.booked_at), each.adjustment_id],
    )


@router.post("/adjustments", operation_id="createAdjustment", summary="Book a credit or a correction")
@needs(Scope.CORRECTIONS_WRITE)
@raises(
    UnknownCustomerError,
    UnusableTimeZoneError,
    InvalidAdjustmentError,
    IdempotencyKeyReusedError,
    RequestInFlightError,
)
def write_adjustment(
    given: AdjustmentInput,
    idempotency_key: Annotated[
        str,
        Header(
            min_length=1,
            max_length=255,
            description="Any text that is unique to this adjustment. Repeating the request with it books nothing "
            "and gets the same answer.",
            examples=["outage-2026-11-20-acme"],
        ),
    ],
    by: By,
    service: TheService,
) -> ManualAdjustment:
    """Book a credit or a correction, exactly once for each `Idempotency-Key`."""
    adjustment = adjust_manually(
        engine=service.engine,
        idempotency_key=idempotency_key,
        customer_id=given.customer_id,
        stream_id=given.stream_id,
        kind=given.kind,
        usd_cents=given.usd_cents,
        reason=given.reason,
        booked_by=by,
        now=utc_now(),
    )
    return manual_adjustment_shape(adjustment)


@router.get("/backlog", operation_id="listBacklog", summary="List streams that need attention")
@needs(Scope.CORRECTIONS_READ)
def read_backlog(
    key: Caller,
    connection: Db,
    state: Annotated[
        Literal["orphaned", "unpriced", "conflicting", "unmeasured", "misdated", "failed"] | None,
        Query(description="Only streams in this state."),
    ] = None,
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT, TEXT)] = None,
) -> Page[BacklogStream]:
    """Streams that need attention, the longest waiting first. They are not billed until they are resolved."""
    position = decode_cursor(cursor, length=3)
    items = list_backlog(
        connection,
        state=State(state) if state else None,
        customer_id=require_customer(key, customer_id),
        after=(parse_time(position[0]), position[1], position[2]) if position else None,
        limit=limit + 1,
    )
    return page_of(items, limit=limit, shape=backlog_shape, position=_position)


def _position(item: BacklogItem) -> list[str]:
    facts = item.stream.facts
    return [time_part(item.since), facts.customer_id, facts.stream_id]


@resolution_router.post(
    "/streams/{customer_id}/{stream_id:id}/resolution", operation_id="resolveStream", summary="Resolve a stream"
)
@needs(Scope.CORRECTIONS_WRITE)
@raises(UnknownStreamError, NotInBacklogError, InvalidResolutionError)
def write_resolution(
    stream: Annotated[tuple[str, str], Depends(stream_key_before(_RESOLUTION))],
    given: ResolutionInput,
    by: By,
    service: TheService,
) -> Resolution:
    """Decide about a stream of the backlog. The decision holds until newer facts contradict it."""
    customer_id, stream_id = stream
    resolution = resolve_stream(
        engine=service.engine,
        customer_id=customer_id,
        stream_id=stream_id,
        action=given.action,
        reason=given.reason,
        resolved_by=by,
        now=utc_now(),
    )
    return resolution_shape(resolution)
