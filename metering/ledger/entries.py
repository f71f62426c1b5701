"""Entries: the usage charge of a stream, and the adjustments that follow. Booked entries never change.

The first bill of a stream is booked as a charge. When later facts change the bill, an adjustment books the
difference and carries the new bill. So charge + adjustments always sum to the newest bill.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering.core.ids import digest
from metering.core.money import EXACT, ZERO
from metering.streams.bill import Bill


class AdjustmentReason(StrEnum):
    """Why an adjustment was booked: facts arrived after the booking, or the stream was rerated."""

    LATE_FACTS = "late_facts"
    RERATE = "rerate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The one usage charge of a stream.

    `request_key` is a digest of the request, which finds retries (`streams/retries.py`).
    """

    charge_id: str
    customer_id: str
    stream_id: str
    booked_at: datetime
    period: str
    bill: Bill
    request_key: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A change of a stream's bill: `usd_cents` is the new bill minus the bill before, exact.

    `bill` is the new bill. It is None when the stream may not be billed for now: its facts contradict each other,
    or its model has no rate. `revision` counts the stream's adjustments from 1.
    """

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
    """The charge id, derived from the stream: a second booking would have the same id."""
    return f"ch_{digest(customer_id, stream_id)}"


def adjustment_id_of(*, customer_id: str, stream_id: str, revision: int) -> str:
    """The adjustment id, derived from the stream and the revision."""
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
    """The adjustment from the bill `before` to the bill `after`; None stands for no bill."""
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
    """The exact cents to book so that the stream's bookings sum to the bill `after`."""
    return EXACT.subtract(after.usd_cents if after else ZERO, before.usd_cents if before else ZERO)


class ManualKind(StrEnum):
    """`CREDIT`: in the customer's favour, always below zero. `CORRECTION`: either sign."""

    CREDIT = "credit"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualAdjustment:
    """A credit or correction that an admin booked, for one stream or for the customer as a whole (None).

    It changes no bill. Totals count it at `filed_at`: the end of its stream, or the time of booking without one.
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
