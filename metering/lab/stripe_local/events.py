"""Events: what happened to an object, kept for reading, and handed to whoever delivers webhooks."""

import copy

from metering.lab.stripe_local.listing import list_page
from metering.lab.stripe_local.store import Document, Store

API_VERSION = "2026-08-26.dahlia"

_MAX_EVENTS = 10_000


def record_event(store: Store, kind: str, about: Document) -> None:
    """Something happened to an object; the event has it as it is now."""
    event = store.save(
        {
            "id": store.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": store.now(),
            "data": {"object": about},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
    )
    store.trim("event", most=_MAX_EVENTS)
    store.tell(copy.deepcopy(event))


def read(store: Store, event_id: str) -> Document:
    """`GET /v1/events/{id}`."""
    return store.get("event", event_id)


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/events`."""
    wanted = params.get("types") or ([params["type"]] if "type" in params else None)
    return list_page(
        store, "event", params, url="/v1/events", keep=lambda each: wanted is None or each["type"] in wanted
    )
