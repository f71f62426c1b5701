"""The port: what is asked of Stripe, in our words. Writes take an idempotency key and the exact parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from metering.months.store.invoices import StoredInvoice
from metering.stripe.push import WantedInvoice, mark_of
from metering.stripe.snapshot import Snapshot, StripeCustomer

# As Stripe's request descriptions have them: JSON-like, amounts in whole cents, times in seconds since 1970.
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a write answered; `replayed` when it is the answer that the same key got before."""

    stripe_object_id: str
    snapshot: Snapshot | None
    request_id: str | None
    replayed: bool


class StripePort(Protocol):
    """Every call raises a `StripeError`; each is bounded in time, and is never sent twice by itself."""

    def list_invoices(
        self, *, stripe_customer_id: str | None, created_from: datetime, created_to: datetime | None = None
    ) -> Iterator[Snapshot]:
        """Invoices that were created from then on, of a customer or of all, newest first."""

    def get_invoice(self, *, stripe_invoice_id: str) -> Snapshot | None:
        """One invoice; None when there is none, or it was deleted."""

    def create_invoice(self, *, parameters: Parameters, idempotency_key: str) -> Written:
        """A new draft."""

    def change_lines(
        self, *, stripe_invoice_id: str, change: str, parameters: Parameters, idempotency_key: str
    ) -> Written:
        """`add_lines`, `update_lines` or `remove_lines` of a draft."""

    def update_invoice(self, *, stripe_invoice_id: str, parameters: Parameters, idempotency_key: str) -> Written:
        """Change what can be changed of an invoice."""

    def finalize_invoice(self, *, stripe_invoice_id: str, parameters: Parameters, idempotency_key: str) -> Written:
        """From draft to open, or paid."""

    def delete_draft(self, *, stripe_invoice_id: str) -> None:
        """Delete a draft; fine when it is gone already."""

    def create_credit_note(self, *, parameters: Parameters, idempotency_key: str) -> Written:
        """Take back a part of a finalized invoice."""

    def list_customers(self) -> Iterator[StripeCustomer]:
        """All customers, newest first."""

    def create_customer(self, *, parameters: Parameters, idempotency_key: str) -> StripeCustomer:
        """A new customer."""

    def check(self) -> Sequence[str]:
        """Ask for the balance, to see that the key works; what is worth knowing about it."""


# Our clock and Stripe's may differ; what bears our mark was not there before our invoice was.
_CLOCKS = timedelta(days=2)


def find_snapshots(
    port: StripePort, stored: StoredInvoice, wanted: WantedInvoice, stripe_invoice_id: str | None
) -> list[Snapshot]:
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
