"""Credit notes: each takes back a part of a final invoice, whose own sums do not change."""

from decimal import Decimal
from typing import Any

from metering.lab.stripe_local.customers import add_to_balance
from metering.lab.stripe_local.errors import RefusedError, invalid
from metering.lab.stripe_local.invoice_lines import price
from metering.lab.stripe_local.invoices import mark_paid
from metering.lab.stripe_local.objects import list_page, merge_metadata, record_event
from metering.lab.stripe_local.store import Document, Store

_PAID_BACK = ("credit_amount", "refund_amount", "out_of_band_amount")


def create(store: Store, params: Document) -> Document:
    """`POST /v1/credit_notes`."""
    invoice = store.get("invoice", params["invoice"], param="invoice")
    note, lines = _new(store, invoice, params)
    if note["type"] == "pre_payment":
        invoice["pre_payment_credit_notes_amount"] += note["amount"]
        invoice["amount_due"] -= note["amount"]
        invoice["amount_remaining"] -= note["amount"]
    else:
        invoice["post_payment_credit_notes_amount"] += note["amount"]
    store.save(invoice)
    if credited := params.get("credit_amount", 0):
        customer = store.get("customer", invoice["customer"], param="customer")
        add_to_balance(store, customer, -credited, invoice=invoice["id"], type="credit_note")
    for line in lines:
        store.save(line)
    store.save(note)
    record_event(store, "credit_note.created", note)
    if note["type"] == "pre_payment" and invoice["amount_remaining"] == 0:
        mark_paid(store, invoice, paid=0)
    return note


def preview(store: Store, params: Document) -> Document:
    """`GET /v1/credit_notes/preview`: the note that a creation would make; nothing is saved."""
    invoice = store.get("invoice", params["invoice"], param="invoice")
    note, lines = _new(store, invoice, params)
    listed = {"object": "list", "data": lines, "has_more": False, "url": f"/v1/credit_notes/{note['id']}/lines"}
    return {**note, "lines": listed}


def _new(store: Store, invoice: Document, params: Document) -> tuple[Document, list[Document]]:
    """A note and its lines, which the caller saves.

    Raises:
        RefusedError: the invoice cannot be credited by this amount or in this state.
    """
    if invoice["status"] not in ("open", "paid", "uncollectible"):
        raise RefusedError(
            f"Invoices with status {invoice['status']} can not be credited.",
            code="invoice_not_editable",
            param="invoice",
        )
    note_id = store.new_id("cn")
    lines = lines_of_note(store, invoice, note_id, params)
    amount = sum(line["amount"] for line in lines)
    before_payment = invoice["status"] != "paid"
    _check_amount(invoice, amount)
    _check_payment(invoice, amount, params)
    number = store.count("credit_note", invoice=invoice["id"]) + 1
    note = {
        "id": note_id,
        "object": "credit_note",
        "amount": amount,
        "created": store.now(),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "invoice": invoice["id"],
        "livemode": False,
        "memo": params.get("memo"),
        "metadata": merge_metadata({}, params.get("metadata")),
        "number": f"{invoice['number']}-CN-{number:02d}",
        "reason": params.get("reason"),
        "status": "issued",
        "subtotal": amount,
        "total": amount,
        "type": "pre_payment" if before_payment else "post_payment",
        "voided_at": None,
    }
    return note, lines


def _check_amount(invoice: Document, amount: int) -> None:
    credited = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if not 0 < amount <= invoice["total"] - credited:
        raise RefusedError(
            f"The amount must be above 0 and at most {invoice['total'] - credited}.", param="amount"
        )


def _check_payment(invoice: Document, amount: int, params: Document) -> None:
    """A note lowers the remaining amount of an open invoice; for a paid one it says how money goes back."""
    given = sum(params.get(name, 0) for name in _PAID_BACK)
    if invoice["status"] != "paid":
        if amount > invoice["amount_remaining"]:
            raise RefusedError(f"The invoice has only {invoice['amount_remaining']} remaining.", param="amount")
        if given:
            raise RefusedError(f"{', '.join(_PAID_BACK)} are only for paid invoices.", param="credit_amount")
    elif given != amount:
        raise RefusedError(
            f"The sum of {', '.join(_PAID_BACK)} ({given}) must equal the credit note's amount ({amount}).",
            param="amount",
        )


