"""The lines of drafts: added, updated, removed; and the invoice's sums, which follow from them."""

from typing import Any

from metering.stripe_local.errors import RefusedError
from metering.stripe_local.events import record_event
from metering.stripe_local.metadata import merge_metadata
from metering.stripe_local.store import Document, Store, page

_MAX_LINES, _MAX_LINES_A_CALL = 250, 100


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
    return store.where("line_item", invoice=invoice_id)[::-1]


def add(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/add_lines`."""
    invoice = draft_of(store, invoice_id)
    given = _bounded(params["lines"])
    if len(lines_of(store, invoice_id)) + len(given) > _MAX_LINES:
        raise RefusedError(f"An invoice has at most {_MAX_LINES} lines.", param="lines")
    for each in given:
        store.save(_new_line(store, invoice, each))
    return _changed(store, invoice, params)


def update(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/update_lines`."""
    invoice = draft_of(store, invoice_id)
    given = _bounded(params["lines"])
    lines = [_line_of(store, invoice_id, each["id"]) for each in given]
    for line, each in zip(lines, given, strict=True):
        line |= {name: each[name] for name in ("description", "period", "discountable") if name in each}
        if "amount" in each or "price_data" in each:
            line["amount"] = line["subtotal"] = _amount(each, line["quantity"])
        line["metadata"] = merge_metadata(line["metadata"], each.get("metadata"))
        store.save(line)
    return _changed(store, invoice, params)


def remove(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/remove_lines`; what is unassigned is a pending item again."""
    invoice = draft_of(store, invoice_id)
    for each in _bounded(params["lines"]):
        line = _line_of(store, invoice_id, each["id"])
        item_id = line["parent"]["invoice_item_details"]["invoice_item"]
        item = store.find("invoiceitem", item_id)
        if item is not None and each["behavior"] == "unassign":
            item["invoice"] = None
            store.save(item)
        elif item is not None:
            store.remove(item_id)
        store.remove(line["id"])
    return _changed(store, invoice, params)


def list_all(store: Store, invoice_id: str, params: Document) -> Document:
    """`GET /v1/invoices/{invoice}/lines`."""
    store.get("invoice", invoice_id, param="invoice")
    return page(lines_of(store, invoice_id), params, url=f"/v1/invoices/{invoice_id}/lines")


def sum_up(store: Store, invoice: Document) -> Document:
    """Make the invoice's sums those of its lines."""
    subtotal = sum(line["amount"] for line in lines_of(store, invoice["id"]))
    for name in ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"):
        invoice[name] = subtotal
    invoice["amount_due"] = invoice["amount_remaining"] = max(subtotal, 0)
    return store.save(invoice)


def attach_item(store: Store, invoice: Document, item: Document) -> None:
    """Put a pending invoice item on a draft."""
    line = _new_line(store, invoice, item)
    line["parent"]["invoice_item_details"]["invoice_item"] = item["id"]
    store.save(line)
    item["invoice"] = invoice["id"]
    store.save(item)


def _bounded(lines: list[Document]) -> list[Document]:
    if not 1 <= len(lines) <= _MAX_LINES_A_CALL:
        raise RefusedError(f"lines: from 1 to {_MAX_LINES_A_CALL} in a call.", param="lines")
    return lines


def _line_of(store: Store, invoice_id: str, line_id: str) -> Document:
    line = store.get("line_item", line_id, param="lines")
    if line["invoice"] != invoice_id:
        raise RefusedError(f"No such line item: '{line_id}'", code="resource_missing", param="lines")
    return line


def _new_line(store: Store, invoice: Document, given: Document) -> Document:
    now = store.now()
    return {
        "id": store.new_id("il"),
        "object": "line_item",
        "amount": _amount(given, given.get("quantity", 1)),
        "currency": invoice["currency"],
        "description": given.get("description"),
        "discountable": given.get("discountable", True),
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": merge_metadata({}, given.get("metadata")),
        "parent": {
            "type": "invoice_item_details",
            "invoice_item_details": {"invoice_item": store.new_id("ii"), "proration": False},
        },
        "period": given.get("period") or {"start": now, "end": now},
        "quantity": given.get("quantity", 1),
        "subtotal": _amount(given, given.get("quantity", 1)),
    }


def _amount(given: Document, quantity: int) -> int:
    if "amount" in given:
        amount: int = given["amount"]
        return amount
    price: Any = given.get("price_data", {}).get("unit_amount")
    if price is None:
        raise RefusedError("A line needs an amount, or price_data with a unit_amount.", param="lines")
    return int(price) * quantity


def _changed(store: Store, invoice: Document, params: Document) -> Document:
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("invoice_metadata"))
    sum_up(store, invoice)
    record_event(store, "invoice.updated", invoice)
    return invoice
