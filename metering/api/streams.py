"""`GET /v1/streams/{customer_id}/{stream_id}`: a stream with its usage and cost, and the receipt of that cost."""

from typing import Annotated, NotRequired

from fastapi import Depends, Header
from starlette.responses import Response
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import (
    Amount,
    Cents,
    Count,
    CustomerId,
    Month,
    StreamId,
    Time,
    UsageCounts,
    described,
    optional_time,
    time_text,
    usage_shape,
)
from metering.api.auth import Caller, needs, require_customer
from metering.api.backlog import Resolution, resolution_shape
from metering.api.charges import ChargeDetail, ChargeLine, charge_detail, line_shape
from metering.api.corrections import ManualAdjustment, manual_adjustment_shape
from metering.api.parameters import Db, TheService, stream_key, stream_key_before
from metering.api.problems import NotFoundError
from metering.api.routes import raises, route_ending_in, v1_router
from metering.audit.make_receipt import make_receipt
from metering.audit.receipt_document import receipt_document, receipt_text
from metering.core.clock import utc_now
from metering.core.money import EXACT, cents_text
from metering.events.events import Inlet, Outcome, UsageSource
from metering.ledger.entries import Adjustment as BookedAdjustment
from metering.ledger.entries import AdjustmentReason
from metering.ledger.queries.streams import StreamView, get_stream
from metering.prices.cancel_policies import CancelPolicy
from metering.streams.accrue_streams import accrue_stream
from metering.streams.bill import Bill, Flag, PriceSource
from metering.streams.settlement import State
from metering.streams.store.archived import StreamArchivedError
from metering.streams.stream import StreamFacts, billable_usage

_RECEIPT = "/receipt"

router = v1_router("streams")
receipt_router = v1_router("streams", route_class=route_ending_in(_RECEIPT))


class DeliveredCounts(TypedDict):
    """The highest counters of the token-delivered events."""

    seq: Annotated[Count, described("The highest sequence number.", example=12)]
    output_tokens: Annotated[Count, described("Output tokens delivered so far.", example=37)]
    reasoning_output_tokens: NotRequired[Annotated[Count, described("Reasoning tokens among them.")]]


class Adjustment(TypedDict):
    """A later difference of the charge: new bill minus the bill before."""

    adjustment_id: Annotated[str, described("The id of the adjustment.", example="adj_5d4c0a9b")]
    charge_id: Annotated[str, described("The charge that it adjusts.", example="ch_5d4c0a9b")]
    revision: Annotated[int, described("Counts the adjustments of a charge, from 1.")]
    booked_at: Annotated[Time, described("When it was booked.")]
    period: Annotated[Month, described("The billing month that it counts for.")]
    reason: Annotated[AdjustmentReason, described("Facts that came late, or a new rating.")]
    usd_cents: Annotated[Cents, described("The exact difference.", example="-0.0925")]
    rate_card_id: Annotated[str | None, described("The rate card of the new bill; null where nothing is billed.")]
    lines: Annotated[list[ChargeLine], described("The lines of the bill that holds since.")]


