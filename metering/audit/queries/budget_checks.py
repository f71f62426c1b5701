"""Invariants of budgets, holds and overruns, each derived from the ledger's entries once more.

They share no code with `budgets/`: windows, scopes and sums are written here a second time.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, text

from metering.audit.difference import Check, Difference, rows_that_differ

# Whether budget `b` covers entry `e` with its manual adjustment `m`, except by tags: those of a stream may change
# with its start.
_COVERS = """(b.customer_id = '' OR b.customer_id = e.customer_id)
    AND (b.scope IN ('deployment', 'customer')
         OR b.scope = 'api_key' AND b.api_key_id = coalesce(e.api_key_id, m.api_key_id))"""


_HOLDS_KEPT_SINCE = text("SELECT since FROM holds_kept")


def check_held(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What a budget holds is the sum of its open holds."""
    query = """
        WITH held AS MATERIALIZED (
            SELECT h.customer_id, unnest(h.budget_ids) AS budget_id, h.held_usd_cents FROM holds h
            WHERE h.state = 'open'
        )
        SELECT b.budget_id AS key, format('held_usd_cents: stored %s, its holds sum to %s', b.held_usd_cents,
                                          coalesce(sum(h.held_usd_cents), 0)) AS says
        FROM budgets b LEFT JOIN held h ON h.budget_id = b.budget_id
             AND (b.customer_id = '' OR h.customer_id = b.customer_id)
        WHERE b.ended_at IS NULL AND b.opened_at IS NOT NULL
        GROUP BY b.customer_id, b.budget_id, b.held_usd_cents
        HAVING b.held_usd_cents <> coalesce(sum(h.held_usd_cents), 0)
    """
    return rows_that_differ(connection, "budgets", query, begin, end)


