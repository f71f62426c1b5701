"""The newest bills of streams, one after another: what each comes to after all adjustments."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.domain.ledger import Bill
from metering.domain.period import BillingPeriod
from metering.records.charges import NEWEST_ADJUSTMENT, NEWEST_BILL_ROW, newest_bill_of_row

_UTC = ZoneInfo("UTC")
# A month begins and ends at other moments in other time zones, by less than this.
_ZONES = timedelta(days=1)
_CHUNK = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBill:
    """A stream's newest bill; None when what was booked is taken back."""

    customer_id: str
    stream_id: str
    bill: Bill | None


_BILLS = text(
    f"""
    SELECT {NEWEST_BILL_ROW} FROM charges c {NEWEST_ADJUSTMENT}
    WHERE c.period = :period AND c.ended_at >= :from_ AND c.ended_at < :to
      AND (CAST(:customer_id AS text) IS NULL OR c.customer_id = :customer_id)
      AND (CAST(:provider AS text) IS NULL OR c.provider = :provider)
      AND (CAST(:model AS text) IS NULL OR c.model = :model)
      AND (:completed OR c.outcome <> 'completed' OR newest.revision IS NOT NULL)
    ORDER BY c.ended_at, c.customer_id, c.stream_id
    """
).execution_options(yield_per=_CHUNK)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillFilter:
    """Which bills of a period; None does not narrow. `completed` takes those of completed streams, too."""

    period: BillingPeriod
    customer_id: str | None = None
    provider: str | None = None
    model: str | None = None
    completed: bool = True


def iterate_bills(connection: Connection, *, where: BillFilter) -> Iterator[StreamBill]:
    """Every stream that was first charged in the period, by its end; read as they are asked for."""
    parameters = {
        "period": str(where.period),
        "from_": where.period.start(time_zone=_UTC) - _ZONES,
        "to": where.period.next.start(time_zone=_UTC) + _ZONES,
        "customer_id": where.customer_id,
        "provider": where.provider,
        "model": where.model,
        "completed": where.completed,
    }
    for row in connection.execute(_BILLS, parameters):
        yield StreamBill(customer_id=row.customer_id, stream_id=row.stream_id, bill=newest_bill_of_row(row))
