"""Totals of a month of all customers: what their own bounds add to the month in UTC, and take from it.

The month in UTC is summed from the coarsest tables. Beside it, the few hours between its bounds and those of each
customer that has others are added or subtracted.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from metering.customers.queries.month_bounds import BillingMonths, moved_months, moved_parameters
from metering.ledger.rollups import Rollup
from metering.totals.queries.edges import edge_bills
from metering.totals.ranges import Range

# A stretch of time between a bound of UTC's month and the customer's, with whether it counts more or less.
_BETWEEN = """
    SELECT customer_id, sign(extract(epoch FROM {of_utc} - {own})) AS sign,
           LEAST({own}, {of_utc}) AS from_, GREATEST({own}, {of_utc}) AS to_
    FROM {prefix}moved WHERE {own} <> {of_utc}
"""


def with_moved(range_: Range, months: BillingMonths, *, prefix: str = "") -> str:
    """The definitions of `{prefix}stretches` and `{prefix}parts`, for WITH, as far as the range has them.

    A stretch is summed from whole hours; its parts of an hour are read from the bills.
    """
    p = prefix
    has_first, has_last = months.reaches_beyond(range_)
    starts = _BETWEEN.format(prefix=p, own="starts_at", of_utc=f"CAST(:{p}starts_at AS timestamptz)")
    ends = _BETWEEN.format(prefix=p, own="ends_at", of_utc=f"CAST(:{p}ends_at AS timestamptz)").replace(
        "sign(", "-sign("
    )
    return f"""
    {moved_months(p)},
    {p}stretches AS MATERIALIZED (
        SELECT customer_id, sign, from_, to_,
               date_trunc('hour', from_ + interval '1 hour' - interval '1 microsecond', 'UTC') AS first_hour,
               date_trunc('hour', to_, 'UTC') AS last_hour
        FROM ({starts} AND {has_first} UNION ALL {ends} AND {has_last}) AS between_bounds
    ),
    {p}parts AS MATERIALIZED (
        SELECT customer_id, sign, from_, LEAST(first_hour, to_) AS to_ FROM {p}stretches WHERE from_ < first_hour
        UNION ALL
        SELECT customer_id, sign, last_hour, to_ FROM {p}stretches
        WHERE first_hour <= last_hour AND last_hour < to_
    )
    """


def parameters_of(connection: Connection, months: BillingMonths, *, prefix: str = "") -> dict[str, Any]:
    """The parameters of `with_moved`."""
    return {**moved_parameters(connection, months, prefix=prefix), f"{prefix}ends_at": months.in_utc[1]}


def moved_rows(
    *, hourly: Rollup, keys: Callable[[str], str], measures: Sequence[str], only: str, prefix: str = ""
) -> list[str]:
    """Queries of the rows to add: `keys` gives the select list for a time, `measures` are those of the sums.

    `hourly` is a rollup by customer.
    """
    signed = ", ".join(name if name == "0" else f"sign * {name}" for name in measures)
    p = prefix
    hours = [
        f"""
        SELECT {keys("hour")}, {signed} FROM (
            SELECT t.*, s.sign FROM {p}stretches s JOIN {table} t
            ON t.customer_id = s.customer_id AND t.hour >= s.first_hour AND t.hour < s.last_hour
        ) AS between_bounds WHERE {only}
        """
        for table in (hourly.table, "totals_pending")
    ]
    bills = edge_bills(
        within=lambda column: f"{column} >= part.from_ AND {column} < part.to_",
        joined=f"JOIN (SELECT DISTINCT from_, to_ FROM {p}parts) AS part ON true",
        more=", part.from_, part.to_",
    )
    return [
        *hours,
        f"""
        SELECT {keys("at")}, {signed} FROM (
            SELECT b.*, p.sign FROM ({bills}) AS b JOIN {p}parts p USING (customer_id, from_, to_)
        ) AS between_bounds WHERE {only}
        """,
    ]
