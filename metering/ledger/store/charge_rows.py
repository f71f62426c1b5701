"""A row of `charges` as a record."""

from typing import Any

from metering.events.events import Outcome, UsageSource
from metering.events.usage import COUNTERS, Usage
from metering.ledger.entries import Bill, Charge
from metering.prices.cancel_policies import CancelPolicy
from metering.streams.documents import bill_from_document, lines_from_document
from metering.streams.resolutions import ResolutionAction

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
