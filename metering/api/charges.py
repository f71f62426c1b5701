"""`GET /v1/charges`: booked usage charges, and how a charge and its lines are shown."""

from typing import Annotated, NotRequired

from fastapi import Query
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import (
    Amount,
    Cents,
    CustomerId,
    Model,
    Month,
    Percent,
    Provider,
    StreamId,
    Time,
    UsageCounts,
    described,
    time_text,
    usage_shape,
)
from metering.api.auth import Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import CustomerFilter, Db, FromFilter, ModelFilter, Text, ToFilter
from metering.api.routes import v1_router
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.events.events import Inlet, Outcome, UsageSource
from metering.events.usage import UsageKind
from metering.ledger.entries import Charge as BookedCharge
from metering.ledger.queries.charges import ChargeFilter, list_charges
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine as BilledLine
from metering.streams.bill import Flag, PriceSource

router = v1_router("charges")


class ChargeLine(TypedDict):
    """One line of a charge: `usd_cents` = `quantity` x `usd_per_million` / 10,000.

    A kind that is measured in seconds has `usd_per_hour` instead: `usd_cents` = `quantity` x `usd_per_hour` / 36,
    rounded to 12 decimal places.
    """

    kind: Annotated[UsageKind, described("What is counted.")]
    quantity: Annotated[
        int | str,
        described(
            "Units of this kind, or seconds as a string; nested kinds are taken out of their parent.", example=37
        ),
    ]
    usd_per_million: Annotated[
        Amount | None,
        described("The rate with the markup; null for a kind in seconds.", example="25"),
    ]
    usd_per_hour: NotRequired[Annotated[Amount, described("The rate of a kind in seconds.", example="0.36")]]
    usd_cents: Annotated[Cents, described("The exact amount of this line.", example="0.0925")]


class ChargeDetail(TypedDict):
    """The charge of a stream: what was booked when the stream was final. It is never edited."""

    charge_id: Annotated[str, described("The id of the charge.", example="ch_5d4c0a9b")]
    booked_at: Annotated[Time, described("When the charge was booked.")]
    period: Annotated[Month, described("The billing month that the charge counts for.")]
    rate_card_id: Annotated[
        str | None,
        described("The rate card that priced it; null where nothing is billed, or the upstream prices it."),
    ]
    rated_model: Annotated[str | None, described("The model whose rates applied.", example="claude-opus-4-7")]
    model_rule: Annotated[str | None, described("How the model's name led to the rate card.")]
    markup_percent: Annotated[Percent, described("The customer's markup, which the rates of the lines include.")]
    cost_usd_cents: Annotated[Cents, described("The exact amount of the charge: the sum of its lines.")]
    lines: Annotated[list[ChargeLine], described("What the amount is made of.")]


class Charge(ChargeDetail):
    """A charge with the stream that it is for."""

    customer_id: CustomerId
    stream_id: StreamId
    outcome: Annotated[Outcome, described("How the stream ended.")]
    provider: Provider
    model: Model
    response_model: Annotated[str | None, described("The model that answered, where the upstream named it.")]
    api_key_id: Annotated[str | None, described("The customer's API key, where the gateway named it.")]
    started_at: Annotated[Time, described("When the stream started.")]
    ended_at: Annotated[Time, described("When the stream ended.")]
    usage: Annotated[UsageCounts, described("The usage that is billed.")]
    usage_source: Annotated[UsageSource, described("Who counted the usage.")]
    inlet: Annotated[Inlet, described("How the usage came in: what its sender can know.")]
    input_unknown: Annotated[bool, described("True if the input was not reported; it counts as 0.")]
    flags: Annotated[list[Flag], described("What a person should know of the bill, although it is final.")]
    response_provider: Annotated[str | None, described("The provider that answered, where it was another one.")]
    price_source: Annotated[PriceSource, described("Where the price comes from.")]
    upstream_usd_cents: Annotated[
        Amount | None, described("What the upstream says that the stream cost, in cents.", example="0.51")
    ]
    service_tier: Annotated[str | None, described("The service tier that was priced.")]
    cancel_policy: Annotated[CancelPolicy, described("The provider's cancel policy that applied.")]
    cancel_policy_version: Annotated[int, described("The version of that policy; 0 is the default.")]
    retry_of: Annotated[str | None, described("The stream that this one retries, where one was found.")]


