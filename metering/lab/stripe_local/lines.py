"""Lines and the invoice items that they are of, and the sums of a draft, which follow from its lines."""

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.events import record_event
from metering.lab.stripe_local.metadata import merge_metadata
from metering.lab.stripe_local.pricing import is_priced, price
from metering.lab.stripe_local.store import Document, Store

_MAX_LINES = 250
_PLAIN = ("description", "period", "discountable")


def draft_of(store: Store, invoice_id: str) -> Document:
    """An invoice that can be changed.

    Raises:
        RefusedError: it is not there, or final.
    """
    invoice = store.get("invoice", invoice_id, param="invoice")
    if invoice["status"] != "draft":
        raise RefusedError(
            "This invoice is no longer editable because it has been finalized.",
            code="invoice_not_editable",
            param="invoice",
        )
    return invoice


def lines_of(store: Store, invoice_id: str) -> list[Document]:
    """An invoice's lines, in the order in which they were added."""
    return store.where("line_item", invoice=invoice_id)


def new_item(store: Store, *, customer_id: str, currency: str, given: Document, param: str) -> Document:
    """An invoice item that is pending; it still has to be saved."""
    now = store.now()
    return {
        "id": store.new_id("ii"),
        "object": "invoiceitem",
        "created": now,
        "currency": currency,
        "customer": customer_id,
        "date": now,
        "description": given.get("description"),
        "discountable": given.get("discountable", True),
        "invoice": None,
        "livemode": False,
        "metadata": merge_metadata({}, given.get("metadata")),
        "period": given.get("period") or {"start": now, "end": now},
        **price(given, param=param),
    }


def put_on(store: Store, invoice: Document, items: list[Document]) -> None:
    """Make lines of a draft of invoice items.

    Raises:
        RefusedError: there would be too many, or one is in another currency.
    """
    if store.count("line_item", invoice=invoice["id"]) + len(items) > _MAX_LINES:
        raise RefusedError(f"An invoice has at most {_MAX_LINES} lines.", param="lines")
    for item in items:
        if item["currency"] != invoice["currency"]:
            raise RefusedError(f"An invoice item in {item['currency']} can not be put on it.", param="currency")
        item["invoice"] = invoice["id"]
        store.save(item)
        store.save(_line(store, item))


def _line(store: Store, item: Document) -> Document:
    shared = ("amount", "currency", "description", "discountable", "invoice", "livemode", "metadata", "period")
    details = {"invoice_item": item["id"], "proration": False}
    return {
        "id": store.new_id("il"),
        "object": "line_item",
        **{name: item[name] for name in (*shared, "quantity", "pricing")},
        "parent": {"type": "invoice_item_details", "invoice_item_details": details},
        "subtotal": item["amount"],
    }


def line_of_item(store: Store, item: Document) -> Document | None:
    """The line that an invoice item is on; None while it is pending."""
    if item["invoice"] is None:
        return None
    return next((line for line in lines_of(store, item["invoice"]) if item_id_of(line) == item["id"]), None)


def item_id_of(line: Document) -> str:
    """The invoice item of a line."""
    found: str = line["parent"]["invoice_item_details"]["invoice_item"]
    return found


def change(store: Store, given: Document, *, line: Document | None, item: Document | None, param: str) -> None:
    """Change a line and its item alike, where they are there; a line's own values are what is changed."""
    before = line or item
    assert before is not None
    changes = {name: given[name] for name in _PLAIN if name in given}
    changes["metadata"] = merge_metadata(before["metadata"], given.get("metadata"))
    if is_priced(given):
        changes |= price(given, before, param=param)
    for document in filter(None, (line, item)):
        document |= changes
        if document["object"] == "line_item":
            document["subtotal"] = document["amount"]
        store.save(document)


def sum_up(store: Store, invoice: Document) -> Document:
    """Make the invoice's sums those of its lines."""
    subtotal = sum(line["amount"] for line in lines_of(store, invoice["id"]))
    for name in ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"):
        invoice[name] = subtotal
    invoice["amount_due"] = invoice["amount_remaining"] = max(subtotal, 0)
    return store.save(invoice)


def lines_changed(store: Store, invoice: Document) -> Document:
    """Sum a draft up after its lines were changed, and tell of it."""
    sum_up(store, invoice)
    record_event(store, "invoice.updated", invoice)
    return invoice
