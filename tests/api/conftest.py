"""A real API server on a fresh database, on a port of its own, and a client that is signed in."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import uvicorn

from metering.access.manage_access import create_key
from metering.access.store.keys import Role
from metering.api.app import create_app
from metering.api.server import protocol_with_deadline
from metering.ledger.finalize_due import finalize_due
from metering.server.bootstrap import Service, build_service
from metering.server.embedded.data_dir import Services
from tests.api.described import check_answers
from tests.database import clone

NOW = datetime(2026, 11, 23, 16, tzinfo=UTC)


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
            patience=self.service.patience,
            now=datetime.now(UTC),
            limit=1000,
        )

    def client_with(self, role: Role, customer_id: str | None = None) -> httpx2.Client:
        """A client with a new key."""
        key = create_key(engine=self.service.engine, role=role, name="test", customer_id=customer_id, now=NOW)
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"})


@contextmanager
def signed_in(service: Service) -> Iterator[Api]:
    """The API of a service as it runs in production, in a thread."""
    with run_server(service) as url:
        key = create_key(engine=service.engine, role=Role.ADMIN, name="test", customer_id=None, now=NOW)
        headers, hooks = {"authorization": f"Bearer {key}"}, {"response": [check_answers(service)]}
        with httpx2.Client(base_url=url, headers=headers, timeout=20, event_hooks=hooks) as client:
            yield Api(url, client, service)


@pytest.fixture
def api(rated_service: Service) -> Iterator[Api]:
    """An API on a database of this test's own."""
    with signed_in(rated_service) as running:
        yield running


@pytest.fixture(scope="module")
def shared_api(services: Services, rated_template: str) -> Iterator[Api]:
    """One API for the tests of a module that leave nothing behind."""
    with clone(services, rated_template) as database, signed_in(build_service(database.settings())) as running:
        yield running


class run_server:
    """Serve a service's API in a thread until the block ends."""

    def __init__(self, service: Service) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(service),
                port=0,
                http=protocol_with_deadline(service.settings.request_timeout),
                log_config=None,
                lifespan="on",
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()


def event(kind: str, data: dict[str, Any], *, subject: str = "acme", **changes: Any) -> dict[str, Any]:
    """A CloudEvent of the contract."""
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/gateways/test",
        "id": f"{data.get('stream_id')}:{kind}:{data.get('seq', '')}",
        "subject": subject,
        "time": "2026-11-23T15:00:00.123Z",
        "data": data,
        **changes,
    }


def start(stream_id: str = "s", **changes: Any) -> dict[str, Any]:
    """A stream-start."""
    data = {"stream_id": stream_id, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}
    return event("stream-start", {**data, **changes})


def delivered(stream_id: str = "s", tokens: int = 20, seq: int = 1) -> dict[str, Any]:
    """A token-delivered."""
    return event("token-delivered", {"stream_id": stream_id, "seq": seq, "output_tokens": tokens})


def end(stream_id: str = "s", output: int = 37, time: str = "2026-11-23T15:00:04.500Z") -> dict[str, Any]:
    """A stream-end."""
    data = {
        "stream_id": stream_id,
        "outcome": "cancelled",
        "usage": {"input_tokens": 812, "output_tokens": output},
        "usage_source": "gateway_count",
    }
    return event("stream-end", data, time=time)
