"""A small real HTTP server that takes usage events as the ingest API does, and fails on demand."""

import asyncio
import gzip
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metering.emitter import Emitter

StartEmitter = Callable[..., Emitter]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], bool], *, what: str, seconds: float = 60.0, every: float = 0.01) -> None:
    """Wait until `check` holds, asking `every` so many seconds; fail saying `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s: {what}"
        time.sleep(every)


class RunningServer:
    """An ASGI app under uvicorn in a thread, on a loopback port."""

    def __init__(self, app: Any, *, port: int | None = None, **config: Any) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="critical", **config)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self._server.started, what=f"the server on port {self.port} starts")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive(), "the server did not stop"


@dataclass(frozen=True)
class Answer:
    """What the sink answers to the next request instead of taking it."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    hang_seconds: float = 0.0
    reject_ids: frozenset[str] = frozenset()
    max_events: int | None = None
    warn_of: tuple[str, ...] = ()


class IngestSink:
    """Keeps each accepted event by id. `plan` holds answers for the next requests, `always` for all others.

    `stop` names streams that have to end.
    """

    def __init__(self) -> None:
        self.url = ""
        self.events: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []
        self.plan: deque[Answer] = deque()
        self.always = Answer()
        self.stop: set[str] = set()
        self.app = Starlette(routes=[Route("/v1/events", self._take, methods=["POST"])])

    def of_stream(self, stream_id: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events.values()) if event["data"]["stream_id"] == stream_id]

    async def _take(self, request: Request) -> Response:
        answer = self.plan.popleft() if self.plan else self.always
        body = await request.body()
        zipped = request.headers.get("content-encoding") == "gzip"
        events = json.loads(gzip.decompress(body) if zipped else body)
        self.requests.append({"headers": dict(request.headers), "count": len(events), "status": answer.status})
        await asyncio.sleep(answer.hang_seconds)
        if answer.max_events is not None and len(events) > answer.max_events:
            self.requests[-1]["status"] = 413
            return JSONResponse({"title": "Too large"}, status_code=413)
        if answer.status != 200:
            return JSONResponse({"title": "as planned"}, status_code=answer.status, headers=dict(answer.headers))
        return self._store(events, answer)

    def _store(self, events: list[dict[str, Any]], answer: Answer) -> Response:
        rejected = []
        for index, event in enumerate(events):
            if event["id"] in answer.reject_ids:
                reason = {"code": "invalid-field", "detail": "data.seq: as planned"}
                rejected.append({"index": index, "id": event["id"], **reason})
            else:
                self.events[event["id"]] = event
        accepted = len(events) - len(rejected)
        content: dict[str, Any] = {"accepted": accepted, "rejected": rejected}
        if answer.warn_of:
            warned = [(index, field) for index in range(len(events)) for field in answer.warn_of]
            hints = {"hint": "unknown field: it is kept and not used"}
            content["warnings"] = [{"index": index, "field": field, **hints} for index, field in warned]
        named = {event["data"]["stream_id"] for event in events if event["type"] == "token-delivered"}
        if stop := sorted(self.stop & named):
            content["stop"] = stop
        return JSONResponse(content, status_code=200 if accepted or not events else 422)
