"""Keep the rates of invoice lines: with new invoices when a month is closed, and of those that older code made."""

import logging
from collections.abc import Callable, Sequence

from psycopg.errors import QueryCanceled
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from metering.core.errors import MeteringError
from metering.db.engine import transaction, will_pass
from metering.months.invoice import Invoice
from metering.months.line_rates import unexplained
from metering.months.queries.entries import OpenMonth
from metering.months.queries.invoices import get_invoice
from metering.months.queries.line_rates import WithoutRates, invoices_without_rates, sum_line_rates
from metering.months.store.line_rates import add_line_rates, claim_without_rates, record_without_rates

log = logging.getLogger(__name__)

_BATCH = 100


class UnexplainedLineError(MeteringError):
    """The rates of a line do not sum to it. This is a bug; nothing was stored."""


def keep_rates(connection: Connection, invoices: Sequence[Invoice], months: Sequence[OpenMonth]) -> None:
    """Sum the rates of the lines of these invoices from the entries of their months, and keep them.

    Raises:
        UnexplainedLineError: the rates of a line do not sum to it.
    """
    if not invoices:
        return
    sums = sum_line_rates(connection, months)
    found = [(invoice, sums.get((invoice.customer_id, str(invoice.period)), {})) for invoice in invoices]
    for invoice, rates in found:
        for line in invoice.lines:
            left = unexplained(line.sum, rates.get(line.sum.line_key, ()))
            if left:
                raise UnexplainedLineError(
                    f"{invoice.period} of customer {invoice.customer_id!r}: the rates of line"
                    f" {line.sum.line_key!r} leave {left} cents of its {line.sum.usd_cents} cents"
                )
    add_line_rates(connection, found)


def keep_rates_in_time(connection: Connection, invoices: Sequence[Invoice], months: Sequence[OpenMonth]) -> None:
    """The same; where it takes longer than a statement may, the invoices stay without rates, for a worker to add.

    Raises:
        UnexplainedLineError: the rates of a line do not sum to it.
    """
    try:
        with connection.begin_nested():
            keep_rates(connection, invoices, months)
    except DBAPIError as error:
        if not isinstance(error.orig, QueryCanceled):
            raise
        log.warning("rates not kept in time, left to a worker", extra={"invoices": len(invoices)})
        record_without_rates(connection, [(each.customer_id, each.invoice_id) for each in invoices])


def add_missing_rates(*, engine: Engine, may_go_on: Callable[[], bool]) -> int:
    """Keep the rates of invoices that have none, one in a transaction; return how many were added.

    One that fails is logged and left out. Any number of processes can do this.
    """
    added, after = 0, ("", "")
    while may_go_on():
        with transaction(engine) as connection:
            found = invoices_without_rates(connection, after=after, limit=_BATCH)
        if not found:
            break
        for each in found:
            if not may_go_on():
                break
            added += _add(engine, each)
        after = (found[-1].month.customer_id, found[-1].invoice_id)
    return added


def _add(engine: Engine, missing: WithoutRates) -> bool:
    customer_id, invoice_id = missing.month.customer_id, missing.invoice_id
    try:
        with transaction(engine) as connection:
            if not claim_without_rates(connection, customer_id=customer_id, invoice_id=invoice_id):
                return False
            stored = get_invoice(connection, customer_id=customer_id, invoice_id=invoice_id)
            assert stored is not None
            keep_rates(connection, [stored.invoice], [missing.month])
    except (MeteringError, DBAPIError) as error:
        if will_pass(error):
            raise
        details = {"invoice_id": invoice_id, "error": str(error).splitlines()[0]}
        log.error("rates of an invoice not kept", extra=details)
        return False
    return True
