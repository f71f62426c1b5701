"""The figures of budgets and of prepaid balances, as queries.

Their rows have other columns than those of `figures.py`, and bring their windows with them: a budget's window is a
row of its own, and a balance has one that lasts until the customer's next grant.
"""

from datetime import datetime, timedelta

from metering.alerts.queries.figures import Figures

# A window is still evaluated for this long after its end: streams that ended in it may be finalized later.
_EVALUATED_FOR = timedelta(days=1)

# The key names the budget, its window and its limit. The start tells windows apart that have the same date because
# the customer's time zone changed. What is held counts against the window of now, not against one that is over.
_BUDGETS = """
    SELECT b.customer_id,
           concat(b.budget_id, '/', CASE b.budget_window WHEN 'total' THEN 'total'
                  ELSE to_char(w.starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI"Z"') END,
                  '/', trim_scale(b.limit_usd_cents)) AS alert_window,
           coalesce(c.time_zone, 'UTC') AS time_zone, w.spent_usd_cents AS usd_cents, b.budget_id, b.action,
           b.limit_usd_cents, CASE WHEN w.ends_at > :now THEN b.held_usd_cents ELSE 0 END AS held_usd_cents,
           CASE WHEN b.budget_window <> 'total' THEN w.starts_at END AS starts_at,
           CASE WHEN b.budget_window <> 'total' THEN w.ends_at END AS resets_at
    FROM budget_windows w
    JOIN budgets b ON b.customer_id = w.customer_id AND b.budget_id = w.budget_id
    LEFT JOIN customers c ON c.customer_id = b.customer_id
    WHERE w.ends_at > :ended_after AND w.starts_at <= :now
      AND b.ended_at IS NULL AND b.opened_at IS NOT NULL AND b.budget_window <> 'prepaid' AND ({whose})
"""


def budget_windows(*, now: datetime, customers: str | None, deployment: bool) -> Figures:
    """What is spent in the windows of budgets, with the columns of `Standing`, and the budget's `action`.

    `customers` is a query for the ids of the customers whose budgets are read, and None reads all; `deployment`
    also reads the budgets of the deployment.
    """
    whose = "b.customer_id <> ''" if customers is None else f"b.customer_id IN ({customers})"
    return Figures(
        query=_BUDGETS.format(whose=f"{whose} OR b.customer_id = ''" if deployment else whose),
        parameters={"now": now, "ended_after": now - _EVALUATED_FOR},
        windows={},
    )


# What a grant without limits has left is the balance that top-ups and prepaid budgets look at. The number of such
# grants so far only grows: a new one that counts opens a new window.
_BALANCES = """
    SELECT s.customer_id, concat('grants/', s.unlimited_count) AS alert_window, c.time_zone, s.usd_cents,
           s.limited_usd_cents, s.unlimited_count AS count, coalesce(h.usd_cents, 0) AS held_usd_cents
    FROM (
        SELECT g.customer_id, count(*) FILTER (WHERE g.is_unlimited) AS unlimited_count,
               coalesce(sum(g.left_usd_cents) FILTER (WHERE g.is_unlimited), 0) AS usd_cents,
               coalesce(sum(g.left_usd_cents) FILTER (WHERE NOT g.is_unlimited), 0) AS limited_usd_cents
        FROM (
            SELECT g.customer_id, g.only_providers IS NULL AND g.only_models IS NULL AS is_unlimited,
                   CASE WHEN g.expires_at <= :now THEN 0 ELSE g.balance_usd_cents END AS left_usd_cents
            FROM grants g WHERE g.entry_count > 0 AND g.effective_from <= :now {whose}
        ) AS g
        GROUP BY g.customer_id
    ) AS s
    JOIN customers c ON c.customer_id = s.customer_id
    LEFT JOIN (
        SELECT customer_id, sum(held_usd_cents) AS usd_cents FROM holds WHERE state = 'open' GROUP BY customer_id
    ) AS h ON h.customer_id = s.customer_id
    WHERE s.unlimited_count > 0
"""


def prepaid_balances(*, now: datetime, customers: str | None) -> Figures:
    """What is left of the grants of customers who have had one that pays for every model; `customers` as above."""
    whose = "" if customers is None else f"AND g.customer_id IN ({customers})"
    return Figures(query=_BALANCES.format(whose=whose), parameters={"now": now}, windows={})
