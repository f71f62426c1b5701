"""Invoice items: what waits for a customer's next invoice. The product never makes one; a person may."""

from metering.stripe_local.metadata import merge_metadata
from metering.stripe_local.store import Document, Store, page


def create(store: Store, params: Document) -> Document:
    """`POST /v1/invoiceitems`, pending."""
    customer = store.get("customer", params.get("customer", ""), param="customer")
    return store.save(
        {
            "id": store.new_id("ii"),
            "object": "invoiceitem",
            "amount": params.get("amount", 0),
            "created": store.now(),
            "currency": params.get("currency", "usd"),
            "customer": customer["id"],
            "description": params.get("description"),
            "invoice": None,
            "livemode": False,
            "metadata": merge_metadata({}, params.get("metadata")),
            "quantity": params.get("quantity", 1),
        }
    )


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/invoiceitems`."""
    wanted = {name: params[name] for name in ("customer", "invoice") if name in params}
    found = store.where("invoiceitem", **wanted)
    if "pending" in params:
        found = [each for each in found if (each["invoice"] is None) == params["pending"]]
    return page(found, params, url="/v1/invoiceitems")
