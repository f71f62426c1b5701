"""Invoices from draft to paid or void. A final one changes only in its payment state and its credits."""

from metering.lab.stripe_local.customers import add_to_balance, billed_to
from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.invoice_lines import add_items, draft_of, item_id_of, lines_of, sum_up
from metering.lab.stripe_local.objects import list_page, merge_metadata, record_event
from metering.lab.stripe_local.store import Document, Store
from metering.lab.stripe_local.test_clocks import is_on_no_clock, now_of

# Stripe does not collect less than this in US cents; it moves the amount to the customer's balance.
_MINIMUM = 50
_PLAIN = ("description", "footer", "statement_descriptor", "due_date", "custom_fields", "default_payment_method")


def create(store: Store, params: Document) -> Document:
    """`POST /v1/invoices`."""
    if "customer" not in params:
        raise RefusedError(
            "Missing required param: customer.", code="parameter_missing", param="customer", kept=False
        )
    customer = store.get("customer", params["customer"], param="customer")
    collection = params.get("collection_method", "charge_automatically")
    if collection == "send_invoice" and not {"days_until_due", "due_date"} & params.keys():
        raise RefusedError("send_invoice needs days_until_due or due_date.", param="days_until_due")
    now = now_of(store, customer.get("test_clock"))
    due = now + params["days_until_due"] * 86_400 if "days_until_due" in params else params.get("due_date")
    invoice = {
        "id": store.new_id("in"),
        "object": "invoice",
        "auto_advance": params.get("auto_advance", False),
        "billing_reason": "manual",
        "collection_method": collection,
        "created": now,
        "currency": params.get("currency", "usd"),
        "customer": customer["id"],
        **billed_to(store, customer),
        **{name: params.get(name) for name in _PLAIN},
        "due_date": due,
        "ending_balance": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "livemode": False,
        "metadata": merge_metadata({}, params.get("metadata")),
        "number": params.get("number"),
        "period_start": now,
        "period_end": now,
        "starting_balance": 0,
        "status": "draft",
        "test_clock": customer.get("test_clock"),
        "status_transitions": dict.fromkeys(("finalized_at", "paid_at", "voided_at", "marked_uncollectible_at")),
        "amount_paid": 0,
        "amount_overpaid": 0,
        "attempted": False,
        "attempt_count": 0,
        "pre_payment_credit_notes_amount": 0,
        "post_payment_credit_notes_amount": 0,
    }
    sum_up(store, invoice)
    if params.get("pending_invoice_items_behavior") == "include":
        pending = store.where("invoiceitem", customer=customer["id"], invoice=None)
        add_items(store, invoice, [item for item in pending if item["currency"] == invoice["currency"]])
        sum_up(store, invoice)
    record_event(store, "invoice.created", invoice)
    return invoice


def update(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}`; of a final invoice, only `metadata` and `auto_advance` can change."""
    invoice = store.get("invoice", invoice_id, param="invoice")
    if invoice["status"] != "draft" and params.keys() - {"metadata", "auto_advance", "expand"}:
        draft_of(store, invoice_id)
    invoice |= {name: params[name] for name in (*_PLAIN, "auto_advance") if name in params}
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("metadata"))
    store.save(invoice)
    record_event(store, "invoice.updated", invoice)
    return invoice


def read(store: Store, invoice_id: str) -> Document:
    """`GET /v1/invoices/{invoice}`."""
    return store.get("invoice", invoice_id, param="invoice")


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/invoices`."""
    if "due_date" in params:
        raise RefusedError(
            "the local Stripe does not filter by due_date", status=501, kind="api_error", kept=False
        )
    filters = ("customer", "status", "collection_method", "subscription", "customer_account")
    keep = (lambda _: True) if "customer" in params else is_on_no_clock
    return list_page(store, "invoice", params, url="/v1/invoices", filters=filters, keep=keep)


def delete(store: Store, invoice_id: str) -> Document:
    """`DELETE /v1/invoices/{invoice}`: deletes a draft with its lines and their items."""
    invoice = draft_of(store, invoice_id)
    for line in lines_of(store, invoice_id):
        store.remove(item_id_of(line))
        store.remove(line["id"])
    store.remove(invoice_id)
    record_event(store, "invoice.deleted", invoice)
    return {"id": invoice_id, "object": "invoice", "deleted": True}


def finalize(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/finalize`."""
    invoice = store.get("invoice", invoice_id, param="invoice")
    if invoice["status"] != "draft":
        raise RefusedError(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_already_finalized",
            param="invoice",
        )
    customer = store.get("customer", invoice["customer"], param="customer")
    invoice["number"] = (
        invoice["number"] or f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    )
    customer["next_invoice_sequence"] += 1
    store.save(customer)
    invoice |= billed_to(store, customer)
    invoice["auto_advance"] = params.get("auto_advance", invoice["auto_advance"])
    invoice["status"] = "open"
    invoice["status_transitions"]["finalized_at"] = now_of(store, invoice.get("test_clock"))
    _apply_balance(store, invoice, customer)
    store.save(invoice)
    record_event(store, "invoice.finalized", invoice)
    if invoice["amount_remaining"] == 0:
        mark_paid(store, invoice, paid=0)
    return invoice


