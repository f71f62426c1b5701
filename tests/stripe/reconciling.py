"""Reconciling, and what is changed at Stripe so that it finds something."""

from decimal import Decimal

import stripe

from metering.stripe.reconcile import Reconciliation, reconcile
from metering.stripe.repair_drift import Caps
from tests.builders import Months

CAPS = Caps(cents=10_000, share=Decimal("0.05"))


def look(months: Months, *, repair: bool = False, caps: Caps = CAPS) -> Reconciliation:
    return reconcile(
        pusher=months.pusher(),
        period=None,
        repair=repair,
        caps=caps,
        requested_by="test",
    )


def invoice_of(months: Months) -> stripe.Invoice:
    return months.stripe.client.v1.invoices.list().data[0]


def edit_line(months: Months, invoice: stripe.Invoice, amount: int) -> None:
    months.stripe.control.edit(invoice.lines.data[0].id, {"amount": amount}, recompute=True)
