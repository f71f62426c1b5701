"""A snapshot: one of Stripe's invoices as it was when fetched. Amounts are whole cents."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.stripe.bill_to import BillTo


class StripeStatus(StrEnum):
    """The status of an invoice at Stripe."""

    DRAFT = "draft"
    OPEN = "open"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotLine:
    """A line of an invoice at Stripe."""

    stripe_line_id: str
    amount: int
    description: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What only Stripe knows of an invoice: when it was finalized, is due and was paid, and who is billed."""

    finalized_at: datetime | None = None
    payment_due_at: datetime | None = None
    paid_at: datetime | None = None
    bill_to: BillTo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An invoice at Stripe with all of its lines.

    `subtotal` is the sum of the lines. `credited` is the sum of its credit notes, which do not change `subtotal`.
    `due_at` is when it has to be paid: Stripe has none for an invoice that it charges to a card. `bill_to` is None
    in snapshots that older code stored.
    """

    stripe_invoice_id: str
    stripe_customer_id: str
    status: StripeStatus
    currency: str
    subtotal: int
    credited: int
    number: str | None
    description: str | None
    metadata: Mapping[str, str]
    created_at: datetime
    url: str | None
    lines: tuple[SnapshotLine, ...]
    finalized_at: datetime | None = None
    due_at: datetime | None = None
    paid_at: datetime | None = None
    bill_to: BillTo | None = None

    @property
    def finalized(self) -> bool:
        """Whether it is no longer a draft, so its lines cannot change."""
        return self.status is not StripeStatus.DRAFT

    @property
    def read_back(self) -> ReadBack:
        """What a push keeps of it."""
        return ReadBack(
            finalized_at=self.finalized_at, payment_due_at=self.due_at, paid_at=self.paid_at, bill_to=self.bill_to
        )

    @property
    def net(self) -> int:
        """What the customer owes by it: the lines minus credits, or 0 when it is void."""
        return 0 if self.status is StripeStatus.VOID else self.subtotal - self.credited


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeEvent:
    """An event that Stripe posted, and the id of the object that it is about."""

    stripe_event_id: str
    type: str
    stripe_object_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeCustomer:
    """A customer at Stripe."""

    stripe_customer_id: str
    email: str | None
    name: str | None
    metadata: Mapping[str, str]
