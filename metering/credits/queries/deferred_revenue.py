"""Queries for deferred revenue: what of the price of grants is not used up yet, by grant and month."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, text


class DeferredRevenue(Struct, frozen=True, kw_only=True):
    """A month of a grant, or of all grants together: opening + sold - recognised - breakage - refunded = closing.

    In whole cents.
    """

    opening_cents: int
    sold_cents: int
    recognised_cents: int
    breakage_cents: int
    refunded_cents: int

    @property
    def closing_cents(self) -> int:
        """What is deferred at the end of the month."""
        return (
            self.opening_cents
            + self.sold_cents
            - self.recognised_cents
            - self.breakage_cents
            - self.refunded_cents
        )


class GrantRevenue(Struct, frozen=True, kw_only=True):
    """The deferred revenue of a grant in a month."""

    customer_id: str
    grant_id: str
    revenue: DeferredRevenue


# A grant that expired without an entry is breakage of the month of its expiry, from its expiry on.
_EXPIRES = """greatest(g.sold_period, to_char(g.expires_at AT TIME ZONE
                           coalesce(known_time_zone(c.time_zone), 'UTC'), 'YYYY-MM'))"""
_HAS_EXPIRED = "g.balance_usd_cents > 0 AND g.expires_at <= :now"
_REST = "g.paid_usd_cents - g.released_cents"
# The groups are of one grant each: without them, Citus refuses sums of what is looked up for each row.
_BY_GRANT = text(
    f"""
    SELECT * FROM (
        SELECT g.customer_id, g.grant_id,
               coalesce(s.opening_cents, 0) - CASE WHEN g.expired_period < :period THEN g.rest ELSE 0 END
                   AS opening_cents,
               coalesce(s.sold_cents, 0) AS sold_cents, coalesce(s.recognised_cents, 0) AS recognised_cents,
               coalesce(s.breakage_cents, 0) + CASE WHEN g.expired_period = :period THEN g.rest ELSE 0 END
                   AS breakage_cents,
               coalesce(s.refunded_cents, 0) AS refunded_cents,
               coalesce(s.moved, false) OR coalesce(g.expired_period = :period, false) AS moved
        FROM (
            SELECT g.customer_id, g.grant_id, {_REST} AS rest,
                   CASE WHEN {_HAS_EXPIRED} THEN {_EXPIRES} END AS expired_period
            FROM grants g JOIN customers c ON c.customer_id = g.customer_id
            WHERE g.paid_usd_cents > 0 AND g.sold_period <= :period
              AND (CAST(:customer_id AS text) IS NULL OR g.customer_id = :customer_id)
              AND (g.customer_id, g.grant_id) > (:after, :after_id)
        ) AS g
        LEFT JOIN LATERAL (
            SELECT sum(m.sold_cents - m.recognised_cents - m.breakage_cents - m.refunded_cents)
                       FILTER (WHERE m.period < :period) AS opening_cents,
                   sum(m.sold_cents) FILTER (WHERE m.period = :period) AS sold_cents,
                   sum(m.recognised_cents) FILTER (WHERE m.period = :period) AS recognised_cents,
                   sum(m.breakage_cents) FILTER (WHERE m.period = :period) AS breakage_cents,
                   sum(m.refunded_cents) FILTER (WHERE m.period = :period) AS refunded_cents,
                   bool_or(m.period = :period) AS moved
            FROM grant_months m
            WHERE m.customer_id = g.customer_id AND m.grant_id = g.grant_id AND m.period <= :period
            GROUP BY m.customer_id, m.grant_id
        ) AS s ON true
    ) AS found
    WHERE moved OR opening_cents <> 0 ORDER BY customer_id, grant_id LIMIT :limit
    """
)
# Deferred at the end of a month is what is deferred now, without what moved in later months: older months are not
# read, and of grants those with something left.
_OF_CUSTOMER = "(CAST(:customer_id AS text) IS NULL OR {0}.customer_id = :customer_id)"
_IN_ALL = text(
    f"""
    WITH moves AS (
        SELECT m.period, m.sold_cents, m.recognised_cents, m.breakage_cents, m.refunded_cents FROM grant_months m
        WHERE m.period >= :period AND {_OF_CUSTOMER.format("m")}
        UNION ALL
        SELECT {_EXPIRES}, 0, 0, {_REST}, 0 FROM grants g JOIN customers c ON c.customer_id = g.customer_id
        WHERE {_HAS_EXPIRED} AND {_OF_CUSTOMER.format("g")}
    )
    SELECT (SELECT coalesce(sum(g.paid_usd_cents - g.released_cents), 0) FROM grants g
            WHERE g.balance_usd_cents > 0 AND (g.expires_at IS NULL OR g.expires_at > :now)
              AND {_OF_CUSTOMER.format("g")}) AS deferred_cents,
           coalesce(sum(sold_cents - recognised_cents - breakage_cents - refunded_cents), 0) AS since_cents,
           coalesce(sum(sold_cents) FILTER (WHERE period = :period), 0) AS sold_cents,
           coalesce(sum(recognised_cents) FILTER (WHERE period = :period), 0) AS recognised_cents,
           coalesce(sum(breakage_cents) FILTER (WHERE period = :period), 0) AS breakage_cents,
           coalesce(sum(refunded_cents) FILTER (WHERE period = :period), 0) AS refunded_cents
    FROM moves WHERE period >= :period
    """
)


def deferred_revenue(
    connection: Connection,
    *,
    period: str,
    customer_id: str | None,
    now: datetime,
    after: tuple[str, str] | None,
    limit: int,
) -> Sequence[GrantRevenue]:
    """Up to `limit` grants with something deferred or moved in the month, after a (customer_id, grant_id)."""
    after_customer, after_grant = after or ("", "")
    parameters = {
        "period": period,
        "customer_id": customer_id,
        "now": now,
        "after": after_customer,
        "after_id": after_grant,
        "limit": limit,
    }
    return [
        GrantRevenue(
            customer_id=row.customer_id, grant_id=row.grant_id, revenue=_revenue(row, opening=row.opening_cents)
        )
        for row in connection.execute(_BY_GRANT, parameters)
    ]


def deferred_revenue_in_all(
    connection: Connection, *, period: str, customer_id: str | None, now: datetime
) -> DeferredRevenue:
    """The same for all grants together."""
    parameters = {"period": period, "customer_id": customer_id, "now": now}
    row = connection.execute(_IN_ALL, parameters).one()
    return _revenue(row, opening=row.deferred_cents - row.since_cents)


def _revenue(row: Any, *, opening: Decimal) -> DeferredRevenue:
    return DeferredRevenue(
        opening_cents=int(opening),
        sold_cents=int(row.sold_cents),
        recognised_cents=int(row.recognised_cents),
        breakage_cents=int(row.breakage_cents),
        refunded_cents=int(row.refunded_cents),
    )
