"""The lines of a credit note: of the invoice's lines, or of its own; together they are its amount."""

from decimal import Decimal
from typing import Any

from metering.lab.stripe_local.errors import RefusedError, invalid
from metering.lab.stripe_local.listing import list_page
from metering.lab.stripe_local.pricing import price
from metering.lab.stripe_local.store import Document, Store


def lines_of_note(store: Store, invoice: Document, note_id: str, params: Document) -> list[Document]:
    """Those of a new note, not saved yet; an amount alone is one line of its own.

    Raises:
        RefusedError: there is neither, they do not add up, or one is not of the invoice.
    """
    given = params.get("lines", [])
    if not given and "amount" not in params:
        raise RefusedError("A credit note needs an amount or lines.", param="amount")
    if not given:
        whole = {"type": "custom_line_item", "amount": params["amount"], "description": params.get("memo")}
        return [_line(store, note_id, whole, params["amount"], 1)]
    lines = [_given_line(store, invoice, note_id, each) for each in given]
    total = sum(line["amount"] for line in lines)
    if params.get("amount", total) != total:
        raise RefusedError(f"The lines come to {total}, not to the amount of {params['amount']}.", param="amount")
    return lines


def _given_line(store: Store, invoice: Document, note_id: str, given: Document) -> Document:
    if (given["type"] == "invoice_line_item") != ("invoice_line_item" in given):
        raise invalid(
            "invoice_line_item is for lines of the type invoice_line_item, and needed there.",
            code="parameter_missing",
            param="lines",
        )
    if given["type"] == "custom_line_item":
        amount, quantity = _come_to(given)
        return _line(store, note_id, given, amount, quantity)
    of = store.get("line_item", given["invoice_line_item"], param="lines")
    if of["invoice"] != invoice["id"]:
        raise RefusedError(f"No such line item: '{of['id']}'", code="resource_missing", param="lines")
    whole = {"unit_amount_decimal": of["pricing"]["unit_amount_decimal"], "quantity": of["quantity"]}
    amount, quantity = _come_to(given if "amount" in given else {**whole, **given})
    if amount > of["amount"]:
        raise RefusedError(f"The line {of['id']} is {of['amount']}: no more of it can be credited.", param="lines")
    return _line(store, note_id, {"description": of["description"], **given}, amount, quantity)


def _come_to(given: Document) -> tuple[int, Any]:
    units = {"unit_amount_decimal": str(Decimal(given["unit_amount"]))} if "unit_amount" in given else {}
    priced = price({**given, **units}, param="lines")
    return priced["amount"], priced["quantity"]


def _line(store: Store, note_id: str, given: Document, amount: int, quantity: Any) -> Document:
    return {
        "id": store.new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "credit_note": note_id,
        "description": given.get("description"),
        "invoice_line_item": given.get("invoice_line_item"),
        "livemode": False,
        "metadata": given.get("metadata", {}),
        "quantity": quantity,
        "type": given["type"],
    }


def list_all(store: Store, note_id: str, params: Document) -> Document:
    """`GET /v1/credit_notes/{credit_note}/lines`."""
    store.get("credit_note", note_id, param="credit_note")
    url = f"/v1/credit_notes/{note_id}/lines"
    within = {"credit_note": note_id}
    return list_page(store, "credit_note_line_item", params, url=url, within=within, oldest_first=True)
