"""Charges and adjustments: booked, read back as bills, never changed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.db.copying import copy_rows, moment
from metering.db.json_rows import json_keys
from metering.ledger.entries import Adjustment, Bill, Charge
from metering.ledger.store.charge_rows import (
    CHARGE_COLUMNS,
    NEWEST_ADJUSTMENT,
    NEWEST_BILL_ROW,
    newest_bill_of_row,
)
from metering.streams.documents import bill_document, lines_document

COPY_CHARGES = f"COPY charges ({', '.join(CHARGE_COLUMNS)}) FROM STDIN"


def book_charges(connection: Connection, charges: Sequence[Charge]) -> None:
    """Add usage charges; the database refuses a second one for a stream."""
    copy_rows(connection, COPY_CHARGES, map(_charge_row, charges))


def _charge_row(charge: Charge) -> tuple[Any, ...]:
    bill = charge.bill
    return (
        charge.customer_id,
        charge.stream_id,
        charge.charge_id,
        moment(charge.booked_at),
        charge.period,
        bill.outcome.value,
        bill.provider,
        bill.model,
        bill.response_model,
        bill.api_key_id,
        moment(bill.started_at),
        moment(bill.ended_at),
        *bill.usage.counts(),
        bill.usage_source.value,
        bill.input_unknown,
        bill.cancel_policy.value,
        bill.rate_card_id,
        bill.rated_model,
        lines_document(bill.lines),
        bill.usd_cents,
        bill.service_tier,
        bill.cancel_policy_version,
        bill.model_rule,
        bill.markup_percent,
        bill.retry_of,
        charge.request_key,
        bill.resolution.value if bill.resolution else None,
    )


_BOOK_ADJUSTMENT = text(
    """
    INSERT INTO adjustments (customer_id, adjustment_id, stream_id, charge_id, revision, booked_at, period, reason,
                             usd_cents, ended_at, bill)
    VALUES (:customer_id, :adjustment_id, :stream_id, :charge_id, :revision, :booked_at, :period, :reason,
            :usd_cents, :ended_at, CAST(:bill AS jsonb))
    """
)


def book_adjustments(connection: Connection, adjustments: Sequence[Adjustment]) -> None:
    """Add adjustments; the database refuses a revision that is already there."""
    rows = [
        {
            "customer_id": adjustment.customer_id,
            "adjustment_id": adjustment.adjustment_id,
            "stream_id": adjustment.stream_id,
            "charge_id": adjustment.charge_id,
            "revision": adjustment.revision,
            "booked_at": adjustment.booked_at,
            "period": adjustment.period,
            "reason": adjustment.reason.value,
            "usd_cents": adjustment.usd_cents,
            "ended_at": adjustment.bill.ended_at if adjustment.bill else None,
            "bill": bill_document(adjustment.bill) if adjustment.bill else None,
        }
        for adjustment in adjustments
    ]
    connection.execute(_BOOK_ADJUSTMENT, rows)


_NEWEST_BILLS = f"""
SELECT {NEWEST_BILL_ROW} FROM json_to_recordset(%s::json) AS wanted (customer_id text, stream_id text)
JOIN charges c USING (customer_id, stream_id) {NEWEST_ADJUSTMENT}
"""


def newest_bills(connection: Connection, streams: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Bill | None]:
    """What the bookings of these (customer_id, stream_id) amount to now; None for one that was taken back."""
    if not streams:
        return {}
    rows = connection.exec_driver_sql(_NEWEST_BILLS, (json_keys(streams),))
    return {(row.customer_id, row.stream_id): newest_bill_of_row(row) for row in rows}
