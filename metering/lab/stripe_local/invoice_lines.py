"""The lines of drafts: added, updated, removed, many in a call."""

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.lines import change, draft_of, item_id_of, lines_changed, new_item, put_on
from metering.lab.stripe_local.listing import list_page
from metering.lab.stripe_local.metadata import merge_metadata
from metering.lab.stripe_local.store import Document, Store

_MAX_LINES_A_CALL = 100


def add(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/add_lines`: new ones, or invoice items that are pending."""
    invoice = draft_of(store, invoice_id)
    put_on(store, invoice, [_item(store, invoice, each) for each in _bounded(params["lines"])])
    return _changed(store, invoice, params)


def _item(store: Store, invoice: Document, given: Document) -> Document:
    if "invoice_item" not in given:
        currency = given.get("price_data", {}).get("currency", invoice["currency"])
        return new_item(store, customer_id=invoice["customer"], currency=currency, given=given, param="lines")
    item = store.get("invoiceitem", given["invoice_item"], param="lines")
    if item["invoice"] is not None or item["customer"] != invoice["customer"]:
        raise RefusedError(f"The invoice item {item['id']} does not wait for this customer.", param="lines")
    return item


def update(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/update_lines`."""
    invoice = draft_of(store, invoice_id)
    for each in _bounded(params["lines"]):
        line = _line_of(store, invoice_id, each["id"])
        change(store, each, line=line, item=store.find("invoiceitem", item_id_of(line)), param="lines")
    return _changed(store, invoice, params)


def remove(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/remove_lines`; the item of what is unassigned is pending again."""
    invoice = draft_of(store, invoice_id)
    for each in _bounded(params["lines"]):
        line = _line_of(store, invoice_id, each["id"])
        item = store.find("invoiceitem", item_id_of(line))
        if item is not None and each["behavior"] == "unassign":
            store.save({**item, "invoice": None})
        elif item is not None:
            store.remove(item["id"])
        store.remove(line["id"])
    return _changed(store, invoice, params)


def list_all(store: Store, invoice_id: str, params: Document) -> Document:
    """`GET /v1/invoices/{invoice}/lines`, in the order in which they were added."""
    store.get("invoice", invoice_id, param="invoice")
    url = f"/v1/invoices/{invoice_id}/lines"
    return list_page(store, "line_item", params, url=url, within={"invoice": invoice_id}, oldest_first=True)


def _bounded(lines: list[Document]) -> list[Document]:
    if not 1 <= len(lines) <= _MAX_LINES_A_CALL:
        raise RefusedError(f"lines: from 1 to {_MAX_LINES_A_CALL} in a call.", param="lines")
    return lines


def _line_of(store: Store, invoice_id: str, line_id: str) -> Document:
    line = store.get("line_item", line_id, param="lines")
    if line["invoice"] != invoice_id:
        raise RefusedError(f"No such line item: '{line_id}'", code="resource_missing", param="lines")
    return line


def _changed(store: Store, invoice: Document, params: Document) -> Document:
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("invoice_metadata"))
    return lines_changed(store, invoice)
