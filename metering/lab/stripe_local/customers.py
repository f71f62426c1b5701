"""Customers with their tax ids, and the transactions of their balances."""

from typing import Any

from metering.lab.stripe_local.objects import list_page, merge_metadata, record_event
from metering.lab.stripe_local.search import save_version
from metering.lab.stripe_local.store import Document, Store
from metering.lab.stripe_local.test_clocks import is_on_no_clock, now_of

_PLAIN = ("email", "name", "description", "phone", "invoice_prefix", "tax_exempt")
_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_TAX_IDS = "tax_ids"


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
        "address": _address(params.get("address")),
        **{name: params.get(name) for name in _PLAIN},
    }
    customer["invoice_prefix"] = params.get("invoice_prefix") or customer["id"][-8:].upper()
    store.save(customer)
    save_version(store, customer)
    for given in params.get("tax_id_data", []):
        _save_tax_id(store, customer, given)
    record_event(store, "customer.created", customer)
    return _expanded(store, customer, params)


def _address(given: Any) -> Document | None:
    """An address with all of its fields; an empty string removes it."""
    return {name: given.get(name) for name in _ADDRESS} if given else None


def _save_tax_id(store: Store, customer: Document, given: Document) -> None:
    tax_id = {"id": store.new_id("txi"), "object": "tax_id", "created": customer["created"], "livemode": False}
    owner = {"customer": customer["id"], "owner": {"type": "customer", "customer": customer["id"]}}
    store.save({**tax_id, **owner, "country": None, "type": given["type"], "value": given["value"]})


def _expanded(store: Store, customer: Document, params: Document, *, field: str = _TAX_IDS) -> Document:
    """A customer as answers show it: its tax ids only where `expand` asks for them."""
    if field not in params.get("expand", []):
        return customer
    url = f"/v1/customers/{customer['id']}/tax_ids"
    return {**customer, _TAX_IDS: list_page(store, "tax_id", {}, url=url, within={"customer": customer["id"]})}


def billed_to(store: Store, customer: Document) -> Document:
    """What an invoice says of its customer."""
    return {
        "customer_address": customer.get("address"),
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_tax_ids": [
            {"type": each["type"], "value": each["value"]}
            for each in store.where("tax_id", customer=customer["id"])
        ],
    }


def update(store: Store, customer_id: str, params: Document) -> Document:
    """`POST /v1/customers/{customer}`."""
    customer = store.get("customer", customer_id, param="customer")
    customer |= {name: params[name] for name in (*_PLAIN, "balance") if name in params}
    if "address" in params:
        customer["address"] = _address(params["address"])
    customer["metadata"] = merge_metadata(customer["metadata"], params.get("metadata"))
    store.save(customer)
    save_version(store, customer)
    record_event(store, "customer.updated", customer)
    return _expanded(store, customer, params)


def read(store: Store, customer_id: str, params: Document) -> Document:
    """`GET /v1/customers/{customer}`."""
    return _expanded(store, store.get("customer", customer_id, param="id"), params)


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/customers`."""
    filters = ("email", "test_clock")
    keep = (lambda _: True) if "test_clock" in params else is_on_no_clock
    page = list_page(store, "customer", params, url="/v1/customers", filters=filters, keep=keep)
    return {**page, "data": [_expanded(store, each, params, field=f"data.{_TAX_IDS}") for each in page["data"]]}


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
