"""Customers, and the transactions of their balances."""

from typing import Any

from metering.lab.stripe_local.objects import list_page, merge_metadata, record_event
from metering.lab.stripe_local.search import save_version
from metering.lab.stripe_local.store import Document, Store
from metering.lab.stripe_local.test_clocks import is_on_no_clock, now_of

_PLAIN = ("email", "name", "description", "phone", "invoice_prefix", "tax_exempt")


def create(store: Store, params: Document) -> Document:
    """`POST /v1/customers`."""
    clock_id = params.get("test_clock")
    customer = {
        "id": store.new_id("cus"),
        "object": "customer",
        "balance": params.get("balance", 0),
        "created": now_of(store, clock_id),
        "currency": "usd",
        "delinquent": False,
        "livemode": False,
        "metadata": merge_metadata({}, params.get("metadata")),
        "next_invoice_sequence": 1,
        "test_clock": clock_id,
        **{name: params.get(name) for name in _PLAIN},
    }
    customer["invoice_prefix"] = params.get("invoice_prefix") or customer["id"][-8:].upper()
    store.save(customer)
    save_version(store, customer)
    record_event(store, "customer.created", customer)
    return customer


def update(store: Store, customer_id: str, params: Document) -> Document:
    """`POST /v1/customers/{customer}`."""
    customer = store.get("customer", customer_id, param="customer")
    customer |= {name: params[name] for name in (*_PLAIN, "balance") if name in params}
    customer["metadata"] = merge_metadata(customer["metadata"], params.get("metadata"))
    store.save(customer)
    save_version(store, customer)
    record_event(store, "customer.updated", customer)
    return customer


def read(store: Store, customer_id: str) -> Document:
    """`GET /v1/customers/{customer}`."""
    return store.get("customer", customer_id, param="id")


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/customers`."""
    filters = ("email", "test_clock")
    keep = (lambda _: True) if "test_clock" in params else is_on_no_clock
    return list_page(store, "customer", params, url="/v1/customers", filters=filters, keep=keep)


def add_to_balance(store: Store, customer: Document, amount: int, **details: Any) -> Document:
    """Add cents to a customer's balance: a positive balance is owed, a negative one is a credit."""
    customer["balance"] += amount
    store.save(customer)
    return store.save(
        {
            "id": store.new_id("cbtxn"),
            "object": "customer_balance_transaction",
            "amount": amount,
            "created": now_of(store, customer.get("test_clock")),
            "currency": "usd",
            "customer": customer["id"],
            "description": None,
            "ending_balance": customer["balance"],
            "invoice": None,
            "livemode": False,
            "metadata": {},
            "type": "adjustment",
            **details,
        }
    )


def create_transaction(store: Store, customer_id: str, params: Document) -> Document:
    """`POST /v1/customers/{customer}/balance_transactions`."""
    customer = store.get("customer", customer_id, param="customer")
    details = {"description": params.get("description"), "metadata": merge_metadata({}, params.get("metadata"))}
    return add_to_balance(store, customer, params["amount"], **details)


def list_transactions(store: Store, customer_id: str, params: Document) -> Document:
    """`GET /v1/customers/{customer}/balance_transactions`."""
    store.get("customer", customer_id, param="customer")
    return list_page(
        store,
        "customer_balance_transaction",
        params,
        url=f"/v1/customers/{customer_id}/balance_transactions",
        filters=("invoice",),
        within={"customer": customer_id},
    )
