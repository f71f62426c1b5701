"""`metering streams`: find streams, show what one used and costs, and write its receipt."""

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from metering.audit.receipt_document import receipt_document, receipt_text
from metering.cli.options import AsJson, Limit, OnlyCustomer, OnlyProvider, time_text, utc_or
from metering.cli.receipts import made_receipt
from metering.cli.service import database
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.corrections.resolve_stream import UnknownStreamError
from metering.db.engine import transaction
from metering.events.events import Outcome
from metering.events.usage import COUNTERS, Usage
from metering.ledger.queries.found_streams import (
    FinalFilter,
    FoundStream,
    OpenFilter,
    find_streams,
    list_under_way,
)
from metering.ledger.queries.streams import StreamView, get_stream
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import print_json, say, show, show_one
from metering.streams.accrue_streams import accrue_stream
from metering.streams.bill import Bill
from metering.streams.settlement import accrue
from metering.streams.store.streams import StoredStream
from metering.streams.stream import billable_usage

app = typer.Typer()

CustomerId = Annotated[str, typer.Argument(help="The customer, the subject of its events.")]
StreamId = Annotated[str, typer.Argument(help="The stream's ID.")]
_LOOK_BACK = timedelta(days=1)


@app.command("list", epilog="Example: metering streams list --customer acme --period 2026-10 --model gpt-5.5")
def list_them(
    customer: OnlyCustomer = None,
    period: Annotated[str | None, typer.Option(help="Ended in this month, UTC, e.g. 2026-10.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Ended from this time on, UTC. Default: a day ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Ended before this time, UTC. Default: now.")] = None,
    provider: OnlyProvider = None,
    model: Annotated[str | None, typer.Option(help="Only this model, as in the events.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only streams with this outcome.")] = None,
    in_progress: Annotated[
        bool, typer.Option("--in-progress", help="Streams that are not final, instead of final ones.")
    ] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List final streams with their cost, or those in progress with what they cost so far, latest first.

    Streams that need attention are in `metering backlog list`.
    """
    now = utc_now()
    if in_progress:
        if any(each is not None for each in (period, since, until, outcome)):
            raise typer.BadParameter("a stream in progress has no end yet", param_hint="--in-progress")
        _list_in_progress(OpenFilter(customer_id=customer, provider=provider, model=model), limit, as_json=as_json)
        return
    if period is not None and (since is not None or until is not None):
        raise typer.BadParameter("give either --period or --since and --until", param_hint="--period")
    from_, to = utc_or(since, now - _LOOK_BACK), utc_or(until, now)
    if period is not None:
        month = BillingPeriod.parse(period)
        from_, to = month.start(time_zone=UTC_ZONE), month.next.start(time_zone=UTC_ZONE)
    where = FinalFilter(
        from_=from_,
        to=to,
        customer_id=customer,
        provider=provider,
        model=model,
        outcomes=[outcome.value] if outcome else None,
    )
    with database() as connection:
        found = find_streams(connection, where=where, before=None, limit=limit)
    important = (*_IDENTITY, "cost_usd_cents") if customer is None else ("stream_id", "cost_usd_cents", "model")
    empty = f"no final stream ended from {from_:%Y-%m-%d %H:%M} to {to:%Y-%m-%d %H:%M} UTC with these filters"
    show([_final(each) for each in found], as_json=as_json, empty=empty, important=important)
    if len(found) == limit:
        say(f"the latest {limit:,} are shown: --limit shows more")


def _list_in_progress(where: OpenFilter, limit: int, *, as_json: bool) -> None:
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        waiting = list_under_way(connection, where=where, limit=limit)
        prices = service.price_books.current(connection)
    rows = [_in_progress(each, accrue(facts=each.facts, prices=prices)) for each in waiting]
    show(rows, as_json=as_json, empty="no stream is in progress", important=(*_IDENTITY, "accrued_usd_cents"))
    if len(waiting) == limit:
        say(f"the latest {limit:,} are shown: --limit shows more")


@app.command("show", epilog="Example: metering streams show acme 01J9")
def show_it(customer_id: CustomerId, stream_id: StreamId, as_json: AsJson = False) -> None:
    """Show a stream: its state, its usage, its cost and the lines of its bill."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        view = get_stream(connection, customer_id=customer_id, stream_id=stream_id)
        if view is None:
            raise UnknownStreamError(f"customer {customer_id!r} has no stream {stream_id!r}")
        accrued = accrue_stream(connection, stream=view.stream, price_books=service.price_books)
    row, lines, bookings = _row(view, accrued), _lines(view.newest_bill or accrued), _bookings(view)
    if as_json:
        print_json({**row, "lines": lines, "bookings": bookings})
        return
    show_one(row, as_json=False)
    if lines:
        print()
        show(lines, as_json=False, empty="", important=("kind", "quantity", "usd_cents"))
    if bookings:
        print()
        show(bookings, as_json=False, empty="", important=("id", "usd_cents"))


@app.command("receipt", epilog="Example: metering streams receipt acme 01J9 --out receipt.json")
def receipt(
    customer_id: CustomerId,
    stream_id: StreamId,
    out: Annotated[
        Path | None, typer.Option(help="Write it to this file, as JSON, for `metering verify`.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print everything that a stream's cost follows from, as text, or as JSON that `metering verify` checks."""
    made = made_receipt(customer_id, stream_id)
    if out is not None:
        out.write_bytes(receipt_document(made))
        say(f"wrote {out}: check it with `metering verify {out}`")
    elif as_json:
        sys.stdout.write(receipt_document(made).decode() + "\n")
    else:
        sys.stdout.write(receipt_text(made))


_IDENTITY = ("customer_id", "stream_id")


def _final(found: FoundStream) -> dict[str, Any]:
    return {
        "ended_at": time_text(found.ended_at),
        "customer_id": found.customer_id,
        "stream_id": found.stream_id,
        "model": found.model,
        "outcome": found.outcome,
        "cost_usd_cents": cents_text(found.usd_cents),
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "usage_source": found.usage_source,
        "provider": found.provider,
        "retry": found.retry or None,
        "flags": list(found.flags) or None,
    }


def _in_progress(stream: StoredStream, accrued: Bill | None) -> dict[str, Any]:
    facts = stream.facts
    start = facts.start.event if facts.start else None
    usage = accrued.usage if accrued else billable_usage(facts).usage
    return {
        "last_event_at": time_text(facts.last_event_at),
        "customer_id": facts.customer_id,
        "stream_id": facts.stream_id,
        "state": stream.state.value,
        "model": start.model if start else None,
        "accrued_usd_cents": cents_text(accrued.usd_cents) if accrued else None,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "provider": start.provider if start else None,
    }


def _row(view: StreamView, accrued: Bill | None) -> dict[str, Any]:
    facts, booked = view.stream.facts, view.newest_bill
    bill = booked or accrued
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    billable = billable_usage(facts)
    cost = view.cost_usd_cents
    return {
        "customer_id": facts.customer_id,
        "stream_id": facts.stream_id,
        "state": view.stream.state.value,
        "state_reason": view.stream.state_reason,
        "cost_usd_cents": cents_text(cost) if cost is not None else None,
        "accrued_usd_cents": cents_text(accrued.usd_cents) if accrued else None,
        "outcome": booked.outcome.value if booked else end.outcome.value if end else None,
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "response_model": end.response_model if end else None,
        "started_at": time_text(facts.start.at) if facts.start else None,
        "ended_at": time_text(facts.ended_at) if end or booked else None,
        **_counts(bill.usage if bill else billable.usage),
        "usage_source": (bill.usage_source if bill else billable.source).value,
        "flags": list(bill.flags) if bill and bill.flags else None,
        "api_key_id": start.api_key_id if start else None,
        "cancel_policy": bill.cancel_policy.value if bill else None,
        "rate_card_id": bill.rate_card_id if bill else None,
        "retry_of": bill.retry_of if bill else None,
        "decision": view.resolution.action.value if view.resolution else None,
    }


def _counts(usage: Usage) -> Mapping[str, Any]:
    counted = {name: getattr(usage, name) for name in COUNTERS}
    return {name: count for name, count in counted.items() if count is not None}


def _lines(bill: Bill | None) -> list[dict[str, Any]]:
    return [
        {
            "kind": line.kind.value,
            "quantity": line.quantity,
            "usd_per_million": cents_text(line.usd_per_million) if line.usd_per_million is not None else None,
            "usd_per_hour": cents_text(line.usd_per_hour) if line.usd_per_hour is not None else None,
            "usd_cents": cents_text(line.usd_cents),
        }
        for line in (bill.lines if bill else ())
    ]


def _bookings(view: StreamView) -> list[dict[str, Any]]:
    charge = view.charge
    booked: list[tuple[Any, ...]] = []
    if charge is not None:
        booked.append((charge.booked_at, charge.charge_id, charge.period, "charge", charge.bill.usd_cents))
    booked += [
        (each.booked_at, each.adjustment_id, each.period, each.reason.value, each.usd_cents)
        for each in view.adjustments
    ]
    booked += [
        (each.booked_at, each.adjustment_id, each.period, f"{each.kind.value}: {each.reason}", each.usd_cents)
        for each in view.manual_adjustments
    ]
    return [
        {
            "booked_at": time_text(at),
            "id": id,
            "period": period,
            "what": what,
            "usd_cents": cents_text(usd_cents),
        }
        for at, id, period, what, usd_cents in booked
    ]
