"""How far a month is: how many customers it is closed for, what was invoiced, and where its pushes are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.stripe.push import UNDER_WAY, PushState


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseProgress:
    """Customers of a run: all there are, those whose month is closed, and those whom it refused."""

    customers: int
    closed: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePushes:
    """The invoices of a month that are in a state, and what they bill."""

    state: PushState
    count: int
    billed_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A customer whose month a run did not close."""

    customer_id: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An invoice that does not go on by itself, or has not yet."""

    customer_id: str
    invoice_id: str
    period: str
    state: PushState
    problem: str | None


_CLOSE_PROGRESS = text(
    """
    SELECT (SELECT count(*) FROM customers WHERE CAST(:only AS text) IS NULL OR customer_id = :only) AS customers,
           (SELECT count(*) FROM billing_periods WHERE period = :period
            AND (CAST(:only AS text) IS NULL OR customer_id = :only)) AS closed,
           (SELECT count(*) FROM invoice_run_refusals WHERE run_id = :run_id) AS refused
    """
)


def close_progress(connection: Connection, *, period: str, run_id: str, only: str | None) -> CloseProgress:
    """How far a run is with closing."""
    row = connection.execute(_CLOSE_PROGRESS, {"period": period, "run_id": run_id, "only": only}).one()
    return CloseProgress(**row._mapping)


_PUSHES = text(
    """
    SELECT p.state, count(*) AS count, sum(i.billed_cents) AS billed_cents
    FROM invoice_pushes p JOIN invoices i ON i.customer_id = p.customer_id AND i.invoice_id = p.invoice_id
    WHERE p.period = :period AND (CAST(:only AS text) IS NULL OR p.customer_id = :only)
    GROUP BY p.state ORDER BY p.state
    """
)


def pushes_by_state(connection: Connection, *, period: str, only: str | None) -> Sequence[StatePushes]:
    """Where the invoices of a month are."""
    rows = connection.execute(_PUSHES, {"period": period, "only": only})
    return [
        StatePushes(state=PushState(row.state), count=row._mapping["count"], billed_cents=int(row.billed_cents))
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """How many pushes are not at their end, and when the next of them can be taken up; None when none can."""

    count: int
    next_at: datetime | None


_UNDER_WAY = text(
    """
    SELECT count(*) AS count, min(greatest(due_at, coalesce(lease_until, due_at))) AS next_at
    FROM invoice_pushes WHERE period <= :period AND state = ANY(:under_way)
      AND (CAST(:only AS text) IS NULL OR customer_id = :only)
    """
)


def pushes_under_way(connection: Connection, *, period: str, only: str | None) -> UnderWay:
    """What is left to push of a month, and of those before it."""
    parameters = {"period": period, "only": only, "under_way": sorted(UNDER_WAY)}
    row = connection.execute(_UNDER_WAY, parameters).one()
    return UnderWay(count=row._mapping["count"], next_at=row.next_at)


def list_refusals(connection: Connection, *, run_id: str, limit: int) -> Sequence[Refusal]:
    """Whom a run refused, by customer."""
    query = text(
        "SELECT customer_id, result, detail FROM invoice_run_refusals WHERE run_id = :run_id"
        " ORDER BY customer_id LIMIT :limit"
    )
    return [Refusal(**row._mapping) for row in connection.execute(query, {"run_id": run_id, "limit": limit})]


_WAITING = text(
    """
    SELECT customer_id, invoice_id, period, state, problem FROM invoice_pushes
    WHERE period <= :period AND state NOT IN ('final', 'settled', 'deferred')
      AND (CAST(:only AS text) IS NULL OR customer_id = :only)
    ORDER BY period, customer_id LIMIT :limit
    """
)


def list_waiting(connection: Connection, *, period: str, only: str | None, limit: int) -> Sequence[Waiting]:
    """Invoices up to a month that are not final at Stripe, nor deferred."""
    rows = connection.execute(_WAITING, {"period": period, "only": only, "limit": limit})
    return [Waiting(**{**row._mapping, "state": PushState(row.state)}) for row in rows]


# Of the newest month all states, of those before it only what is not at its end.
_STANDING = text(
    """
    WITH newest AS (SELECT max(period) AS period FROM invoice_pushes)
    SELECT standing.state, count(*) AS count, CAST(sum(i.billed_cents) AS bigint) AS billed_cents FROM (
        (SELECT customer_id, invoice_id, state FROM invoice_pushes
         WHERE period = (SELECT period FROM newest) LIMIT 100000)
        UNION ALL
        (SELECT customer_id, invoice_id, state FROM invoice_pushes
         WHERE period < (SELECT period FROM newest)
           AND state NOT IN ('final', 'settled', 'void', 'uncollectible', 'deferred') LIMIT 100000)
    ) AS standing JOIN invoices i USING (customer_id, invoice_id) GROUP BY standing.state
    """
)


def standing_pushes(connection: Connection) -> Sequence[StatePushes]:
    """By state, the invoices of the newest month, and those of earlier months that are not at their end yet.

    Counts up to 100,000 of each.
    """
    rows = connection.execute(_STANDING)
    return [
        StatePushes(state=PushState(row.state), count=row._mapping["count"], billed_cents=row.billed_cents)
        for row in rows
    ]
