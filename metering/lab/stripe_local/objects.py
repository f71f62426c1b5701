"""What all kinds of objects have in common: metadata, lists, and the events about them."""

import copy
from collections.abc import Callable
from itertools import islice
from typing import Any

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.store import Document, Store

API_VERSION = "2026-08-26.dahlia"
_MAX_EVENTS = 10_000


def merge_metadata(before: dict[str, str], given: Any) -> dict[str, str]:
    """An object's metadata after an update: an empty value removes a key, an empty string all keys."""
    if given is None:
        return dict(before)
    if given == "":
        return {}
    return {key: value for key, value in {**before, **given}.items() if value != ""}


def limit_of(params: Document) -> int:
    """The parameter `limit`, or 10.

    Raises:
        RefusedError: it is below 1 or above 100.
    """
    limit: int = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise RefusedError("limit must be between 1 and 100", code="parameter_invalid_integer", param="limit")
    return limit


def list_page(
    store: Store,
    kind: str,
    params: Document,
    *,
    url: str,
    filters: tuple[str, ...] = (),
    within: Document | None = None,
    keep: Callable[[Document], bool] = lambda _: True,
    oldest_first: bool = False,
) -> Document:
    """A page of the objects of a kind: newest first, at most 100, after or before an id.

    `filters` names the parameters that fields must equal, `within` has further fields and their values. Reads the
    objects of the page, and those that `keep` or a filter without an index rejects.
    """
    limit = limit_of(params)
    backwards = "ending_before" in params
    param = "ending_before" if backwards else "starting_after"
    beyond = store.get(kind, params[param], param=param)["id"] if param in params else None
    found = store.walk(
        kind,
        equal={**{name: params[name] for name in filters if name in params}, **(within or {})},
        created=params.get("created"),
        beyond=beyond,
        oldest_first=oldest_first != backwards,
    )
    taken = list(islice(filter(keep, found), limit + 1))
    shown = taken[:limit]
    return {
        "object": "list",
        "data": shown[::-1] if backwards else shown,
        "has_more": len(taken) > limit,
        "url": url,
    }


def record_event(store: Store, kind: str, about: Document) -> None:
    """Save an event with a copy of the object as it is now, for lists and for webhooks."""
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
    store.announce(copy.deepcopy(event))


def read_event(store: Store, event_id: str) -> Document:
    """`GET /v1/events/{id}`."""
    return store.get("event", event_id)


def list_events(store: Store, params: Document) -> Document:
    """`GET /v1/events`."""
    wanted = params.get("types") or ([params["type"]] if "type" in params else None)
    return list_page(
        store, "event", params, url="/v1/events", keep=lambda each: wanted is None or each["type"] in wanted
    )
