"""What Stripe answers, as far as it is looked at: frozen records, parsed at the edge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class StripeStatus(StrEnum):
    """Where Stripe has an invoice."""

    DRAFT = "draft"
    OPEN = "open"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeLine:
    """A line of an invoice at Stripe, in whole cents."""

    stripe_line_id: str
    amount: int
    description: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeInvoice:
    """An invoice at Stripe, with all of its lines. Amounts are whole cents of `currency`.

    `credited` is what credit notes took back; `subtotal` stays as it was.
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
    lines: tuple[StripeLine, ...]

    @property
    def finalized(self) -> bool:
        """Whether it can no longer be changed."""
        return self.status is not StripeStatus.DRAFT


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeCustomer:
    """A customer at Stripe."""

    stripe_customer_id: str
    email: str | None
    name: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeEvent:
    """Something that Stripe told happened, and to which object."""

    stripe_event_id: str
    type: str
    object_id: str | None
    created_at: datetime


def parse_line(document: Mapping[str, Any]) -> StripeLine:
    """A line item."""
    return StripeLine(
        stripe_line_id=document["id"],
        amount=document["amount"],
        description=document.get("description"),
        metadata=dict(document.get("metadata") or {}),
    )


def parse_invoice(document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> StripeInvoice:
    """An invoice with its line items, of which the document itself may have only the first."""
    return StripeInvoice(
        stripe_invoice_id=document["id"],
        stripe_customer_id=_id_of(document.get("customer")) or "",
        status=StripeStatus(document["status"]),
        currency=document["currency"],
        subtotal=document["subtotal"],
        credited=(document.get("pre_payment_credit_notes_amount") or 0)
        + (document.get("post_payment_credit_notes_amount") or 0),
        number=document.get("number"),
        description=document.get("description"),
        metadata=dict(document.get("metadata") or {}),
        created_at=datetime.fromtimestamp(document["created"], UTC),
        url=document.get("hosted_invoice_url"),
        lines=tuple(map(parse_line, lines)),
    )


def parse_customer(document: Mapping[str, Any]) -> StripeCustomer:
    """A customer."""
    return StripeCustomer(
        stripe_customer_id=document["id"],
        email=document.get("email"),
        name=document.get("name"),
        metadata=dict(document.get("metadata") or {}),
    )


def parse_event(document: Mapping[str, Any]) -> StripeEvent:
    """An event; of a credit note, the object is its invoice."""
    about = document["data"]["object"]
    invoice = about.get("invoice") if about.get("object") == "credit_note" else about.get("id")
    return StripeEvent(
        stripe_event_id=document["id"],
        type=document["type"],
        object_id=_id_of(invoice),
        created_at=datetime.fromtimestamp(document["created"], UTC),
    )


def _id_of(value: Any) -> str | None:
    """An object's id, which is all that there is unless the object was expanded."""
    found: str | None = value["id"] if isinstance(value, Mapping) else value
    return found
