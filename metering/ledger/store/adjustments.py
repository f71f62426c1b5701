"""Adjustments by hand: booked with their place in the totals, never changed."""

from sqlalchemy import Connection, insert, select

from metering.db.tables import manual_adjustments
from metering.ledger.adjustments import ManualAdjustment
from metering.ledger.entries import Bill
from metering.ledger.store.adjustment_rows import manual_adjustment_of_row
from metering.ledger.store.rollups import add_amount_to_totals, total_dimensions


def book_manual_adjustment(connection: Connection, adjustment: ManualAdjustment, *, bill: Bill | None) -> None:
    """Add an adjustment, and its amount to the totals beside the stream's newest bill, or beside none."""
    dimensions = total_dimensions(bill)
    connection.execute(
        insert(manual_adjustments).values(
            customer_id=adjustment.customer_id,
            adjustment_id=adjustment.adjustment_id,
            stream_id=adjustment.stream_id,
            kind=adjustment.kind.value,
            usd_cents=adjustment.usd_cents,
            reason=adjustment.reason,
            booked_by=adjustment.booked_by,
            booked_at=adjustment.booked_at,
            period=adjustment.period,
            filed_at=adjustment.filed_at,
            **dimensions,
        )
    )
    add_amount_to_totals(
        connection,
        customer_id=adjustment.customer_id,
        at=adjustment.filed_at,
        dimensions=dimensions,
        usd_cents=adjustment.usd_cents,
    )


def get_manual_adjustment(connection: Connection, *, customer_id: str, adjustment_id: str) -> ManualAdjustment:
    """The customer's adjustment with this id, which exists."""
    query = select(manual_adjustments).where(
        manual_adjustments.c.customer_id == customer_id,
        manual_adjustments.c.adjustment_id == adjustment_id,
    )
    return manual_adjustment_of_row(connection.execute(query).one())
