"""The control paths, `/_local/…`; `control.py` is their client and says what each does."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.faults import Fault, PlannedFault
from metering.lab.stripe_local.invoice_lines import sum_up
from metering.lab.stripe_local.operations import Operations
from metering.lab.stripe_local.search import save_version
from metering.lab.stripe_local.store import Store
from metering.lab.stripe_local.webhooks import Deliveries

Act = Callable[[dict[str, Any]], Any]
# An edit cannot change these.
_FIXED = {"id", "object"}


def control_routes(operations: Operations, deliveries: Deliveries) -> list[Route]:
    """Routes that change the behaviour or the objects, and two that return the records."""
    store = operations.store

    def reset(_: dict[str, Any]) -> None:
        operations.reset()
        deliveries.reset()

    acts: dict[str, Act] = {
        "faults": lambda given: operations.faults.plan(PlannedFault(**{**given, "fault": Fault(given["fault"])})),
        "clear-faults": lambda _: operations.faults.clear(),
        "forget-keys": lambda _: operations.keys.forget(),
        "clock": lambda given: _move_clock(store, given["seconds"]),
        "limits": lambda given: operations.limits.set(**given),
        "search-delay": lambda given: _delay_search(store, given["seconds"]),
        "edit": lambda given: _edit(store, **given),
        "copy-line": lambda given: _copy_line(store, given["id"]),
        "remove": lambda given: store.remove(given["id"]),
        "webhooks": lambda given: deliveries.set_mode(given["mode"]),
        "release": lambda _: deliveries.release(),
        "clear-requests": lambda _: operations.requests.clear(),
        "reset": reset,
    }
    records: dict[str, Callable[[], Any]] = {
        "requests": lambda: list(operations.requests),
        "deliveries": deliveries.describe,
    }
    return [
        *(Route(f"/_local/{name}", _reading(read)) for name, read in records.items()),
        *(Route(f"/_local/{name}", _acting(store, act), methods=["POST"]) for name, act in acts.items()),
    ]


def _move_clock(store: Store, seconds: float) -> None:
    store.clock_offset += seconds


def _delay_search(store: Store, seconds: float) -> None:
    store.search_delay = seconds


def _edit(store: Store, *, id: str, changes: dict[str, Any], recompute: bool = False) -> None:
    found = store.find_any(id)
    if found is None or _FIXED & changes.keys():
        raise ValueError(f"{id} does not exist, or a change of {sorted(_FIXED)} was asked for")
    store.save({**found, **changes})
    if found["object"] == "customer":
        save_version(store, {**found, **changes})
    invoice = store.find("invoice", changes.get("invoice") or found.get("invoice") or id)
    if recompute and invoice is not None:
        sum_up(store, invoice)


def _copy_line(store: Store, line_id: str) -> None:
    line = store.get("line_item", line_id)
    store.save({**line, "id": store.new_id("il")})
    sum_up(store, store.get("invoice", line["invoice"]))


def _reading(read: Callable[[], Any]) -> Callable[[Request], Any]:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(read())

    return endpoint


def _acting(store: Store, act: Act) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            given = await request.json()
            with store.atomic():
                act(given)
        except (KeyError, TypeError, ValueError, RefusedError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        await asyncio.sleep(0)
        return JSONResponse({"done": True})

    return endpoint
