"""How fresh the figures are: totals are exact at any moment, so what can be late is finalizing."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, text

_OLDEST_DUE = text("SELECT min(due_at) FROM streams WHERE due_at <= :now")


def finalizing_behind(connection: Connection, *, now: datetime) -> timedelta:
    """How long the longest waiting stream has been due; zero when none is."""
    oldest: datetime | None = connection.execute(_OLDEST_DUE, {"now": now}).scalar_one()
    return now - oldest if oldest is not None else timedelta(0)
