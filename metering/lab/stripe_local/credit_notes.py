"""Credit notes: they take back a part of a final invoice, whose own sums stay as they were."""

from metering.lab.stripe_local.credit_note_lines import lines_of_note
from metering.lab.stripe_local.customers import add_to_balance
from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.events import record_event
from metering.lab.stripe_local.invoices import settle
from metering.lab.stripe_local.listing import list_page
from metering.lab.stripe_local.metadata import merge_metadata
from metering.lab.stripe_local.store import Document, Store

_SETTLEMENTS = ("credit_amount", "refund_amount", "out_of_band_amount")


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
        settle(store, invoice, paid=0)
    return note


def preview(store: Store, params: Document) -> Document:
    """`GET /v1/credit_notes/preview`: what would come of it; nothing does."""
    invoice = store.get("invoice", params["invoice"], param="invoice")
    note, lines = _new(store, invoice, params)
    listed = {"object": "list", "data": lines, "has_more": False, "url": f"/v1/credit_notes/{note['id']}/lines"}
    return {**note, "lines": listed}


def _new(store: Store, invoice: Document, params: Document) -> tuple[Document, list[Document]]:
    """A note and its lines, not saved yet.

    Raises:
        RefusedError: the invoice cannot be credited so.
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
    _check_settlement(invoice, amount, params)
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


def _check_settlement(invoice: Document, amount: int, params: Document) -> None:
    """What is to be paid becomes less; of what was paid, it is said where it goes."""
    given = sum(params.get(name, 0) for name in _SETTLEMENTS)
    if invoice["status"] != "paid":
        if amount > invoice["amount_remaining"]:
            raise RefusedError(
                f"Only {invoice['amount_remaining']} of the invoice remain to be paid.", param="amount"
            )
        if given:
            raise RefusedError(f"{', '.join(_SETTLEMENTS)} are of invoices that were paid.", param="credit_amount")
    elif given != amount:
        raise RefusedError(
            f"The sum of {', '.join(_SETTLEMENTS)} ({given}) must equal the credit note's amount ({amount}).",
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
