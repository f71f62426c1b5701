"""Lists of credits and corrections, newest first, page by page."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select, tuple_

from metering.db.tables import manual_adjustments
from metering.ledger.adjustments import ManualAdjustment
from metering.ledger.store.adjustment_rows import manual_adjustment_of_row


def list_manual_adjustments(
    connection: Connection,
    *,
    customer_id: str | None,
    period: str | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[ManualAdjustment]:
    """Up to `limit` of them behind the position `after`, by (booked_at, adjustment_id); None does not narrow."""
    table = manual_adjustments.c
    query = select(manual_adjustments).order_by(table.booked_at.desc(), table.adjustment_id.desc()).limit(limit)
    if customer_id is not None:
        query = query.where(table.customer_id == customer_id)
    if period is not None:
        query = query.where(table.period == period)
    if after is not None:
        query = query.where(tuple_(table.booked_at, table.adjustment_id) < after)
    return [manual_adjustment_of_row(row) for row in connection.execute(query)]
