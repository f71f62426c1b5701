"""Adjustments by hand: a credit or a correction that an admin books, with the reason."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


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
