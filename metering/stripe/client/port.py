"""The port: the calls to Stripe that the service makes. A write takes its idempotency key and exact parameters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from metering.months.store.invoices import StoredInvoice
from metering.stripe.push import WantedInvoice, mark_of
from metering.stripe.snapshot import Snapshot, StripeCustomer

# Parameters as in Stripe's API: JSON-like, amounts in whole cents, times in seconds since 1970.
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The answer to a write. `replayed` means that it repeats the earlier answer to the same idempotency key."""

    stripe_object_id: str
    snapshot: Snapshot | None
    request_id: str | None
    replayed: bool


class StripePort(Protocol):
    """Every call may raise a `StripeError`. Each has a timeout, and is sent again only if it was throttled."""

    def list_invoices(self, *, stripe_customer_id: str | None, created_from: datetime) -> Iterator[Snapshot]:
        """Invoices created at `created_from` or later, of a customer or of all (None), newest first.

        Of a customer they are complete also on a test clock, whose time is not ours. The list of all leaves out
        invoices on test clocks.
        """

    def get_invoice(self, *, stripe_invoice_id: str) -> Snapshot | None:
        """One invoice; None when it does not exist or was deleted."""

    def create_invoice(self, *, parameters: Parameters, idempotency_key: str) -> Written:
        """Create a draft."""

    def change_lines(
        self, *, stripe_invoice_id: str, change: str, parameters: Parameters, idempotency_key: str
    ) -> Written:
        """Change the lines of a draft; `change` is `add_lines`, `update_lines` or `remove_lines`."""

    def finalize_invoice(self, *, stripe_invoice_id: str, parameters: Parameters, idempotency_key: str) -> Written:
        """Finalize a draft: it becomes open or paid."""

    def delete_draft(self, *, stripe_invoice_id: str) -> None:
        """Delete a draft; nothing happens when it no longer exists."""

    def create_credit_note(self, *, parameters: Parameters, idempotency_key: str) -> Written:
        """Credit a part of a finalized invoice."""

    def list_customers(self) -> Iterator[StripeCustomer]:
        """All customers, newest first."""

    def create_customer(self, *, parameters: Parameters, idempotency_key: str) -> StripeCustomer:
        """Create a customer."""


# How far our clock and Stripe's may differ.
CLOCK_SKEW = timedelta(days=2)


def find_snapshots(
    port: StripePort,
    stored: StoredInvoice,
    wanted: WantedInvoice,
    stripe_invoice_id: str | None,
    *,
    former_customer_id: str | None = None,
) -> list[Snapshot]:
    """Stripe's invoices with the mark of our invoice, and the one with `stripe_invoice_id` if it exists.

    Lists the customer's invoices, because Stripe's search lags behind; also those of a former Stripe customer, to
    which it may have been written before the customer was linked anew.
    """
    listed = marked_snapshots(port, stored, wanted)
    if former_customer_id is not None and former_customer_id != wanted.stripe_customer_id:
        listed += marked_snapshots(port, stored, replace(wanted, stripe_customer_id=former_customer_id))
    found = {each.stripe_invoice_id: each for each in listed if mark_of(each) == wanted.mark}
    if stripe_invoice_id is not None and stripe_invoice_id not in found:
        known = port.get_invoice(stripe_invoice_id=stripe_invoice_id)
        if known is not None:
            found[known.stripe_invoice_id] = known
    return list(found.values())


def marked_snapshots(port: StripePort, stored: StoredInvoice, wanted: WantedInvoice) -> list[Snapshot]:
    """The customer's invoices at Stripe with the mark of our invoice, or of one of its adjustment invoices."""
    listed = port.list_invoices(stripe_customer_id=wanted.stripe_customer_id, created_from=since_of(stored))
    ours = (wanted.mark.environment, wanted.mark.invoice_id)
    return [
        each
        for each in listed
        if (mark := mark_of(each)) is not None and (mark.environment, mark.invoice_id) == ours
    ]


def since_of(stored: StoredInvoice) -> datetime:
    """A time before which Stripe cannot have created an invoice with our invoice's mark.

    That is the end of its month, not our own creation: in a database that was restored from a backup, the month
    may have been closed again, long after the invoice was pushed.
    """
    return min(stored.created_at, stored.closed.ends_at) - CLOCK_SKEW
