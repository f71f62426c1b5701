"""`GET /v1/streams`: the streams in progress, with what they cost so far."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Query
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import (
    Cents,
    CustomerId,
    StreamId,
    Time,
    UsageCounts,
    described,
    optional_time,
    time_text,
    usage_shape,
)
from metering.api.auth import Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import CustomerFilter, Db, ModelFilter, ProviderFilter, Text, TheService
from metering.api.routes import v1_router
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.events.events import UsageSource
from metering.ledger.queries.found_streams import OpenFilter, OpenStream, list_open
from metering.prices.price_book import PriceBook
from metering.streams.settlement import State, accrue
from metering.streams.stream import billable_usage

router = v1_router("streams")


class StreamInProgress(TypedDict):
    """A stream that is not final: it is open, or has ended a moment ago."""

    customer_id: CustomerId
    stream_id: StreamId
    state: Annotated[State, described("open or ended.", example="open")]
    provider: Annotated[str | None, described("The provider; null without a start.", example="anthropic")]
    model: Annotated[
        str | None, described("The requested model; null without a start.", example="claude-opus-4.7")
    ]
    api_key_id: Annotated[str | None, described("The customer's API key, where the gateway named it.")]
    started_at: Annotated[Time | None, described("When it started; null without a start.")]
    first_received_at: Annotated[Time, described("When its first event was received; the list is in this order.")]
    last_event_at: Annotated[Time, described("The time of its latest event.")]
    usage: Annotated[UsageCounts, described("The usage that would be billed if it ended now.")]
    usage_source: Annotated[UsageSource, described("Who counted the usage.")]
    accrued_usd_cents: Annotated[
        Cents | None, described("What that would cost, exact; null where it cannot be priced.")
    ]


def _shape_with(prices: PriceBook) -> Callable[[OpenStream], StreamInProgress]:
    def shape(found: OpenStream) -> StreamInProgress:
        facts = found.stream.facts
        start = facts.start.event if facts.start else None
        billable, bill = billable_usage(facts), accrue(facts=facts, prices=prices)
        return {
            "customer_id": facts.customer_id,
            "stream_id": facts.stream_id,
            "state": found.stream.state,
            "provider": start.provider if start else None,
            "model": start.model if start else None,
            "api_key_id": start.api_key_id if start else None,
            "started_at": optional_time(facts.start.at if facts.start else None),
            "first_received_at": time_text(found.first_received_at),
            "last_event_at": time_text(facts.last_event_at),
            "usage": usage_shape(bill.usage if bill else billable.usage),
            "usage_source": (bill.usage_source if bill else billable.source),
            "accrued_usd_cents": cents_text(bill.usd_cents) if bill else None,
        }

    return shape


@router.get("/streams", operation_id="listOpenStreams", summary="List streams in progress")
@needs(Scope.STREAMS_READ)
def read_open_streams(
    key: Caller,
    connection: Db,
    service: TheService,
    customer_id: CustomerFilter = None,
    provider: ProviderFilter = None,
    model: ModelFilter = None,
    api_key_id: Annotated[Text | None, Query(description="Only streams of this API key of the customer.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT, TEXT)] = None,
) -> Page[StreamInProgress]:
    """The streams that are open, or have ended and are not final yet, the longest in progress first.

    Final ones are listed by `GET /v1/charges`, those that need attention by `GET /v1/backlog`. A stream that is in
    progress the whole time is on exactly one page.
    """
    where = OpenFilter(
        customer_id=require_customer(key, customer_id), provider=provider, model=model, api_key_id=api_key_id
    )
    position = decode_cursor(cursor, length=3)
    after = (parse_time(position[0]), position[1], position[2]) if position else None
    found = list_open(connection, where=where, after=after, limit=limit + 1)
    shape = _shape_with(service.price_books.current(connection))
    return page_of(found, limit=limit, shape=shape, position=_position)


def _position(found: OpenStream) -> list[str]:
    facts = found.stream.facts
    return [time_part(found.first_received_at), facts.customer_id, facts.stream_id]
