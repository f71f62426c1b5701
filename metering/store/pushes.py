"""Pushes: one row an invoice, how far Stripe has it. Claimed with a lease, and recorded under its fence."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from metering.domain.invoice import Invoice
from metering.domain.push import PushState
from metering.store.copying import copy_rows, moment

_COPY = "COPY invoice_pushes (customer_id, invoice_id, period, state, due_at, changed_at) FROM STDIN"


def add_pushes(connection: Connection, invoices: Iterable[Invoice], *, now: datetime) -> None:
    """Have new invoices pushed; one that bills nothing is deferred."""
    at = moment(now)
    copy_rows(
        connection,
        _COPY,
        (
            (
                invoice.customer_id,
                invoice.invoice_id,
                str(invoice.period),
                (PushState.DEFERRED if invoice.deferred else PushState.PENDING).value,
                None if invoice.deferred else at,
                at,
            )
            for invoice in invoices
        ),
    )