class Stream(TypedDict):
    """A stream: what it used and, once it is final, what it costs."""

    customer_id: CustomerId
    stream_id: StreamId
    state: Annotated[State, described("open, ended, finalized, or one of those that need attention.")]
    state_reason: Annotated[str | None, described("Why it is in a state that needs attention.")]
    outcome: Annotated[Outcome | None, described("How it ended; null while it is open.")]
    provider: Annotated[str | None, described("The provider; null without a start.", example="anthropic")]
    model: Annotated[
        str | None, described("The requested model; null without a start.", example="claude-opus-4.7")
    ]
    response_model: Annotated[str | None, described("The model that answered, where the upstream named it.")]
    api_key_id: Annotated[str | None, described("The customer's API key, where the gateway named it.")]
    streaming: Annotated[bool | None, described("Whether the answer was streamed; null without a start.")]
    tags: Annotated[dict[str, str], described("The tags of the start.", example={"team": "search"})]
    started_at: Annotated[Time | None, described("When it started; null without a start.")]
    ended_at: Annotated[Time | None, described("When it ended; null while it is open.")]
    usage: Annotated[UsageCounts, described("The usage that is billed, or would be.")]
    usage_source: Annotated[UsageSource, described("Who counted the usage.")]
    inlet: Annotated[Inlet, described("How the usage came in: what its sender can know.")]
    input_unknown: Annotated[bool, described("True if the input was not reported; it counts as 0.")]
    flags: Annotated[list[Flag], described("What a person should know of the bill, although it is final.")]
    usage_faults: Annotated[
        list[str], described("Which reported counters contradict each other, and how they are read.")
    ]
    clock_ahead_seconds: Annotated[
        int | None, described("By how much an event was dated ahead of its receipt, if over five minutes.")
    ]
    response_provider: Annotated[str | None, described("The provider that answered, where it was another one.")]
    price_source: Annotated[PriceSource | None, described("Where the price comes from; null: not rated.")]
    upstream_usd_cents: Annotated[
        Amount | None, described("What the upstream says that the stream cost, in cents.", example="0.51")
    ]
    delivered: Annotated[DeliveredCounts | None, described("What was delivered; null without such events.")]
    finish_reasons: Annotated[list[str] | None, described("Why the upstream stopped.", example=["stop"])]
    error_type: Annotated[str | None, described("The error that ended it, where the gateway named it.")]
    service_tier: Annotated[str | None, described("The service tier that was priced.")]
    cancel_policy: Annotated[CancelPolicy | None, described("The cancel policy that applied; null: not rated.")]
    cancel_policy_version: Annotated[int | None, described("The version of that policy; 0 is the default.")]
    cost_usd_cents: Annotated[
        Cents | None, described("The exact final cost: charge plus adjustments; null until it is final.")
    ]
    accrued_usd_cents: Annotated[
        Cents | None, described("The exact cost so far of a stream that is not final; null once it is.")
    ]
    retry_of: Annotated[str | None, described("The stream that this one retries, where one was found.")]
    resolution: Annotated[Resolution | None, described("What an admin decided about it.")]
    charge: Annotated[ChargeDetail | None, described("The charge; null until it is final.")]
    adjustments: Annotated[
        list[Adjustment | ManualAdjustment], described("Later differences first, then manual adjustments.")
    ]


def stream_shape(view: StreamView, accrued: Bill | None) -> Stream:
    """A stream: what it used and, once it is final, what it costs."""
    facts = view.stream.facts
    bill = view.newest_bill or accrued
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    billable = billable_usage(facts)
    # A stream that has no end and is no longer open was swept.
    swept = end is None and view.stream.state is not State.OPEN
    ended_at = facts.ended_at if end or swept else None
    cost = view.cost_usd_cents
    cost_usd = end.upstream_cost_usd if end else None
    return {
        "customer_id": facts.customer_id,
        "stream_id": facts.stream_id,
        "state": view.stream.state,
        "state_reason": view.stream.state_reason,
        "outcome": end.outcome if end else (Outcome.ABANDONED if swept else None),
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "response_model": end.response_model if end else None,
        "api_key_id": start.api_key_id if start else None,
        "streaming": start.streaming if start else None,
        "tags": dict(start.tags) if start else {},
        "started_at": time_text(facts.start.at) if facts.start else None,
        "ended_at": optional_time(ended_at),
        "usage": usage_shape(bill.usage if bill else billable.usage),
        "usage_source": bill.usage_source if bill else billable.source,
        "inlet": bill.inlet if bill else facts.inlet,
        "input_unknown": bill.input_unknown if bill else billable.input_unknown,
        "flags": list(bill.flags) if bill else [],
        "usage_faults": list(billable.faults),
        "clock_ahead_seconds": facts.clock_ahead_seconds,
        "response_provider": end.response_provider if end else None,
        "price_source": bill.price_source if bill else None,
        "upstream_usd_cents": cents_text(EXACT.scaleb(cost_usd, 2)) if cost_usd is not None else None,
        "delivered": _delivered(facts),
        "finish_reasons": list(end.finish_reasons) if end and end.finish_reasons is not None else None,
        "error_type": end.error_type if end else None,
        "service_tier": bill.service_tier if bill else None,
        "cancel_policy": bill.cancel_policy if bill else None,
        "cancel_policy_version": bill.cancel_policy_version if bill else None,
        "cost_usd_cents": cents_text(cost) if cost is not None else None,
        "accrued_usd_cents": cents_text(accrued.usd_cents) if accrued else None,
        "retry_of": bill.retry_of if bill else None,
        "resolution": resolution_shape(view.resolution) if view.resolution else None,
        "charge": charge_detail(view.charge) if view.charge else None,
        "adjustments": [
            *(adjustment_shape(adjustment) for adjustment in view.adjustments),
            *(manual_adjustment_shape(adjustment) for adjustment in view.manual_adjustments),
        ],
    }


