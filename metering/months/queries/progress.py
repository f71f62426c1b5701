"""Queries for the progress of an invoice run: how many customers are closed, and whom the run refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


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
