"""Accrued amounts: what streams that are not final would cost if they ended now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from metering.prices.store.book import PriceBooks
from metering.streams.bill import Bill
from metering.streams.queries import iterate_not_final
from metering.streams.retries import NO_RETRY
from metering.streams.settlement import accrue
from metering.streams.store.streams import StoredStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrual:
    """The accrued amount of one stream. Unknown values are empty strings."""

    customer_id: str
    at: datetime
    provider: str
    model: str
    api_key_id: str
    outcome: str
    usage_source: str
    retry: str
    inlet: str
    usd_cents: Decimal


def accrue_streams(
    connection: Connection, *, price_books: PriceBooks, customer_id: str | None, from_: datetime, to: datetime
) -> Sequence[Accrual]:
    """One accrual for each open or ended stream that can be rated and has its newest event in [from_, to)."""
    prices = price_books.current(connection)
    accruals: list[Accrual] = []
    for stream in iterate_not_final(connection, customer_id=customer_id, from_=from_, to=to):
        bill = accrue(facts=stream.facts, prices=prices)
        if bill is not None:
            accruals.append(_accrual(stream, bill))
    return accruals


def accrue_stream(connection: Connection, *, stream: StoredStream, price_books: PriceBooks) -> Bill | None:
    """The accrued bill of a stream; None if it is final or cannot be rated."""
    if stream.revision is not None:
        return None
    return accrue(facts=stream.facts, prices=price_books.current(connection))


def _accrual(stream: StoredStream, bill: Bill) -> Accrual:
    return Accrual(
        customer_id=stream.facts.customer_id,
        at=stream.facts.last_event_at,
        provider=bill.provider,
        model=bill.model,
        api_key_id=bill.api_key_id or "",
        outcome=bill.outcome.value if stream.facts.end else "",
        usage_source=bill.usage_source.value,
        retry=NO_RETRY,
        inlet=bill.inlet.value,
        usd_cents=bill.usd_cents,
    )
