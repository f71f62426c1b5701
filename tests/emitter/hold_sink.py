"""A small real HTTP server that answers requests for holds as the service does, and fails on demand."""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metering.lab.stripe_local.app import DroppingProtocol
from tests.emitter.sink import IngestSink, RunningServer

EXHAUSTED = {
    "type": "/problems/budget-exhausted",
    "title": "Budget exhausted",
    "detail": "budget b has 1 cents left; 2.5 are needed",
    "budget_id": "b",
    "limit_usd_cents": "10",
    "spent_usd_cents": "6",
    "held_usd_cents": "3",
    "needed_usd_cents": "2.5",
    "max_output_tokens_that_fit": 40,
    "resets_at": "2026-12-01T00:00:00Z",
}


@dataclass(frozen=True)
class HoldAnswer:
    """What is answered to the next request for a hold. `loses` makes the hold, and breaks the connection."""

    status: int = 201
    body: Any = None
    hang_seconds: float = 0.0
    loses: bool = False


class HoldSink(IngestSink):
    """Takes events, too. `asked` has the bodies of requests for holds, `held` the open holds by stream."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.released: list[str] = []
        self.held: dict[str, dict[str, Any]] = {}
        self.answers: deque[HoldAnswer] = deque()
        self.otherwise = HoldAnswer()
        self.app.router.routes += [
            Route("/v1/holds", self._hold, methods=["POST"]),
            Route("/v1/holds/{customer}/{stream}", self._release, methods=["DELETE"]),
        ]

    async def _hold(self, request: Request) -> Response:
        answer = self.answers.popleft() if self.answers else self.otherwise
        body = await request.body()
        self.asked.append(body)
        await asyncio.sleep(answer.hang_seconds)
        if answer.loses or answer.status == 201:
            given = json.loads(body)
            self.held[given["stream_id"]] = given
        if answer.loses:
            request.scope["state"]["transport"].abort()
        if answer.status != 201 or answer.body is not None:
            return JSONResponse(answer.body or {"title": "as planned"}, status_code=answer.status)
        budgets = [{"budget_id": "b", "headroom_usd_cents": "7.5", "resets_at": "2026-12-01T00:00:00Z"}]
        held = {"held_usd_cents": "2.5", "max_output_tokens": 100, "expires_at": "2026-11-30T00:02:00Z"}
        return JSONResponse({"hold_id": "hold_1", **held, "budgets": budgets}, status_code=201)

    async def _release(self, request: Request) -> Response:
        stream_id = request.path_params["stream"]
        if f"{stream_id}:start" in self.events:
            return JSONResponse({"type": "/problems/stream-started"}, status_code=409)
        self.released.append(stream_id)
        if self.held.pop(stream_id, None) is None:
            return JSONResponse({"type": "/problems/not-found"}, status_code=404)
        return Response(status_code=204)


@contextmanager
def running_hold_sink() -> Iterator[HoldSink]:
    sink = HoldSink()
    with RunningServer(sink.app, http=DroppingProtocol) as server:
        sink.url = server.url
        yield sink
