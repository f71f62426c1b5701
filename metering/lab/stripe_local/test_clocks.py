"""Test clocks: customers and invoices in a time of their own, which lists leave out unless asked for them.

Stripe's test mode has them (https://docs.stripe.com/billing/testing/test-clocks). Objects of a customer on a clock
have the clock's time as their time of creation. Lists of all customers and of all invoices leave them out.
"""

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.objects import list_page
from metering.lab.stripe_local.store import Document, Store

_KIND = "test_helpers.test_clock"


def create(store: Store, params: Document) -> Document:
    """`POST /v1/test_helpers/test_clocks`."""
    return store.save(
        {
            "id": store.new_id("clock"),
            "object": _KIND,
            "created": store.now(),
            "frozen_time": params["frozen_time"],
            "livemode": False,
            "name": params.get("name"),
            "status": "ready",
        }
    )


def read(store: Store, clock_id: str) -> Document:
    """`GET /v1/test_helpers/test_clocks/{test_clock}`."""
    return store.get(_KIND, clock_id, param="test_clock")


def advance(store: Store, clock_id: str, params: Document) -> Document:
    """`POST /v1/test_helpers/test_clocks/{test_clock}/advance`: only forward, and at once."""
    clock = read(store, clock_id)
    if params["frozen_time"] <= clock["frozen_time"]:
        raise RefusedError("frozen_time must be after the clock's current frozen_time.", param="frozen_time")
    return store.save({**clock, "frozen_time": params["frozen_time"]})


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/test_helpers/test_clocks`."""
    return list_page(store, _KIND, params, url="/v1/test_helpers/test_clocks")


def now_of(store: Store, clock_id: str | None) -> int:
    """The time of a test clock's objects, or of the store without a clock."""
    if clock_id is None:
        return store.now()
    frozen: int = read(store, clock_id)["frozen_time"]
    return frozen


def is_on_no_clock(document: Document) -> bool:
    """Whether a list of all objects has it."""
    return document.get("test_clock") is None
