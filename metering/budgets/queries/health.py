"""The query for the state of holds and budgets, for metrics."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

_HEALTH = text(
    """
    SELECT (SELECT count(*) FROM holds WHERE state = 'open') AS open_holds,
           (SELECT count(*) FROM holds h
            JOIN streams s ON s.customer_id = h.customer_id AND s.stream_id = h.stream_id
            WHERE h.state = 'open' AND h.expires_at <= :now AND s.revision IS NOT NULL) AS stale_holds,
           (SELECT coalesce(sum(held_usd_cents), 0) FROM holds WHERE state = 'open') AS held_usd_cents,
           (SELECT count(*) FROM budgets b JOIN budget_windows w
                   ON w.customer_id = b.customer_id AND w.budget_id = b.budget_id
                   AND w.starts_at <= :now AND w.ends_at > :now
            WHERE b.ended_at IS NULL AND w.spent_usd_cents >= b.limit_usd_cents) AS exhausted
    """
)


@dataclass(frozen=True, slots=True)
class BudgetHealth:
    """`stale_holds` are open although their streams are final: 0, but for a moment. Amounts are exact cents."""

    open_holds: int
    stale_holds: int
    held_usd_cents: Decimal
    exhausted: int


def budget_health(connection: Connection, *, now: datetime) -> BudgetHealth:
    """Counts of open holds and exhausted budgets."""
    return BudgetHealth(*connection.execute(_HEALTH, {"now": now}).one())
