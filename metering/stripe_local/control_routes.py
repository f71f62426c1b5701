"""The control paths, `/_local/…`: see `control.py` for what each does."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metering.stripe_local.desk import Desk, describe_requests
from metering.stripe_local.faults import Fault, PlannedFault
from metering.stripe_local.invoice_lines import sum_up
from metering.stripe_local.webhooks import Deliveries

Act = Callable[[dict[str, Any]], Any]


def control_routes(desk: Desk, deliveries: Deliveries) -> list[Route]:
    """Routes that change how it behaves."""
    store = desk.store

    def plan(given: dict[str, Any]) -> None:
        desk.faults.plan(PlannedFault(**{**given, "fault": Fault(given["fault"])}))

    def move_clock(given: dict[str, Any]) -> None:
        store.clock_offset += given["seconds"]

    def edit(given: dict[str, Any]) -> None:
        found = store.find_any(given["id"])
        if found is None:
            raise KeyError(given["id"])
        found |= given["changes"]
        store.save(found)
        invoice = store.find("invoice", found.get("invoice") or given["id"])
        if given["recompute"] and invoice is not None:
            sum_up(store, invoice)

    def copy_line(given: dict[str, Any]) -> None:
        line = store.get("line_item", given["id"])
        store.save({**line, "id": store.new_id("il")})
        sum_up(store, store.get("invoice", line["invoice"]))

    acts: dict[str, Act] = {
        "faults": plan,
        "clear-faults": lambda _: desk.faults.clear(),
        "forget-keys": lambda _: desk.keys.forget(),
        "clock": move_clock,
        "edit": edit,
        "copy-line": copy_line,
        "remove": lambda given: store.remove(given["id"]),
        "webhooks": lambda given: deliveries.set_mode(given["mode"]),
        "release": lambda _: deliveries.release(),
        "clear-requests": lambda _: desk.requests.clear(),
        "reset": lambda _: desk.reset(),
    }
    routes = [Route(f"/_local/{name}", _endpoint(act), methods=["POST"]) for name, act in acts.items()]
    return [Route("/_local/requests", lambda _: JSONResponse(describe_requests(desk))), *routes]


def _endpoint(act: Act) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            act(await request.json())
        except (KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        await asyncio.sleep(0)
        return JSONResponse({"done": True})

    return endpoint
