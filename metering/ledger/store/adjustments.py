"""Adjustments by hand: booked with their place in the totals, never changed."""

from typing import Any

from sqlalchemy import Connection, insert, select

from metering.db.tables import manual_adjustments
from metering.ledger.entries import ManualAdjustment, ManualKind
from metering.ledger.store.rollups import add_amount_to_totals, total_dimensions
from metering.streams.bill import Bill


def manual_adjustment_of_row(row: Any) -> ManualAdjustment:
    """The adjustment that a row holds; its dimensions are for totals only."""
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
