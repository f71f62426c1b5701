"""A real API server on a port of its own, a client that is signed in, and what tests often ask of it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import uvicorn

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.api.server import server_config
from metering.ledger.finalize_due import finalize_due
from metering.server.bootstrap import Service
from tests.api.described import check_answers

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)


def http_client(base_url: str, **options: Any) -> httpx2.Client:
    """A client for a server of a test."""
    return httpx2.Client(base_url=base_url, timeout=60, **options)


@dataclass(frozen=True, slots=True)
class Api:
    """A running API. `client` holds an admin key; its answers are checked against `/openapi.json`."""

    url: str
    client: httpx2.Client
    service: Service

    def post(self, body: Any, **options: Any) -> httpx2.Response:
        """Post events, given as JSON."""
        return self.client.post("/v1/events", json=body, **options)

    def finalize(self) -> None:
        """What a worker would do now."""
        finalize_due(
            engine=self.service.engine,
            price_books=self.service.price_books,
            waits=self.service.waits,
            now=datetime.now(UTC),
            limit=1000,
        )

    def client_with(self, role: Role, customer_id: str | None = None) -> httpx2.Client:
        """A client with a new key."""
        key = create_key(engine=self.service.engine, role=role, name="test", customer_id=customer_id, now=NOW)
        return self.client_of(str(key))

    def client_of(self, key: str) -> httpx2.Client:
        """A client with this key."""
        return http_client(self.url, headers={"authorization": f"Bearer {key}"})


_checks: list[Callable[[httpx2.Response], None]] = []


def _check_answers(service: Service) -> Callable[[httpx2.Response], None]:
    """The check of answers. It is made once: the description is the same for every service."""
    if not _checks:
        _checks.append(check_answers(service))
    return _checks[0]


@contextmanager
def signed_in(service: Service, *, port: int = 0) -> Iterator[Api]:
    """The API of a service as it runs in production, in a thread; on any free port, unless one is given."""
    with run_server(service, port=port) as url:
        key = create_key(engine=service.engine, role=Role.ADMIN, name="test", customer_id=None, now=NOW)
        headers, hooks = {"authorization": f"Bearer {key}"}, {"response": [_check_answers(service)]}
        with http_client(url, headers=headers, event_hooks=hooks) as client:
            yield Api(url, client, service)


class run_server:
    """Serve a service's API in a thread until the block ends."""

    def __init__(self, service: Service, *, port: int = 0) -> None:
        self._server = uvicorn.Server(server_config(service, port=port, timeout_graceful_shutdown=2))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._server.started:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()


def bill(api: Api, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Post a stream, finalize, and read it."""
    assert api.post(events).status_code == 200
    api.finalize()
    subject, stream_id = events[0]["subject"], events[0]["data"]["stream_id"]
    shape: dict[str, Any] = api.client.get(f"/v1/streams/{subject}/{stream_id}").json()
    return shape


def put(api: Api, path: str, **body: Any) -> dict[str, Any]:
    answer = api.client.put(path, json=body)
    assert answer.status_code == 200, answer.text
    shape: dict[str, Any] = answer.json()
    return shape


CREDIT = {"customer_id": "acme", "kind": "credit", "usd_cents": "-100.5", "reason": "an outage"}


def adjust(api: Api, key: str = "k1", **changes: Any) -> Any:
    return api.client.post("/v1/adjustments", json={**CREDIT, **changes}, headers={"idempotency-key": key})
