"""Event times that cannot be right: what is said about them, and which are not used.

A gateway's clock is not ours. An event that is dated a little ahead of its receipt is flagged. One that is dated
far ahead, or before there was anything to meter, is not billed by its time.
"""

from datetime import UTC, datetime, timedelta

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
MAX_AHEAD = timedelta(hours=24)
# Clocks of hosts that synchronize differ by less.
SKEWED = timedelta(minutes=5)


def is_plausible(time: datetime, *, received_at: datetime) -> bool:
    """Whether there is nothing to say of an event's time."""
    return EARLIEST <= time <= received_at + SKEWED


def is_misdated(time: datetime, *, received_at: datetime) -> bool:
    """Whether an event's time is not trusted: before 2020, or more than 24 hours ahead of its receipt."""
    return time < EARLIEST or time > received_at + MAX_AHEAD


def seconds_ahead(time: datetime, *, received_at: datetime) -> int | None:
    """By how many seconds an event's time is ahead of its receipt; None up to five minutes."""
    ahead = time - received_at
    return int(ahead.total_seconds()) if ahead > SKEWED else None
