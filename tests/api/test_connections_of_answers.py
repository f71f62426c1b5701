"""No answer holds a database connection while it is sent, however slowly its client reads it."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.api.app import create_app
from metering.api.gate import Gate
from metering.dashboard.pages import PAGES
from metering.server.bootstrap import Service
from tests.running_api import NOW

VALUES = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "period": "2026-11"}
# An export reads its rows while it sends them; how many may do so is limited.
STREAMED = {"/v1/exports/{kind}.{format}"}


def requests_of(app: Any) -> Iterator[tuple[str, bytes]]:
    """A path and a query for each GET route."""
    for route in app.routes:
        if isinstance(route, APIRoute) and "GET" in route.methods and route.path not in STREAMED:
            names = getattr(route, "query_names", ())
            query = "&".join(f"{name}={value}" for name, value in VALUES.items() if name in names)
            yield re.sub(r"[{}]|:path", "", route.path), query.encode()
    yield from ((f"/dashboard{path}", b"") for path, _ in PAGES)


async def ask(app: Any, path: str, query: bytes, key: str, pool: Any) -> tuple[int, list[int]]:
    """The status of a GET, and how many connections were in use whenever something was sent."""
    status, held = 0, []

    received = False

    async def receive() -> dict[str, Any]:
        nonlocal received
        if received:
            await asyncio.Event().wait()  # the client stays
        received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        held.append(pool.checkedout())

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
        "headers": [(b"authorization", f"Bearer {key}".encode()), (b"host", b"x")],
        "client": ("127.0.0.1", 1), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return status, held


@pytest.mark.parametrize("role", [Role.ADMIN, Role.INGEST])
def test_no_route_holds_a_connection_while_it_answers(rated_service: Service, role: Role) -> None:
    app = create_app(rated_service)
    key = str(create_key(engine=rated_service.engine, role=role, name="t", customer_id=None, now=NOW))

    async def run() -> dict[str, tuple[int, list[int]]]:
        async with app.router.lifespan_context(app):
            requests = dict(requests_of(app))
            assert len(requests) > 25
            pool = rated_service.engine.pool
            return {path: await ask(Gate(app), path, query, key, pool) for path, query in requests.items()}

    answers = asyncio.run(run())
    statuses = [status for status, _ in answers.values()]
    assert 500 not in statuses
    assert statuses.count(200) > (10 if role is Role.ADMIN else 3)
    assert {path: held for path, (_, held) in answers.items() if any(held)} == {}
