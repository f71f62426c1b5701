"""Charges and adjustments: booked, read back as bills, never changed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.domain.ledger import Adjustment, Bill, Charge
from metering.records.charges import CHARGE_COLUMNS, CHARGE_ROW, bill_of_row
from metering.records.documents import bill_document, bill_from_document, lines_document
from metering.store.copying import copy_rows

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
        charge.booked_at,
        charge.period,
        bill.outcome.value,
        bill.provider,
        bill.model,
        bill.response_model,
        bill.api_key_id,
        bill.started_at,
        bill.ended_at,
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


_NEWEST_BILLS = text(
    f"""
    SELECT {CHARGE_ROW},
           newest.adjustment_id, newest.bill::text AS bill
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:stream_ids AS text[])) AS wanted (customer_id, stream_id)
    JOIN charges c USING (customer_id, stream_id)
    LEFT JOIN LATERAL (
        SELECT a.adjustment_id, a.bill FROM adjustments a
        WHERE a.customer_id = c.customer_id AND a.stream_id = c.stream_id
        ORDER BY a.revision DESC LIMIT 1
    ) newest ON true
    """
)


def newest_bills(connection: Connection, streams: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Bill | None]:
    """What the bookings of these (customer_id, stream_id) amount to now; None for one that was taken back."""
    rows = connection.execute(
        _NEWEST_BILLS,
        {"customer_ids": [key[0] for key in streams], "stream_ids": [key[1] for key in streams]},
    )
    return {(row.customer_id, row.stream_id): _newest_bill(row) for row in rows}


def _newest_bill(row: Any) -> Bill | None:
    if row.adjustment_id is None:
        return bill_of_row(row)
    return None if row.bill is None else bill_from_document(row.bill)
