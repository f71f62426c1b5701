"""Find an invoice at Stripe: by its mark, in the list of its customer's invoices."""

from datetime import datetime, timedelta

from metering.months.store.invoice_rows import StoredInvoice
from metering.stripe.client.port import StripePort
from metering.stripe.push import WantedInvoice, mark_of
from metering.stripe.snapshot import Statement

# Our clock and Stripe's may differ; what bears our mark was not there before our invoice was.
_CLOCKS = timedelta(days=2)


def find_statements(
    port: StripePort, stored: StoredInvoice, wanted: WantedInvoice, stripe_invoice_id: str | None
) -> list[Statement]:
    """Stripe's invoices with an invoice's mark, by listing its customer's; never by search, which lags."""
    listed = port.list_invoices(stripe_customer_id=wanted.stripe_customer_id, created_from=since_of(stored))
    found = {each.stripe_invoice_id: each for each in listed if mark_of(each) == wanted.mark}
    if stripe_invoice_id is not None and stripe_invoice_id not in found:
        known = port.get_invoice(stripe_invoice_id=stripe_invoice_id)
        if known is not None:
            found[known.stripe_invoice_id] = known
    return list(found.values())


def since_of(stored: StoredInvoice) -> datetime:
    """Nothing at Stripe with an invoice's mark can be older."""
    return stored.created_at - _CLOCKS
