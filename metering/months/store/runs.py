"""SQL that writes invoice runs, and the customers that a run refused to close."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.core.period import BillingPeriod


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRun:
    """A request to close a month, for one customer or for all (None).

    `as_of` replaces the current time where given. With a `force_reason`, streams that may still settle do not hold
    up the close and go to the next month.
    """

    run_id: str
    period: BillingPeriod
    customer_id: str | None
    force_reason: str | None
    requested_by: str
    as_of: datetime | None
    started_at: datetime
    finished_at: datetime | None = None


_BY_TERMS = text(
    """
    SELECT * FROM invoice_runs WHERE finished_at IS NULL AND period = :period
      AND customer_id IS NOT DISTINCT FROM :customer_id AND force_reason IS NOT DISTINCT FROM :force_reason
      AND as_of IS NOT DISTINCT FROM :as_of
    ORDER BY started_at LIMIT 1
    """
)


_START = text(
    """
    INSERT INTO invoice_runs (run_id, period, customer_id, force_reason, requested_by, as_of, started_at)
    VALUES (:run_id, :period, :customer_id, :force_reason, :requested_by, :as_of, :now)
    """
)


def start_run(
    connection: Connection,
    *,
    period: BillingPeriod,
    customer_id: str | None,
    force_reason: str | None,
    requested_by: str,
    as_of: datetime | None,
    now: datetime,
) -> InvoiceRun:
    """Start a run and return it, or return the unfinished run with the same terms."""
    terms = {
        "period": str(period),
        "customer_id": customer_id,
        "force_reason": force_reason,
        "as_of": as_of,
    }
    row = connection.execute(_BY_TERMS, terms).first()
    if row is not None:
        return _run(row)
    run_id = f"run_{secrets.token_hex(8)}"
    connection.execute(_START, {"run_id": run_id, "requested_by": requested_by, "now": now, **terms})
    return InvoiceRun(
        run_id=run_id,
        period=period,
        customer_id=customer_id,
        force_reason=force_reason,
        requested_by=requested_by,
        as_of=as_of,
        started_at=now,
    )


_OPEN = text("SELECT * FROM invoice_runs WHERE finished_at IS NULL ORDER BY period, started_at LIMIT 1")


def open_run(connection: Connection) -> InvoiceRun | None:
    """The unfinished run of the earliest month, or None."""
    row = connection.execute(_OPEN).first()
    return _run(row) if row is not None else None


_FINISH = text("UPDATE invoice_runs SET finished_at = :now WHERE run_id = :run_id AND finished_at IS NULL")


def finish_run(connection: Connection, run_id: str, *, now: datetime) -> bool:
    """Record that the run is finished; False when it was finished before."""
    return connection.execute(_FINISH, {"run_id": run_id, "now": now}).rowcount == 1


# Another process of the run may have refused the customer between the snapshot and the lock of our claim.
_REFUSE = text(
    """
    INSERT INTO invoice_run_refusals (customer_id, run_id, result, detail, refused_at)
    VALUES (:customer_id, :run_id, :result, :detail, :now) ON CONFLICT DO NOTHING
    """
)


def refuse_customers(
    connection: Connection, *, run_id: str, result: str, details: Mapping[str, str], now: datetime
) -> None:
    """Record customers whose month the run does not close, with a detail by customer; `result` is the kind.

    The first refusal of a customer in a run stands.
    """
    if details:
        refused = {"run_id": run_id, "result": result, "now": now}
        rows = [
            {**refused, "customer_id": customer_id, "detail": detail} for customer_id, detail in details.items()
        ]
        connection.execute(_REFUSE, rows)


def _run(row: object) -> InvoiceRun:
    given = dict(row._mapping)  # type: ignore[attr-defined]
    return InvoiceRun(**{**given, "period": BillingPeriod.parse(given["period"])})
