"""The backlog: streams that need attention, what they may be billed for, and what an admin decides about them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import (
    BookedBy,
    Cents,
    Count,
    CustomerId,
    StreamId,
    Time,
    UsageCounts,
    described,
    optional_time,
    time_text,
    usage_shape,
)
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import CustomerFilter, Db, Input, Reason, Text, TheService, stream_key_before
from metering.api.problems import NotFoundError
from metering.api.routes import raises, route_ending_in, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.corrections.candidates import Candidate, Fact, estimate_in_backlog
from metering.corrections.examine_stream import Examination, StreamChangedError, examine_stream
from metering.corrections.queries import BacklogItem, list_backlog
from metering.corrections.resolve_stream import (
    InvalidResolutionError,
    NotInBacklogError,
    UnknownStreamError,
    resolve_stream,
)
from metering.events.events import Outcome, UsageSource
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.price_book import PriceBook
from metering.streams.resolutions import Resolution as StoredResolution
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.store.archived import StreamArchivedError
from metering.streams.stream import billable_usage

_RESOLUTION = "/resolution"

router = v1_router("corrections")
resolution_router = v1_router("corrections", route_class=route_ending_in(_RESOLUTION))


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
    version: Annotated[
        Text | None,
        Field(
            description="`version` of the backlog item that the decision is about. If an event has arrived since, "
            "or the price has changed, the decision is refused."
        ),
    ] = None


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
    would_cost_usd_cents: Annotated[
        Cents | None, described("What it would cost by the start and the end that win; null: not known.")
    ]
    at_most_usd_cents: Annotated[
        Cents | None, described("Without a price: the cost by the highest rate that the model has had; else null.")
    ]


class BacklogFact(TypedDict):
    """A stream-start or stream-end as it arrived."""

    type: Annotated[str, described("`stream-start` or `stream-end`.", example="stream-end")]
    wins: Annotated[bool, described("Whether it wins the merge: it is the earliest of its rank.")]
    time: Annotated[Time, described("When it happened, as it says.")]
    received_at: Annotated[Time | None, described("When it first arrived; null if the journal has it no longer.")]
    times_received: Annotated[Count, described("How often it arrived.", example=1)]
    source: Annotated[str | None, described("The `source` of the event.", example="/gateways/eu-1")]
    ingest_key_id: Annotated[str | None, described("The key that posted it.", example="k1")]
    data: Annotated[Mapping[str, Any], described("Its attributes, as in the event.")]


class BacklogCandidate(TypedDict):
    """A start and an end that may be the stream's, with what they bill."""

    wins: Annotated[bool, described("Whether `bill_as_is` bills it.")]
    start: Annotated[BacklogFact | None, described("Its stream-start; null if none arrived.")]
    end: Annotated[BacklogFact | None, described("Its stream-end; null if none arrived.")]
    usage: Annotated[UsageCounts, described("The usage that it bills.")]
    usage_source: Annotated[UsageSource, described("Who counted it.")]
    cost_usd_cents: Annotated[Cents | None, described("What it costs by the prices of its time; null: not known.")]
    at_most_usd_cents: Annotated[Cents | None, described("An upper bound, where the cost is not known.")]
    problem: Annotated[str | None, described("Why its cost is not known.")]
    rate_card_id: Annotated[str | None, described("The rate card that prices it.")]
    cancel_policy: Annotated[CancelPolicy | None, described("The cancel policy that applies.")]


class BacklogRemedy(TypedDict):
    """A decision, and what it books."""

    action: Annotated[ResolutionAction, described("The decision.")]
    usd_cents: Annotated[Cents | None, described("What it books; null: the stream stays in the backlog.")]
    says: Annotated[str, described("What it does, for people.")]


class ExaminedStream(BacklogStream):
    """A stream in the backlog, with all that a decision needs."""

    version: Annotated[str, described("Marks what this answer says; send it with the decision.")]
    complete: Annotated[bool, described("Whether the journal has all of its events.")]
    candidates: Annotated[list[BacklogCandidate], described("What it may be billed for; the first one wins.")]
    remedies: Annotated[list[BacklogRemedy], described("The decisions that an admin can take.")]


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


