"""Parsers that turn Stripe's JSON documents into our records."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from metering.stripe.snapshot import Snapshot, SnapshotLine, StripeCustomer, StripeEvent, StripeStatus


def parse_snapshot(document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Snapshot:
    """An invoice document and all of its line items (the document may hold only the first) as a snapshot."""
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
    """A customer document as a record."""
    return StripeCustomer(
        stripe_customer_id=document["id"],
        email=document.get("email"),
        name=document.get("name"),
        metadata=dict(document.get("metadata") or {}),
    )


def parse_event(document: Mapping[str, Any]) -> StripeEvent:
    """An event document as a record. For a credit note, `stripe_object_id` is the id of its invoice."""
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
    """The id of an object; Stripe sends the id alone unless the object was expanded."""
    found: str | None = value["id"] if isinstance(value, Mapping) else value
    return found
