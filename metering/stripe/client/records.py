"""What Stripe answers, as far as it is looked at: parsed at the edge into records of ours."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from metering.stripe.snapshot import Snapshot, SnapshotLine, StripeCustomer, StripeEvent, StripeStatus


def parse_snapshot(document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Snapshot:
    """An invoice with its line items, of which the document itself may have only the first."""
    return Snapshot(
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
        lines=tuple(map(_line, lines)),
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
    of_invoice = about.get("object") == "credit_note"
    return StripeEvent(
        stripe_event_id=document["id"],
        type=document["type"],
        stripe_object_id=_id_of(about.get("invoice") if of_invoice else about.get("id")),
        created_at=datetime.fromtimestamp(document["created"], UTC),
    )


def _line(document: Mapping[str, Any]) -> SnapshotLine:
    return SnapshotLine(
        stripe_line_id=document["id"],
        amount=document["amount"],
        description=document.get("description"),
        metadata=dict(document.get("metadata") or {}),
    )


def _id_of(value: Any) -> str | None:
    """An object's id, which is all that there is unless the object was expanded."""
    found: str | None = value["id"] if isinstance(value, Mapping) else value
    return found
