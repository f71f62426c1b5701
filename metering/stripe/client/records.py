"""Parsers that turn Stripe's JSON documents into our records."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from metering.stripe.bill_to import Address, BillTo, TaxId
from metering.stripe.snapshot import Snapshot, SnapshotLine, StripeCustomer, StripeEvent, StripeStatus


def parse_snapshot(document: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Snapshot:
    """An invoice document and all of its line items (the document may hold only the first) as a snapshot."""
    transitions = document.get("status_transitions") or {}
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
        finalized_at=_moment(transitions.get("finalized_at")),
        due_at=_moment(document.get("due_date")),
        paid_at=_moment(transitions.get("paid_at")),
        bill_to=_bill_to(document),
    )


_ADDRESS = ("line1", "line2", "postal_code", "city", "state", "country")


def _bill_to(document: Mapping[str, Any]) -> BillTo:
    """What an invoice itself says of its customer: Stripe keeps it from the finalization on."""
    address = document.get("customer_address")
    return BillTo(
        name=document.get("customer_name") or None,
        address=Address(**{name: address.get(name) or None for name in _ADDRESS}) if address else None,
        tax_ids=tuple(
            TaxId(type=each["type"], value=each["value"])
            for each in document.get("customer_tax_ids") or []
            if each.get("value")
        ),
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
    """An event document as a record. For a credit note, `stripe_object_id` is the id of its invoice.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: Stripe cannot have sent it.
    """
    about = document["data"]["object"]
    of_invoice = about.get("object") == "credit_note"
    object_id = _id_of(about.get("invoice") if of_invoice else about.get("id"))
    return StripeEvent(
        stripe_event_id=_name(document["id"]),
        type=_name(document["type"]),
        stripe_object_id=None if object_id is None else _name(object_id),
        created_at=_time(document["created"]),
    )


# Stripe's ids and types are shorter, and plain ASCII.
_NAME = re.compile(r"[!-~]{1,255}")
# Stripe did not exist before; the last second of the year 9998 is the latest that all readers of times take.
_FIRST_SECOND, _LAST_SECOND = 1_262_304_000, 253_370_764_799


def _name(value: object) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError("an id or type is not one of Stripe's")
    return value


def _time(value: object) -> datetime:
    if type(value) is not int or not _FIRST_SECOND <= value <= _LAST_SECOND:
        raise ValueError("`created` is not a time in seconds")
    return datetime.fromtimestamp(value, UTC)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


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
