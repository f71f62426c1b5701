"""Invoice runs: that a month is to be closed, for all or for one, and whom it could not be closed for."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, text

from metering.core.period import BillingPeriod
from metering.db.tables import invoice_run_refusals, invoice_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRun:
    """Somebody wants a month closed. `as_of` stands for now where it is given; `force_reason` says why streams
    that may still settle are left to the next month."""

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
    """A new run, or the one under way that wants the same."""
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
    connection.execute(
        insert(invoice_runs).values(run_id=run_id, requested_by=requested_by, started_at=now, **terms)
    )
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
    """The run that is to be worked on: of those not finished, the one of the earliest month."""
    row = connection.execute(_OPEN).first()
    return _run(row) if row is not None else None


def finish_run(connection: Connection, run_id: str, *, now: datetime) -> bool:
    """Say that nothing is left of the run; whether this was the one to say it."""
    done = connection.execute(
        text("UPDATE invoice_runs SET finished_at = :now WHERE run_id = :run_id AND finished_at IS NULL"),
        {"run_id": run_id, "now": now},
    )
    return done.rowcount == 1


def refuse_customers(
    connection: Connection, *, run_id: str, result: str, details: Mapping[str, str], now: datetime
) -> None:
    """Record whose month the run does not close, by customer, and why."""
    if details:
        connection.execute(
            insert(invoice_run_refusals),
            [
                {
                    "customer_id": customer_id,
                    "run_id": run_id,
                    "result": result,
                    "detail": detail,
                    "refused_at": now,
                }
                for customer_id, detail in details.items()
            ],
        )


def _run(row: object) -> InvoiceRun:
    given = dict(row._mapping)  # type: ignore[attr-defined]
    return InvoiceRun(**{**given, "period": BillingPeriod.parse(given["period"])})
