"""Booked amounts: what a stream owes, its usage charge, and the adjustments that follow. Nothing is edited.

A `Bill` is what the facts of a stream amount to. The first one is booked as a charge; when later facts change
it, an adjustment books the difference and carries the new bill. So the newest bill is always what the facts
say, and charge + adjustments always sum to it.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering.core.ids import digest
from metering.core.money import EXACT, ZERO
from metering.streams.bill import Bill


class AdjustmentReason(StrEnum):
    """Why an adjustment was booked."""

    LATE_FACTS = "late_facts"
    RERATE = "rerate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The one usage charge of a stream. `request_key` is what it asked for (domain/retries.py)."""

    charge_id: str
    customer_id: str
    stream_id: str
    booked_at: datetime
    period: str
    bill: Bill
    request_key: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A later fact's difference: `usd_cents` = new bill - bill before. `bill` is None when, for now, nothing
    may be billed (the facts have come to contradict each other, or lost their rate)."""

    adjustment_id: str
    customer_id: str
    stream_id: str
    charge_id: str
    revision: int
    booked_at: datetime
    period: str
    reason: AdjustmentReason
    usd_cents: Decimal
    bill: Bill | None


def charge_id_of(*, customer_id: str, stream_id: str) -> str:
    """A charge's id follows from its stream, so that booking it twice cannot make two."""
    return f"ch_{digest(customer_id, stream_id)}"


def adjustment_id_of(*, customer_id: str, stream_id: str, revision: int) -> str:
    """An adjustment's id follows from its stream and its place in the stream's history."""
    return f"adj_{digest(customer_id, stream_id, str(revision))}"


def adjust(
    *,
    customer_id: str,
    stream_id: str,
    revision: int,
    before: Bill | None,
    after: Bill | None,
    reason: AdjustmentReason,
    booked_at: datetime,
    period: str,
) -> Adjustment:
    """The adjustment that takes a stream from one bill to the next."""
    return Adjustment(
        adjustment_id=adjustment_id_of(customer_id=customer_id, stream_id=stream_id, revision=revision),
        customer_id=customer_id,
        stream_id=stream_id,
        charge_id=charge_id_of(customer_id=customer_id, stream_id=stream_id),
        revision=revision,
        booked_at=booked_at,
        period=period,
        reason=reason,
        usd_cents=difference(before=before, after=after),
        bill=after,
    )


def difference(*, before: Bill | None, after: Bill | None) -> Decimal:
    """What has to be booked so that the sum of all bookings is the new bill."""
    return EXACT.subtract(after.usd_cents if after else ZERO, before.usd_cents if before else ZERO)


class ManualKind(StrEnum):
    """`CREDIT`: in the customer's favour, so below zero. `CORRECTION`: of either sign."""

    CREDIT = "credit"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualAdjustment:
    """An amount beside the bills, of one stream or of the customer as a whole.

    `filed_at` is when totals have it: when its stream ended, or when it was booked.
    """

    customer_id: str
    adjustment_id: str
    stream_id: str | None
    kind: ManualKind
    usd_cents: Decimal
    reason: str
    booked_by: str
    booked_at: datetime
    period: str
    filed_at: datetime
