"""Adjustments by hand: booked with their place in the totals, never changed."""

from sqlalchemy import Connection, insert, select

from metering.domain.ledger import Bill
from metering.domain.manual_adjustments import ManualAdjustment
from metering.records.manual_adjustments import manual_adjustment_of_row
from metering.store.rollups import add_amount_to_totals, total_dimensions
from metering.tables import manual_adjustments


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
