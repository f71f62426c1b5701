"""Months that commands are given: read, and refused where they lie ahead."""

from datetime import datetime

from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod


class MonthAheadError(MeteringError):
    """The month has not begun in any time zone, so there is nothing of it."""


def month_or_none(text: str | None) -> BillingPeriod | None:
    """The month of an option; None if it was not given.

    Raises:
        InvalidPeriodError: it is not a month such as 2026-10.
    """
    return BillingPeriod.parse(text) if text is not None else None


def check_begun(month: BillingPeriod | None, *, now: datetime) -> None:
    """Refuse a month that has not begun: what is compared or written for it looks like a result, and is none.

    Raises:
        MonthAheadError: it begins after `now` in every time zone.
    """
    if month is not None and month.in_any_zone[0] > now:
        raise MonthAheadError(f"{month} has not begun")
