"""The only place that reads the wall clock; all other code receives the time as an argument."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)