def update(store: Store, note_id: str, params: Document) -> Document:
    """`POST /v1/credit_notes/{id}`: its memo and metadata."""
    note = store.get("credit_note", note_id)
    note["memo"] = params.get("memo", note["memo"])
    note["metadata"] = merge_metadata(note["metadata"], params.get("metadata"))
    store.save(note)
    record_event(store, "credit_note.updated", note)
    return note


def void(store: Store, note_id: str) -> Document:
    """`POST /v1/credit_notes/{id}/void`: only while its invoice is open."""
    note = store.get("credit_note", note_id)
    invoice = store.get("invoice", note["invoice"], param="invoice")
    if note["status"] == "void" or invoice["status"] != "open":
        raise RefusedError("Only an issued credit note of an open invoice can be voided.", param="id")
    note |= {"status": "void", "voided_at": store.now()}
    invoice["pre_payment_credit_notes_amount"] -= note["amount"]
    invoice["amount_due"] += note["amount"]
    invoice["amount_remaining"] += note["amount"]
    store.save(invoice)
    store.save(note)
    record_event(store, "credit_note.voided", note)
    return note


def read(store: Store, note_id: str) -> Document:
    """`GET /v1/credit_notes/{id}`."""
    return store.get("credit_note", note_id)


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/credit_notes`."""
    return list_page(store, "credit_note", params, url="/v1/credit_notes", filters=("invoice", "customer"))


def lines_of_note(store: Store, invoice: Document, note_id: str, params: Document) -> list[Document]:
    """The lines of a new note, which the caller saves; an amount alone makes one line.

    Raises:
        RefusedError: there are neither lines nor an amount, they do not add up, or a line is of another invoice.
    """
    given = params.get("lines", [])
    if not given and "amount" not in params:
        raise RefusedError("A credit note needs an amount or lines.", param="amount")
    if not given:
        whole = {"type": "custom_line_item", "amount": params["amount"], "description": params.get("memo")}
        return [_note_line(store, note_id, whole, params["amount"], 1)]
    lines = [_given_line(store, invoice, note_id, each) for each in given]
    total = sum(line["amount"] for line in lines)
    if params.get("amount", total) != total:
        raise RefusedError(f"The lines sum to {total}, the amount is {params['amount']}.", param="amount")
    return lines


def _given_line(store: Store, invoice: Document, note_id: str, given: Document) -> Document:
    if (given["type"] == "invoice_line_item") != ("invoice_line_item" in given):
        raise invalid(
            "invoice_line_item is required for lines of the type invoice_line_item, and only there.",
            code="parameter_missing",
            param="lines",
        )
    if given["type"] == "custom_line_item":
        amount, quantity = _amount_and_quantity(given)
        return _note_line(store, note_id, given, amount, quantity)
    of = store.get("line_item", given["invoice_line_item"], param="lines")
    if of["invoice"] != invoice["id"]:
        raise RefusedError(f"No such line item: '{of['id']}'", code="resource_missing", param="lines")
    whole = {"unit_amount_decimal": of["pricing"]["unit_amount_decimal"], "quantity": of["quantity"]}
    amount, quantity = _amount_and_quantity(given if "amount" in given else {**whole, **given})
    if amount > of["amount"]:
        raise RefusedError(f"The line {of['id']} has {of['amount']}: no more can be credited.", param="lines")
    return _note_line(store, note_id, {"description": of["description"], **given}, amount, quantity)


def _amount_and_quantity(given: Document) -> tuple[int, Any]:
    units = {"unit_amount_decimal": str(Decimal(given["unit_amount"]))} if "unit_amount" in given else {}
    priced = price({**given, **units}, param="lines")
    return priced["amount"], priced["quantity"]


def _note_line(store: Store, note_id: str, given: Document, amount: int, quantity: Any) -> Document:
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


def list_lines(store: Store, note_id: str, params: Document) -> Document:
    """`GET /v1/credit_notes/{credit_note}/lines`."""
    store.get("credit_note", note_id, param="credit_note")
    url = f"/v1/credit_notes/{note_id}/lines"
    within = {"credit_note": note_id}
    return list_page(store, "credit_note_line_item", params, url=url, within=within, oldest_first=True)
