"""The streams that were charged in a period, and what they come to after all adjustments, one after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.ledger.entries import Bill
from metering.ledger.store.charge_rows import NEWEST_ADJUSTMENT, NEWEST_BILL_ROW, newest_bill_of_row

_CHUNK = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBill:
    """A stream's newest bill; None when what was booked is taken back."""

    customer_id: str
    stream_id: str
    bill: Bill | None


_OF_PERIOD = """
    c.period = :period AND c.ended_at >= :from_ AND c.ended_at < :to
    AND (CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id)
    AND (CAST(:provider AS text) IS NULL OR c.provider = :provider)
    AND (CAST(:model AS text) IS NULL OR c.model = :model)
"""
_ORDER = "ORDER BY c.ended_at, c.customer_id, c.stream_id"
# A completed stream's charge may have been adjusted to another outcome.
_NOT_COMPLETED = text(
    f"""
    SELECT {NEWEST_BILL_ROW} FROM charges c {NEWEST_ADJUSTMENT}
    WHERE {_OF_PERIOD} AND (c.outcome <> 'completed' OR newest.revision IS NOT NULL) {_ORDER}
    """
).execution_options(yield_per=_CHUNK)
_STREAMS = text(f"SELECT c.customer_id, c.stream_id FROM charges c WHERE {_OF_PERIOD} {_ORDER}").execution_options(
    yield_per=_CHUNK
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillFilter:
    """Streams that were first charged in a period; None does not narrow."""

    period: BillingPeriod
    customer_id: str | None = None
    provider: str | None = None
    model: str | None = None


def iterate_charged_streams(connection: Connection, *, where: BillFilter) -> Iterator[tuple[str, str]]:
    """Their (customer_id, stream_id), by their end; read as they are asked for."""
    for row in connection.execute(_STREAMS, _parameters(where)):
        yield (row.customer_id, row.stream_id)


def iterate_bills_not_completed(connection: Connection, *, where: BillFilter) -> Iterator[StreamBill]:
    """The newest bills of those that did not complete, and of some that did; read as they are asked for."""
    for row in connection.execute(_NOT_COMPLETED, _parameters(where)):
        yield StreamBill(customer_id=row.customer_id, stream_id=row.stream_id, bill=newest_bill_of_row(row))


def _parameters(where: BillFilter) -> dict[str, Any]:
    from_, to = where.period.in_any_zone
    return {
        "period": str(where.period),
        "from_": from_,
        "to": to,
        "customer_id": where.customer_id,
        "provider": where.provider,
        "model": where.model,
    }
