"""Make a receipt: collect everything that a stream's cost is derived from."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from metering.audit.receipt import FORMAT, Receipt, ReceiptCard, ReceiptDraw, ReceiptEntry
from metering.credits.queries.entries import entries_of_stream
from metering.ledger.queries.streams import StreamView, get_stream
from metering.months.queries.invoices import invoice_numbers
from metering.prices.queries import get_rate_card

# Far more than a stream has adjustments.
_MOST_DRAWS = 10_000


def make_receipt(connection: Connection, *, customer_id: str, stream_id: str, now: datetime) -> Receipt | None:
    """The receipt of a stream in its present state; None when no event of the stream has arrived."""
    view = get_stream(connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        return None
    facts, bill = view.stream.facts, view.newest_bill
    card = get_rate_card(connection, rate_card_id=bill.rate_card_id) if bill and bill.rate_card_id else None
    entries = list(_entries(view))
    draws = entries_of_stream(connection, customer_id=customer_id, stream_id=stream_id, limit=_MOST_DRAWS)
    numbers = invoice_numbers(connection, customer_id=customer_id, periods={entry.period for entry in entries})
    return Receipt(
        format=FORMAT,
        customer_id=customer_id,
        stream_id=stream_id,
        issued_at=now,
        state=view.stream.state.value,
        start=facts.start.event if facts.start else None,
        delivered=facts.delivered,
        end=facts.end.event if facts.end else None,
        last_event_at=facts.last_event_at,
        bill=bill,
        rate_card=ReceiptCard(card=card.card, provenance=card.provenance, created_at=card.created_at)
        if card
        else None,
        resolution=view.resolution,
        entries=[replace(entry, invoice=numbers.get(entry.period)) for entry in entries],
        usd_cents=view.cost_usd_cents,
        invoice=numbers.get(entries[0].period) if entries else None,
        clock_ahead_seconds=facts.clock_ahead_seconds,
        start_received_at=facts.start.received_at if facts.start else None,
        end_received_at=facts.end.received_at if facts.end else None,
        draws=[
            ReceiptDraw(
                grant_id=each.grant_id,
                entry_id=each.entry_id or "",
                booked_at=each.booked_at,
                usd_cents=each.usd_cents,
                left_usd_cents=each.balance_usd_cents,
            )
            for each in draws
        ],
    )


def _entries(view: StreamView) -> Iterator[ReceiptEntry]:
    if view.charge is not None:
        yield ReceiptEntry(
            id=view.charge.charge_id,
            booked_at=view.charge.booked_at,
            period=view.charge.period,
            reason="charge",
            note=None,
            usd_cents=view.charge.bill.usd_cents,
        )
    for adjustment in view.adjustments:
        yield ReceiptEntry(
            id=adjustment.adjustment_id,
            booked_at=adjustment.booked_at,
            period=adjustment.period,
            reason=adjustment.reason.value,
            note=None,
            usd_cents=adjustment.usd_cents,
        )
    for manual in view.manual_adjustments:
        yield ReceiptEntry(
            id=manual.adjustment_id,
            booked_at=manual.booked_at,
            period=manual.period,
            reason=manual.kind.value,
            note=manual.reason,
            usd_cents=manual.usd_cents,
        )
