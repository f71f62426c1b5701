"""Queries for the progress of an invoice run: how many customers are closed, and whom the run refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseProgress:
    """The customers of a run: how many in all, how many with the month closed, how many refused."""

    customers: int
    closed: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A customer whose month a run did not close. `result` is `unsettled`, `time_zone` or `failed`."""

    customer_id: str
    result: str
    detail: str


_CLOSE_PROGRESS = text(
    """
    SELECT (SELECT count(*) FROM customers WHERE CAST(:only AS text) IS NULL OR customer_id = :only) AS customers,
           (SELECT count(*) FROM billing_periods WHERE period = :period
            AND (CAST(:only AS text) IS NULL OR customer_id = :only)) AS closed,
           (SELECT count(*) FROM invoice_run_refusals WHERE run_id = :run_id) AS refused
    """
)


def close_progress(connection: Connection, *, period: str, run_id: str, only: str | None) -> CloseProgress:
    """The progress of a run for one customer or for all (None)."""
    row = connection.execute(_CLOSE_PROGRESS, {"period": period, "run_id": run_id, "only": only}).one()
    return CloseProgress(**row._mapping)


def list_refusals(connection: Connection, *, run_id: str, limit: int) -> Sequence[Refusal]:
    """Up to `limit` refusals of a run, by customer."""
    query = text(
        "SELECT customer_id, result, detail FROM invoice_run_refusals WHERE run_id = :run_id"
        " ORDER BY customer_id LIMIT :limit"
    )
    return [Refusal(**row._mapping) for row in connection.execute(query, {"run_id": run_id, "limit": limit})]


# By the sums of months in UTC: about as many as have to be read to make the drafts of the open months.
_OPEN_STREAMS = text(
    """
    SELECT t.customer_id, CAST(sum(t.stream_count) AS bigint) AS streams
    FROM (
        SELECT customer_id, month AS at, stream_count FROM totals_monthly_by_customer
        WHERE customer_id = ANY(:customer_ids) AND month <= :month
        UNION ALL
        SELECT customer_id, hour, stream_count FROM totals_pending
        WHERE customer_id = ANY(:customer_ids) AND hour < CAST(:month AS timestamptz) + interval '1 month'
    ) AS t JOIN customers c ON c.customer_id = t.customer_id
    WHERE to_char(t.at, 'YYYY-MM') > c.closed_through
    GROUP BY t.customer_id
    """
)


def open_streams(
    connection: Connection, customer_ids: Sequence[str], *, period: BillingPeriod
) -> Mapping[str, int]:
    """About how many final streams each of these customers has in its open months up to this one."""
    month = period.start(time_zone=UTC_ZONE)
    rows = connection.execute(_OPEN_STREAMS, {"customer_ids": list(customer_ids), "month": month})
    return {row.customer_id: row.streams for row in rows}