def _delivered(facts: StreamFacts) -> DeliveredCounts | None:
    delivered = facts.delivered
    if delivered is None:
        return None
    counts: DeliveredCounts = {"seq": delivered.seq, "output_tokens": delivered.output_tokens}
    if delivered.reasoning_output_tokens is not None:
        counts["reasoning_output_tokens"] = delivered.reasoning_output_tokens
    return counts


def adjustment_shape(adjustment: BookedAdjustment) -> Adjustment:
    """A later difference, with the lines of the bill that holds since."""
    return {
        "adjustment_id": adjustment.adjustment_id,
        "charge_id": adjustment.charge_id,
        "revision": adjustment.revision,
        "booked_at": time_text(adjustment.booked_at),
        "period": adjustment.period,
        "reason": adjustment.reason,
        "usd_cents": cents_text(adjustment.usd_cents),
        "rate_card_id": adjustment.bill.rate_card_id if adjustment.bill else None,
        "lines": [line_shape(line) for line in adjustment.bill.lines] if adjustment.bill else [],
    }


@router.get("/streams/{customer_id}/{stream_id:id}", operation_id="getStream", summary="Get a stream")
@needs(Scope.STREAMS_READ)
@raises(NotFoundError, StreamArchivedError)
def read_stream(
    stream: Annotated[tuple[str, str], Depends(stream_key)], key: Caller, connection: Db, service: TheService
) -> Stream:
    """One stream: its state, its usage, its cost once it is final, and the accrued amount before."""
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    view = get_stream(connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    return stream_shape(view, accrue_stream(connection, stream=view.stream, price_books=service.price_books))


@receipt_router.get(
    "/streams/{customer_id}/{stream_id:id}/receipt",
    operation_id="getReceipt",
    summary="Get a stream's receipt",
    response_class=Response,
    responses={
        200: {
            "description": "The receipt, as JSON or, with `Accept: text/plain`, as text.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        }
    },
)
@needs(Scope.STREAMS_READ)
@raises(NotFoundError, StreamArchivedError)
def read_receipt(
    stream: Annotated[tuple[str, str], Depends(stream_key_before(_RECEIPT))],
    key: Caller,
    connection: Db,
    accept: Annotated[str, Header(description="`text/plain` asks for a text for people.")] = "application/json",
) -> Response:
    """Everything that the cost follows from. `metering verify receipt.json` recomputes it without a database."""
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    receipt = make_receipt(connection, customer_id=customer_id, stream_id=stream_id, now=utc_now())
    if receipt is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    if "text/plain" in accept:
        return Response(receipt_text(receipt), media_type="text/plain; charset=utf-8")
    return Response(receipt_document(receipt), media_type="application/json")
