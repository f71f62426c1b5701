"""Make a usage statement: the customer's document about an invoice."""

from sqlalchemy import Connection

from metering.customers.store import name_of
from metering.months.queries.line_rates import kept_line_rates
from metering.months.statements.usage_statement import Issuer, UsageStatement, usage_statement
from metering.months.store.invoices import StoredInvoice
from metering.stripe.bill_to import BillTo
from metering.stripe.queries.pushes import push_views


def make_statement(connection: Connection, *, stored: StoredInvoice, issuer: Issuer) -> UsageStatement:
    """The statement of an invoice, with the current Stripe invoice number.

    The name, the address and the tax ids are those that the invoice at Stripe has. Before it is there, and where
    Stripe has no name, the customer has its current name.
    """
    customer_id, invoice_id = stored.invoice.customer_id, stored.invoice.invoice_id
    push = push_views(connection, [(customer_id, invoice_id)])[invoice_id]
    bill_to = push.bill_to or BillTo()
    return usage_statement(
        stored=stored,
        rates=kept_line_rates(connection, [(customer_id, invoice_id)])[invoice_id],
        issuer=issuer,
        customer_name=bill_to.name or name_of(connection, customer_id=customer_id),
        customer_address=bill_to.lines,
        stripe_number=push.stripe_number,
    )
