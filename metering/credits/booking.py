"""Bookings: what the ledger has booked, as credits and budgets see it."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct


class BookingKind(StrEnum):
    """Why an entry was booked."""

    CHARGE = "charge"
    LATE_FACTS = "late_facts"
    RERATE = "rerate"
    MANUAL = "manual"


class Booking(Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the ledger: `usd_cents` is exact, and below zero where it lowers what the customer owes.

    `entry_id` is the id of the charge or adjustment. A manual adjustment for the customer as a whole has no
    stream, provider or model. `filed_at` is the end of the stream, or the time of booking without one.
    `failed_open`: the gateway let the stream pass because it could not reach the service.
    """

    customer_id: str
    entry_id: str
    stream_id: str | None
    kind: BookingKind
    usd_cents: Decimal
    booked_at: datetime
    filed_at: datetime
    period: str
    provider: str | None = None
    model: str | None = None
    api_key_id: str | None = None
    tags: Mapping[str, str] = {}
    failed_open: bool = False