def _apply_balance(store: Store, invoice: Document, customer: Document) -> None:
    """Apply the customer's balance to the invoice; an amount below the minimum goes to the balance."""
    invoice["starting_balance"] = before = customer["balance"]
    due = invoice["total"] + before
    carried = due if due < _MINIMUM else 0
    invoice["amount_due"] = invoice["amount_remaining"] = due - carried
    invoice["ending_balance"] = carried
    if carried != before:
        add_to_balance(store, customer, carried - before, invoice=invoice["id"], type="applied_to_invoice")


def mark_paid(store: Store, invoice: Document, *, paid: int) -> None:
    """Mark an invoice as paid."""
    invoice["status"] = "paid"
    invoice["amount_paid"] += paid
    invoice["amount_remaining"] = 0
    invoice["attempted"] = True
    invoice["status_transitions"]["paid_at"] = now_of(store, invoice.get("test_clock"))
    store.save(invoice)
    record_event(store, "invoice.paid", invoice)
    record_event(store, "invoice.payment_succeeded", invoice)


def pay(store: Store, invoice_id: str) -> Document:
    """`POST /v1/invoices/{invoice}/pay`."""
    invoice = _with_status(store, invoice_id, "paid", "open", "uncollectible")
    mark_paid(store, invoice, paid=invoice["amount_remaining"])
    return invoice


def void(store: Store, invoice_id: str) -> Document:
    """`POST /v1/invoices/{invoice}/void`."""
    invoice = _with_status(store, invoice_id, "voided", "open", "uncollectible")
    return _end(store, invoice, "void", "voided_at", "invoice.voided")


def mark_uncollectible(store: Store, invoice_id: str) -> Document:
    """`POST /v1/invoices/{invoice}/mark_uncollectible`."""
    invoice = _with_status(store, invoice_id, "marked as uncollectible", "open")
    return _end(store, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")


def send(store: Store, invoice_id: str, params: Document) -> Document:
    """`POST /v1/invoices/{invoice}/send`: finalizes a draft first."""
    invoice = store.get("invoice", invoice_id, param="invoice")
    if invoice["status"] == "draft":
        invoice = finalize(store, invoice_id, params)
    record_event(store, "invoice.sent", invoice)
    return invoice


def shown(store: Store, document: Document) -> Document:
    """An object as answers show it: an invoice has the first ten of its lines, a draft follows its customer."""
    if document.get("object") == "list":
        return {**document, "data": [shown(store, each) for each in document["data"]]}
    if document.get("object") != "invoice" or document.get("deleted"):
        return document
    lines = lines_of(store, document["id"])
    url = f"/v1/invoices/{document['id']}/lines"
    listed = {
        "object": "list",
        "data": lines[:10],
        "has_more": len(lines) > 10,
        "total_count": len(lines),
        "url": url,
    }
    if document["status"] == "draft":
        followed = billed_to(store, store.get("customer", document["customer"]))
        return {**document, **followed, "hosted_invoice_url": None, "lines": listed}
    page_url = f"{store.base_url}/invoices/{document['id']}"
    return {**document, "hosted_invoice_url": page_url, "lines": listed}


def _with_status(store: Store, invoice_id: str, done: str, *allowed: str) -> Document:
    invoice = store.get("invoice", invoice_id, param="invoice")
    if invoice["status"] not in allowed:
        raise RefusedError(
            f"Invoices with status {invoice['status']} can not be {done}.",
            code=f"invoice_{invoice['status']}" if invoice["status"] == "paid" else "invoice_not_editable",
            param="invoice",
        )
    return invoice


def _end(store: Store, invoice: Document, status: str, transition: str, event: str) -> Document:
    invoice["status"] = status
    invoice["status_transitions"][transition] = now_of(store, invoice.get("test_clock"))
    if status == "void":
        invoice["amount_remaining"] = 0
    store.save(invoice)
    record_event(store, event, invoice)
    return invoice
