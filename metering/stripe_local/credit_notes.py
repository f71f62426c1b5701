"""Credit notes: they take back a part of a final invoice, whose own sums stay as they were."""

from metering.stripe_local.customers import add_to_balance
from metering.stripe_local.errors import RefusedError
from metering.stripe_local.events import record_event
from metering.stripe_local.invoices import settle
from metering.stripe_local.metadata import merge_metadata
from metering.stripe_local.store import Document, Store, created_within, page

_SETTLEMENTS = ("credit_amount", "refund_amount", "out_of_band_amount")


def create(store: Store, params: Document) -> Document:
    """`POST /v1/credit_notes`."""
    invoice = store.get("invoice", params["invoice"], param="invoice")
    if invoice["status"] not in ("open", "paid", "uncollectible"):
        raise RefusedError(
            f"Invoices with status {invoice['status']} can not be credited.",
            code="invoice_not_editable",
            param="invoice",
        )
    amount = _amount(params)
    credited = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if not 0 < amount <= invoice["total"] - credited:
        raise RefusedError(
            f"The amount must be above 0 and at most {invoice['total'] - credited}.", param="amount"
        )
    before_payment = invoice["status"] != "paid"
    if before_payment:
        _reduce(store, invoice, amount)
    else:
        _give_back(store, invoice, amount, params)
    note = store.save(
        {
            "id": store.new_id("cn"),
            "object": "credit_note",
            "amount": amount,
            "created": store.now(),
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "invoice": invoice["id"],
            "livemode": False,
            "memo": params.get("memo"),
            "metadata": merge_metadata({}, params.get("metadata")),
            "number": f"{invoice['number']}-CN-{len(store.where('credit_note', invoice=invoice['id'])) + 1:02d}",
            "reason": params.get("reason"),
            "status": "issued",
            "subtotal": amount,
            "total": amount,
            "type": "pre_payment" if before_payment else "post_payment",
            "voided_at": None,
        }
    )
    record_event(store, "credit_note.created", note)
    if before_payment and invoice["amount_remaining"] == 0:
        settle(store, invoice, paid=0)
    return note


def _amount(params: Document) -> int:
    if "amount" in params:
        amount: int = params["amount"]
        return amount
    lines = params.get("lines", [])
    if not lines:
        raise RefusedError("A credit note needs an amount or lines.", param="amount")
    return sum(each["amount"] if "amount" in each else each["unit_amount"] * each["quantity"] for each in lines)


def _reduce(store: Store, invoice: Document, amount: int) -> None:
    if amount > invoice["amount_remaining"]:
        raise RefusedError(f"Only {invoice['amount_remaining']} of the invoice remain to be paid.", param="amount")
    invoice["pre_payment_credit_notes_amount"] += amount
    invoice["amount_due"] -= amount
    invoice["amount_remaining"] -= amount
    store.save(invoice)


def _give_back(store: Store, invoice: Document, amount: int, params: Document) -> None:
    given = {name: params.get(name, 0) for name in _SETTLEMENTS}
    if sum(given.values()) != amount:
        raise RefusedError(
            f"The sum of {', '.join(_SETTLEMENTS)} ({sum(given.values())}) must equal the credit note's amount"
            f" ({amount}).",
            param="amount",
        )
    invoice["post_payment_credit_notes_amount"] += amount
    store.save(invoice)
    if given["credit_amount"]:
        customer = store.get("customer", invoice["customer"], param="customer")
        add_to_balance(store, customer, -given["credit_amount"], invoice=invoice["id"], type="credit_note")


def void(store: Store, note_id: str, _: Document) -> Document:
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
    found = [
        each
        for each in store.all("credit_note")
        if all(each[name] == params[name] for name in ("invoice", "customer") if name in params)
        and ("created" not in params or created_within(each, params["created"]))
    ]
    return page(found, params, url="/v1/credit_notes")
