"""SQL that books manual adjustments and adds them to the totals. Booked rows never change."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, text

from metering.ledger.entries import ManualAdjustment, ManualKind
from metering.ledger.store.rollups import add_amount_to_totals, total_dimensions
from metering.streams.bill import Bill


def manual_adjustment_of_row(row: Any) -> ManualAdjustment:
    """The adjustment in a row of `manual_adjustments`. The row's dimensions only serve the totals."""
    return ManualAdjustment(
        customer_id=row.customer_id,
        adjustment_id=row.adjustment_id,
        stream_id=row.stream_id,
        kind=ManualKind(row.kind),
        usd_cents=row.usd_cents,
        reason=row.reason,
        booked_by=row.booked_by,
        booked_at=row.booked_at,
        period=row.period,
        filed_at=row.filed_at,
    )


_BOOK = text(
    """
    INSERT INTO manual_adjustments (customer_id, adjustment_id, stream_id, kind, usd_cents, reason, booked_by,
                                    booked_at, period, filed_at, provider, model, api_key_id, outcome,
                                    usage_source, retry, inlet)
    VALUES (:customer_id, :adjustment_id, :stream_id, :kind, :usd_cents, :reason, :booked_by, :booked_at,
            :period, :filed_at, :provider, :model, :api_key_id, :outcome, :usage_source, :retry, :inlet)
    """
)


def book_manual_adjustment(connection: Connection, adjustment: ManualAdjustment, *, bill: Bill | None) -> None:
    """Book an adjustment and add its amount to the totals, with the dimensions of the stream's newest `bill`."""
    dimensions = total_dimensions(bill)
    connection.execute(_BOOK, {**asdict(adjustment), "kind": adjustment.kind.value, **dimensions})
    add_amount_to_totals(
        connection,
        customer_id=adjustment.customer_id,
        at=adjustment.filed_at,
        dimensions=dimensions,
        usd_cents=adjustment.usd_cents,
    )


_GET = text("SELECT * FROM manual_adjustments WHERE customer_id = :customer_id AND adjustment_id = :adjustment_id")


def get_manual_adjustment(connection: Connection, *, customer_id: str, adjustment_id: str) -> ManualAdjustment:
    """The customer's adjustment with this id; it must exist."""
    row = connection.execute(_GET, {"customer_id": customer_id, "adjustment_id": adjustment_id}).one()
    return manual_adjustment_of_row(row)