def backlog_shape(item: BacklogItem, prices: PriceBook) -> BacklogStream:
    """A stream that needs attention, with what it would cost."""
    stream, facts = item.stream, item.stream.facts
    found = estimate_in_backlog(facts, stream.state, prices)
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
        "would_cost_usd_cents": _cents(found.usd_cents),
        "at_most_usd_cents": _cents(found.at_most),
    }


def _cents(amount: Decimal | None) -> str | None:
    return None if amount is None else cents_text(amount)


def candidate_shape(candidate: Candidate) -> BacklogCandidate:
    """A start and an end that may be the stream's, with what they bill."""
    found = candidate.estimate
    return {
        "wins": candidate.wins,
        "start": fact_shape(candidate.start) if candidate.start else None,
        "end": fact_shape(candidate.end) if candidate.end else None,
        "usage": usage_shape(candidate.billable.usage),
        "usage_source": candidate.billable.source,
        "cost_usd_cents": _cents(found.usd_cents),
        "at_most_usd_cents": _cents(found.at_most),
        "problem": found.problem,
        "rate_card_id": found.bill.rate_card_id if found.bill else None,
        "cancel_policy": found.bill.cancel_policy if found.bill else None,
    }


def fact_shape(fact: Fact) -> BacklogFact:
    """A start or an end as it arrived."""
    return {
        "type": fact.event.EVENT_TYPE,
        "wins": fact.wins,
        "time": time_text(fact.event.time),
        "received_at": optional_time(fact.received_at),
        "times_received": fact.times,
        "source": fact.source,
        "ingest_key_id": fact.ingest_key_id,
        "data": fact.event.attributes(),
    }


def examination_shape(found: Examination, prices: PriceBook) -> ExaminedStream:
    """A stream of the backlog with its candidates and what each decision books."""
    return {
        **backlog_shape(found.item, prices),
        "version": found.version,
        "complete": found.complete,
        "candidates": [candidate_shape(each) for each in found.candidates],
        "remedies": [
            {"action": each.action, "usd_cents": _cents(each.usd_cents), "says": each.says}
            for each in found.remedies
        ],
    }


@router.get("/backlog", operation_id="listBacklog", summary="List streams that need attention")
@needs(Scope.CORRECTIONS_READ)
def read_backlog(
    key: Caller,
    connection: Db,
    service: TheService,
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
    prices = service.price_books.current(connection)
    items = list_backlog(
        connection,
        state=State(state) if state else None,
        customer_id=require_customer(key, customer_id),
        after=(parse_time(position[0]), position[1], position[2]) if position else None,
        limit=limit + 1,
    )
    return page_of(items, limit=limit, shape=lambda item: backlog_shape(item, prices), position=_position)


def _position(item: BacklogItem) -> list[str]:
    facts = item.stream.facts
    return [time_part(item.since), facts.customer_id, facts.stream_id]


@router.get(
    "/backlog/{customer_id}/{stream_id:id}",
    operation_id="getBacklogStream",
    summary="Get a stream that needs attention",
)
@needs(Scope.CORRECTIONS_READ)
@raises(NotFoundError)
def read_backlog_stream(
    stream: Annotated[tuple[str, str], Depends(stream_key_before("", under="/v1/backlog/"))],
    key: Caller,
    connection: Db,
    service: TheService,
) -> ExaminedStream:
    """A stream in the backlog: the facts that contradict each other, what each costs, what decisions book."""
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    prices = service.price_books.current(connection)
    found = examine_stream(
        connection,
        customer_id=customer_id,
        stream_id=stream_id,
        prices=prices,
        waits=service.waits,
        now=utc_now(),
    )
    if found is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r} in the backlog")
    return examination_shape(found, prices)


@resolution_router.post(
    "/streams/{customer_id}/{stream_id:id}/resolution", operation_id="resolveStream", summary="Resolve a stream"
)
@needs(Scope.CORRECTIONS_WRITE)
@raises(StreamArchivedError, UnknownStreamError, NotInBacklogError, InvalidResolutionError, StreamChangedError)
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
        version=given.version,
        price_books=service.price_books,
    )
    return resolution_shape(resolution)