def line_shape(line: BilledLine) -> ChargeLine:
    """One line of a charge."""
    shape: ChargeLine = {
        "kind": line.kind,
        "quantity": line.quantity if isinstance(line.quantity, int) else cents_text(line.quantity),
        "usd_per_million": None if line.usd_per_million is None else cents_text(line.usd_per_million),
        "usd_cents": cents_text(line.usd_cents),
    }
    if line.usd_per_hour is not None:
        shape["usd_per_hour"] = cents_text(line.usd_per_hour)
    return shape


def charge_detail(charge: BookedCharge) -> ChargeDetail:
    """A charge inside its stream."""
    return {
        "charge_id": charge.charge_id,
        "booked_at": time_text(charge.booked_at),
        "period": charge.period,
        "rate_card_id": charge.bill.rate_card_id,
        "rated_model": charge.bill.rated_model,
        "model_rule": charge.bill.model_rule,
        "markup_percent": cents_text(charge.bill.markup_percent),
        "cost_usd_cents": cents_text(charge.bill.usd_cents),
        "lines": [line_shape(line) for line in charge.bill.lines],
    }


def charge_shape(charge: BookedCharge) -> Charge:
    """A charge in a list."""
    bill = charge.bill
    return {
        "customer_id": charge.customer_id,
        "stream_id": charge.stream_id,
        "outcome": bill.outcome,
        "provider": bill.provider,
        "model": bill.model,
        "response_model": bill.response_model,
        "api_key_id": bill.api_key_id,
        "started_at": time_text(bill.started_at),
        "ended_at": time_text(bill.ended_at),
        "usage": usage_shape(bill.usage),
        "usage_source": bill.usage_source,
        "inlet": bill.inlet,
        "input_unknown": bill.input_unknown,
        "flags": list(bill.flags),
        "response_provider": bill.response_provider,
        "price_source": bill.price_source,
        "upstream_usd_cents": None if bill.upstream_usd_cents is None else cents_text(bill.upstream_usd_cents),
        "service_tier": bill.service_tier,
        "cancel_policy": bill.cancel_policy,
        "cancel_policy_version": bill.cancel_policy_version,
        "retry_of": bill.retry_of,
        **charge_detail(charge),
    }


@router.get("/charges", operation_id="listCharges", summary="List charges")
@needs(Scope.STREAMS_READ)
def read_charges(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    from_: FromFilter = None,
    to: ToFilter = None,
    model: ModelFilter = None,
    outcome: Annotated[Outcome | None, Query(description="Only streams with this outcome.")] = None,
    api_key_id: Annotated[Text | None, Query(description="Only streams of this API key of the customer.")] = None,
    usage_source: Annotated[
        UsageSource | None, Query(description="Only usage that was counted like this.")
    ] = None,
    flag: Annotated[Flag | None, Query(description="Only charges with this flag.")] = None,
    inlet: Annotated[Inlet | None, Query(description="Only usage that came in like this.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT, TEXT)] = None,
) -> Page[Charge]:
    """Booked usage charges by the end of their stream, oldest first. `from` and `to` bound that end."""
    where = ChargeFilter(
        customer_id=require_customer(key, customer_id),
        from_=from_,
        to=to,
        model=model,
        outcome=outcome,
        api_key_id=api_key_id,
        usage_source=usage_source,
        flag=flag,
        inlet=inlet,
    )
    position = decode_cursor(cursor, length=3)
    after = (parse_time(position[0]), position[1], position[2]) if position else None
    charges = list_charges(connection, where=where, after=after, limit=limit + 1)
    return page_of(charges, limit=limit, shape=charge_shape, position=_position)


def _position(charge: BookedCharge) -> list[str]:
    return [time_part(charge.bill.ended_at), charge.customer_id, charge.stream_id]
