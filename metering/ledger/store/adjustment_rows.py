"""A row of `manual_adjustments` as a record."""

from typing import Any

from metering.ledger.adjustments import ManualAdjustment, ManualKind


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
