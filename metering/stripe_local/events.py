"""Events: what happened to an object, kept for reading, and handed to whoever delivers webhooks."""

import copy
from collections.abc import Callable

from metering.stripe_local.store import Document, Store, created_within, page

API_VERSION = "2026-08-26.dahlia"

_listeners: dict[int, Callable[[Document], None]] = {}


def listen(store: Store, listener: Callable[[Document], None]) -> None:
    """Have each new event of a store handed on."""
    _listeners[id(store)] = listener


def record_event(store: Store, kind: str, about: Document) -> None:
    """Something happened to an object; the event has it as it is now."""
    event = store.save(
        {
            "id": store.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": store.now(),
            "data": {"object": copy.deepcopy(about)},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
    )
    store.trim_events()
    if (listener := _listeners.get(id(store))) is not None:
        listener(event)


def read(store: Store, event_id: str) -> Document:
    """`GET /v1/events/{id}`."""
    return store.get("event", event_id)


def list_all(store: Store, params: Document) -> Document:
    """`GET /v1/events`."""
    wanted = params.get("types") or ([params["type"]] if "type" in params else None)
    found = [
        each
        for each in store.all("event")
        if (wanted is None or each["type"] in wanted)
        and ("created" not in params or created_within(each, params["created"]))
    ]
    return page(found, params, url="/v1/events")
