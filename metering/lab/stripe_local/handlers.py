"""What carries out each operation. An operation without one is answered 501."""

from collections.abc import Callable

from metering.lab.stripe_local import (
    credit_note_lines,
    credit_notes,
    customers,
    events,
    invoice_items,
    invoice_lines,
    invoices,
    search,
)
from metering.lab.stripe_local.store import Document, Store

# The path's parts come before the parameters.
Handler = Callable[[Store, dict[str, str], Document], Document]


def _balance(*_: object) -> Document:
    available = [{"amount": 0, "currency": "usd"}]
    return {"object": "balance", "livemode": False, "available": available, "pending": []}


def _plain(act: Callable[[Store, Document], Document]) -> Handler:
    return lambda store, _, params: act(store, params)


def _of(name: str, act: Callable[[Store, str, Document], Document]) -> Handler:
    return lambda store, path, params: act(store, path[name], params)


def _by_id(name: str, act: Callable[[Store, str], Document]) -> Handler:
    return lambda store, path, _: act(store, path[name])


HANDLERS: dict[str, Handler] = {
    "GET /v1/balance": _balance,
    "POST /v1/customers": _plain(customers.create),
    "GET /v1/customers": _plain(customers.list_all),
    "GET /v1/customers/search": _plain(search.search),
    "GET /v1/customers/{customer}": _by_id("customer", customers.read),
    "POST /v1/customers/{customer}": _of("customer", customers.update),
    "GET /v1/customers/{customer}/balance_transactions": _of("customer", customers.list_transactions),
    "POST /v1/customers/{customer}/balance_transactions": _of("customer", customers.create_transaction),
    "POST /v1/invoices": _plain(invoices.create),
    "GET /v1/invoices": _plain(invoices.list_all),
    "GET /v1/invoices/{invoice}": _by_id("invoice", invoices.read),
    "POST /v1/invoices/{invoice}": _of("invoice", invoices.update),
    "DELETE /v1/invoices/{invoice}": _by_id("invoice", invoices.delete),
    "GET /v1/invoices/{invoice}/lines": _of("invoice", invoice_lines.list_all),
    "POST /v1/invoices/{invoice}/add_lines": _of("invoice", invoice_lines.add),
    "POST /v1/invoices/{invoice}/update_lines": _of("invoice", invoice_lines.update),
    "POST /v1/invoices/{invoice}/remove_lines": _of("invoice", invoice_lines.remove),
    "POST /v1/invoices/{invoice}/finalize": _of("invoice", invoices.finalize),
    "POST /v1/invoices/{invoice}/pay": _by_id("invoice", invoices.pay),
    "POST /v1/invoices/{invoice}/void": _by_id("invoice", invoices.void),
    "POST /v1/invoices/{invoice}/mark_uncollectible": _by_id("invoice", invoices.mark_uncollectible),
    "POST /v1/invoices/{invoice}/send": _of("invoice", invoices.send),
    "POST /v1/invoiceitems": _plain(invoice_items.create),
    "GET /v1/invoiceitems": _plain(invoice_items.list_all),
    "GET /v1/invoiceitems/{invoiceitem}": _by_id("invoiceitem", invoice_items.read),
    "POST /v1/invoiceitems/{invoiceitem}": _of("invoiceitem", invoice_items.update),
    "DELETE /v1/invoiceitems/{invoiceitem}": _by_id("invoiceitem", invoice_items.delete),
    "POST /v1/credit_notes": _plain(credit_notes.create),
    "GET /v1/credit_notes": _plain(credit_notes.list_all),
    "GET /v1/credit_notes/preview": _plain(credit_notes.preview),
    "GET /v1/credit_notes/{credit_note}/lines": _of("credit_note", credit_note_lines.list_all),
    "GET /v1/credit_notes/{id}": _by_id("id", credit_notes.read),
    "POST /v1/credit_notes/{id}": _of("id", credit_notes.update),
    "POST /v1/credit_notes/{id}/void": _by_id("id", credit_notes.void),
    "GET /v1/events": _plain(events.list_all),
    "GET /v1/events/{id}": _by_id("id", events.read),
}
