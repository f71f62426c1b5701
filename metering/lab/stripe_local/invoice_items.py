"""Invoice items: each is pending for a customer's next invoice, or is a line of one.

The product makes no pending items; a person may.
"""

from metering.lab.stripe_local.errors import RefusedError, invalid
from metering.lab.stripe_local.invoice_lines import (
    add_items,
    change,
    draft_of,
    line_of_item,
    lines_changed,
    new_item,
)
from metering.lab.stripe_local.objects import list_page, record_event
from metering.lab.stripe_local.store import Document, Store


def create(store: Store, params: Document) -> Document:
    """`POST /v1/invoiceitems`: a pending item, or one of a draft."""
    if "customer" not in params:
        raise invalid("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = store.get("customer", params["customer"], param="customer")
    invoice = draft_of(store, params["invoice"]) if "invoice" in params else None
    if invoice is not None and invoice["customer"] != customer["id"]:
        raise RefusedError("The invoice belongs to another customer.", param="invoice")
    currency = params.get("currency") or params.get("price_data", {}).get("currency")
    item = new_item(
        store,
        customer_id=customer["id"],
        currency=currency or (invoice["currency"] if invoice else "usd"),
        given=params,
        param="amount",
    )
    store.save(item)
    record_event(store, "invoiceitem.created", item)
    if invoice is not None:
        add_items(store, invoice, [item])
        lines_changed(store, invoice)
    return item


def read(store: Store, item_id: str) -> Document:
    """`GET /v1/invoiceitems/{invoiceitem}`."""
    return store.get("invoiceitem", item_id, param="invoiceitem")


def update(store: Store, item_id: str, params: Document) -> Document:
    """`POST /v1/invoiceitems/{invoiceitem}`: updates its line and the sums of its draft, too."""
    item = read(store, item_id)
    invoice = _draft(store, item)
    change(store, params, line=line_of_item(store, item), item=item, param="amount")
    if invoice is not None:
        lines_changed(store, invoice)
    return item


def delete(store: Store, item_id: str) -> Document:
    """`DELETE /v1/invoiceitems/{invoiceitem}`: a pending item, or one of a draft."""
    item = read(store, item_id)
    invoice = _draft(store, item)
    line = line_of_item(store, item)
    store.remove(item_id)
    record_event(store, "invoiceitem.deleted", item)
    if line is not None:
        store.remove(line["id"])
    if invoice is not None:
        lines_changed(store, invoice)
    return {"id": item_id, "object": "invoiceitem", "deleted": True}


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/invoiceitems`."""
    return list_page(
        store,
        "invoiceitem",
        params,
        url="/v1/invoiceitems",
        filters=("customer", "invoice"),
        keep=lambda each: (each["invoice"] is None) == params.get("pending", each["invoice"] is None),
    )


def _draft(store: Store, item: Document) -> Document | None:
    """The draft of an item; None for a pending item.

    Raises:
        RefusedError: the invoice is final.
    """
    return draft_of(store, item["invoice"]) if item["invoice"] is not None else None
