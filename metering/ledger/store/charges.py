"""Charges and adjustments: booked, read back as bills, never changed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.db.rows import copy_rows, json_keys, moment
from metering.events.events import Outcome, UsageSource
from metering.events.usage import COUNTERS, Usage
from metering.ledger.entries import Adjustment, Charge
from metering.prices.cancel_policies import CancelPolicy
from metering.streams.bill import Bill
from metering.streams.resolutions import ResolutionAction
from metering.streams.store.streams import bill_document, bill_from_document, lines_document, lines_from_document

CHARGE_COLUMNS = (
    "customer_id",
    "stream_id",
    "charge_id",
    "booked_at",
    "period",
    "outcome",
    "provider",
    "model",
    "response_model",
    "api_key_id",
    "started_at",
    "ended_at",
    *COUNTERS,
    "usage_source",
    "input_unknown",
    "cancel_policy",
    "rate_card_id",
    "rated_model",
    "lines",
    "usd_cents",
    "service_tier",
    "cancel_policy_version",
    "model_rule",
    "markup_percent",
    "retry_of",
    "request_key",
    "resolution",
)
# A whole charge, for `bill_of_row`; the table is `c`.
CHARGE_ROW = ", ".join(f"c.{name}" if name != "lines" else "c.lines::text AS lines" for name in CHARGE_COLUMNS)


# The newest adjustment of the charge `c` carries the bill; one without a bill took it back.
NEWEST_ADJUSTMENT = """
    LEFT JOIN LATERAL (
        SELECT a.revision, a.bill FROM adjustments a
        WHERE a.customer_id = c.customer_id AND a.stream_id = c.stream_id
        ORDER BY a.revision DESC LIMIT 1
    ) newest ON true
"""
NEWEST_BILL_ROW = f"{CHARGE_ROW}, newest.revision, newest.bill::text AS bill"


def newest_bill_of_row(row: Any) -> Bill | None:
    """The newest bill in a row of NEWEST_BILL_ROW; None when it was taken back."""
    if row.revision is None:
        return bill_of_row(row)
    return None if row.bill is None else bill_from_document(row.bill)


def charge_of_row(row: Any) -> Charge:
    """A row of CHARGE_ROW as a charge."""
    return Charge(
        charge_id=row.charge_id,
        customer_id=row.customer_id,
        stream_id=row.stream_id,
        booked_at=row.booked_at,
        period=row.period,
        bill=bill_of_row(row),
        request_key=row.request_key,
    )


def bill_of_row(row: Any) -> Bill:
    """The bill that a row of `charges` holds; `lines` is its JSON text."""
    return Bill(
        outcome=Outcome(row.outcome),
        provider=row.provider,
        model=row.model,
        response_model=row.response_model,
        service_tier=row.service_tier,
        api_key_id=row.api_key_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        usage=Usage(**{counter: getattr(row, counter) for counter in COUNTERS}),
        usage_source=UsageSource(row.usage_source),
        input_unknown=row.input_unknown,
        cancel_policy=CancelPolicy(row.cancel_policy),
        cancel_policy_version=row.cancel_policy_version,
        rate_card_id=row.rate_card_id,
        rated_model=row.rated_model,
        model_rule=row.model_rule,
        markup_percent=row.markup_percent,
        retry_of=row.retry_of,
        resolution=ResolutionAction(row.resolution) if row.resolution else None,
        lines=lines_from_document(row.lines),
    )


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