def check_spent(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What was spent in a window is what was spent before the budget, and what was posted since."""
    query = """
        WITH posted AS MATERIALIZED (
            SELECT budget_id, window_starts_at, sum(usd_cents) AS cents FROM budget_postings GROUP BY 1, 2
        )
        SELECT w.budget_id || ' from ' || w.starts_at AS key,
               format('spent_usd_cents: stored %s, derived %s', w.spent_usd_cents,
                      w.opening_usd_cents + coalesce(p.cents, 0)) AS says
        FROM budget_windows w
        LEFT JOIN posted p ON p.budget_id = w.budget_id AND p.window_starts_at = w.starts_at
        WHERE w.spent_usd_cents <> w.opening_usd_cents + coalesce(p.cents, 0)
    """
    return rows_that_differ(connection, "budget_windows", query, begin, end)


def check_openings(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """What was spent in a window before the budget is the sum of its entries that are not posted to it."""
    query = f"""
        WITH opened AS MATERIALIZED (
            SELECT b.customer_id, b.budget_id, b.scope, b.api_key_id, w.starts_at, w.ends_at, w.opening_usd_cents
            FROM budget_windows w JOIN budgets b ON b.customer_id = w.customer_id AND b.budget_id = w.budget_id
            WHERE b.scope <> 'tag' AND b.ended_at IS NULL AND b.opened_at IS NOT NULL
              AND w.starts_at >= b.counted_from
        ), summed AS MATERIALIZED (
            SELECT b.budget_id, b.starts_at, sum(e.usd_cents) AS cents
            FROM opened b JOIN entries e ON e.filed_at >= b.starts_at AND e.filed_at < b.ends_at
            LEFT JOIN manual_adjustments m ON m.customer_id = e.customer_id AND m.adjustment_id = e.entry_id
            LEFT JOIN budget_postings p ON p.customer_id = e.customer_id AND p.entry_id = e.entry_id
                 AND p.budget_id = b.budget_id
            WHERE {_COVERS} AND p.entry_id IS NULL GROUP BY 1, 2
        )
        SELECT budget_id || ' from ' || starts_at AS key,
               format('opening_usd_cents: stored %s, entries that are not posted sum to %s', opening_usd_cents,
                      coalesce(cents, 0)) AS says
        FROM opened LEFT JOIN summed USING (budget_id, starts_at)
        WHERE opening_usd_cents <> coalesce(cents, 0)
    """
    return rows_that_differ(connection, "budget_windows", query, begin, end)


def check_posted_amounts(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A posting has the amount of its entry, in the window of the entry's time."""
    query = """
        WITH windows AS MATERIALIZED (SELECT budget_id, starts_at, ends_at FROM budget_windows)
        SELECT p.budget_id || ' ' || p.entry_id AS key,
               CASE WHEN e.entry_id IS NULL THEN 'the entry is not stored'
                    WHEN e.usd_cents <> p.usd_cents
                    THEN format('usd_cents: stored %s, the entry has %s', p.usd_cents, e.usd_cents)
                    ELSE 'window_starts_at: no window that contains the entry starts then' END AS says
        FROM budget_postings p
        LEFT JOIN entries e ON e.customer_id = p.customer_id AND e.entry_id = p.entry_id
        WHERE p.booked_at >= :begin AND p.booked_at < :end
          AND (e.entry_id IS NULL OR e.usd_cents <> p.usd_cents OR NOT e.taken_back AND NOT EXISTS (
               SELECT FROM windows w WHERE w.budget_id = p.budget_id AND w.starts_at = p.window_starts_at
               AND e.filed_at >= w.starts_at AND e.filed_at < w.ends_at))
    """
    return rows_that_differ(connection, "budget_postings", query, begin, end)


def check_windows(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """The windows of a budget do not overlap, and are not longer than its days or months can be."""
    query = """
        SELECT budget_id || ' from ' || starts_at AS key,
               CASE WHEN next < ends_at THEN 'ends_at: it overlaps the next window'
                    ELSE 'ends_at: the window is longer than a ' || budget_window END AS says
        FROM (SELECT w.budget_id, w.starts_at, w.ends_at, b.budget_window,
                     lead(w.starts_at) OVER (PARTITION BY w.customer_id, w.budget_id ORDER BY w.starts_at) AS next
              FROM budget_windows w
              JOIN budgets b ON b.customer_id = w.customer_id AND b.budget_id = w.budget_id) AS following
        WHERE next < ends_at
           OR ends_at - starts_at > CASE budget_window WHEN 'day' THEN interval '26 hours'
                                                       WHEN 'month' THEN interval '31 days 2 hours' END
    """
    return rows_that_differ(connection, "budget_windows", query, begin, end)


def check_open_holds(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """No hold is open whose stream has its charge."""
    query = """
        SELECT h.customer_id || '/' || h.stream_id AS key, 'the hold is open, and the charge is booked' AS says
        FROM holds h JOIN charges c ON c.customer_id = h.customer_id AND c.stream_id = h.stream_id
        WHERE h.state = 'open' AND cardinality(h.budget_ids) > 0
    """
    return rows_that_differ(connection, "holds", query, begin, end)


def check_settled_holds(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A settled hold has the amount of its stream's charge."""
    query = """
        SELECT h.customer_id || '/' || h.stream_id AS key,
               CASE WHEN c.charge_id IS NULL THEN 'the hold is settled, and no charge is booked'
                    ELSE format('settled_usd_cents: stored %s, the charge has %s', h.settled_usd_cents,
                                c.usd_cents) END AS says
        FROM holds h LEFT JOIN charges c ON c.customer_id = h.customer_id AND c.stream_id = h.stream_id
        WHERE h.state = 'settled' AND h.made_at >= :begin AND h.made_at < :end
          AND c.usd_cents IS DISTINCT FROM h.settled_usd_cents
    """
    return rows_that_differ(connection, "holds", query, begin, end)


def check_overruns(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """An overrun is what its entry has beyond what was held."""
    query = """
        SELECT o.customer_id || ' ' || o.entry_id AS key,
               CASE WHEN e.entry_id IS NULL THEN 'the entry is not stored'
                    ELSE format('usd_cents: stored %s, derived %s', o.usd_cents, e.usd_cents - o.held_usd_cents)
               END AS says
        FROM overruns o LEFT JOIN entries e ON e.customer_id = o.customer_id AND e.entry_id = o.entry_id
        WHERE o.booked_at >= :begin AND o.booked_at < :end
          AND (e.entry_id IS NULL OR o.usd_cents <> e.usd_cents - o.held_usd_cents
               OR e.kind = 'charge' AND EXISTS (
                  SELECT FROM holds h WHERE h.customer_id = o.customer_id AND h.stream_id = o.stream_id
                  AND h.state = 'settled' AND h.held_usd_cents <> o.held_usd_cents))
    """
    return rows_that_differ(connection, "overruns", query, begin, end)


def check_overruns_are_known(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Every charge beyond the hold of its stream that counts against a budget has an overrun, with a reason.

    A hold is closed by the booking of its charge, so charges from before the holds that are kept are left out.
    """
    kept_since = connection.execute(_HOLDS_KEPT_SINCE).scalar_one_or_none()
    query = """
        SELECT p.customer_id || ' ' || p.entry_id AS key,
               'more was booked than was held, and no overrun says why' AS says
        FROM (SELECT DISTINCT customer_id, entry_id FROM budget_postings
              WHERE booked_at >= :begin AND booked_at < :end) AS p
        JOIN charges c ON c.customer_id = p.customer_id AND c.charge_id = p.entry_id
        LEFT JOIN holds h ON h.customer_id = c.customer_id AND h.stream_id = c.stream_id AND h.state = 'settled'
        WHERE c.usd_cents > coalesce(h.held_usd_cents, 0)
          AND NOT EXISTS (SELECT FROM overruns o WHERE o.customer_id = p.customer_id AND o.entry_id = p.entry_id)
    """
    return rows_that_differ(connection, "overruns", query, max(begin, kept_since or begin), end)


def check_versions(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """A budget has the terms of its newest version."""
    query = """
        SELECT b.budget_id AS key, 'the terms differ from those of the newest version' AS says
        FROM budgets b LEFT JOIN budget_versions v
             ON v.customer_id = b.customer_id AND v.budget_id = b.budget_id AND v.version = b.version
        WHERE (b.limit_usd_cents, b.action, b.unknown_price_usd_cents, b.ended_at IS NOT NULL)
              IS DISTINCT FROM (v.limit_usd_cents, v.action, v.unknown_price_usd_cents, v.is_ended)
           OR EXISTS (SELECT FROM budget_versions n WHERE n.customer_id = b.customer_id
                      AND n.budget_id = b.budget_id AND n.version > b.version)
    """
    return rows_that_differ(connection, "budgets", query, begin, end)


BUDGET_CHECKS: tuple[Check, ...] = (
    check_held,
    check_spent,
    check_openings,
    check_posted_amounts,
    check_windows,
    check_open_holds,
    check_settled_holds,
    check_overruns,
    check_overruns_are_known,
    check_versions,
)
