"""A local OpenAI-compatible upstream for the demo and the tests. It has no model and streams a fixed text.

Every answer has the header `x-demo-upstream: 1`. The request header `x-upstream-scenario` controls the behaviour,
see `upstream_answer.Scenario`. `GET /_sent` returns what was sent, to check the gateway's figures with.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from metering.lab.demo.upstream_answer import (
    SCENARIO_HEADER,
    Answer,
    Scenario,
    ScenarioError,
    compose,
    parse_scenario,
)
from metering.lab.stripe_local.app import DroppingProtocol

DEFAULT_RATE = 100.0
_MAX_RECORDS = 10_000
_STALL_SECONDS = 60.0
_POLL_SECONDS = 0.02


@dataclass(slots=True, kw_only=True)
class Sent:
    """What one request has been sent so far."""

    request_id: str
    request_hash: str
    model: str
    streaming: bool
    prompt_tokens: int = 0
    tokens_sent: int = 0
    finished: bool = False
    disconnected: bool = False
    dropped: bool = False
    status: int = 200


def create_upstream(*, rate: float = DEFAULT_RATE) -> Starlette:
    """The upstream as an ASGI application, to be served with `http=DroppingProtocol`; `rate` is in tokens/s."""
    upstream = _Upstream(rate)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", upstream.complete, methods=["POST"]),
            Route("/_sent", upstream.list_sent),
        ]
    )


def upstream_config(*, host: str, port: int, rate: float = DEFAULT_RATE) -> uvicorn.Config:
    """The configuration of a server that shares its process with others."""
    app = create_upstream(rate=rate)
    return uvicorn.Config(app, host=host, port=port, http=DroppingProtocol, log_level="critical")


def run(*, host: str = "127.0.0.1", port: int = 8090, rate: float = DEFAULT_RATE) -> None:
    """Serve until SIGINT or SIGTERM."""
    uvicorn.Server(upstream_config(host=host, port=port, rate=rate)).run()


class _Upstream:
    """Answers requests and records the last 10,000."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._sent: deque[Sent] = deque(maxlen=_MAX_RECORDS)
        self._drops: OrderedDict[str, int] = OrderedDict()
        self._count = 0

    async def list_sent(self, _: Request) -> Response:
        """`GET /_sent`."""
        return JSONResponse([asdict(record) for record in self._sent], headers={"x-demo-upstream": "1"})

    async def complete(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await request.body()
        try:
            scenario = parse_scenario(header=request.headers.get(SCENARIO_HEADER, ""))
            document = msgspec.json.decode(body, type=dict[str, Any])
            answer = compose(request=document, scenario=scenario)
        except (ScenarioError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            return _error(400, f"{type(error).__name__}: {error}", "invalid_request", "")
        record = self._open_record(body, document, answer)
        # Only the wait polls for a disconnect; Starlette does it for a streamed answer.
        if not await _sleep_connected(request, scenario.delay):
            record.disconnected = True
            return Response(status_code=499)
        if self._drops_now(record.request_hash, scenario):
            record.dropped = True
            await _drop_connection(request)
            return Response(status_code=499)
        if scenario.status != 200:
            record.status = scenario.status
            return _error(
                scenario.status, "The scenario asks for this error.", f"demo_{scenario.status}", record.request_id
            )
        sender = _Sender(request, document, scenario, answer, record, scenario.rate or self._rate)
        return sender.stream() if document.get("stream") else await sender.whole()

    def _open_record(self, body: bytes, document: dict[str, Any], answer: Answer) -> Sent:
        self._count += 1
        record = Sent(
            request_id=f"req_demo{self._count}",
            request_hash=hashlib.sha256(body).hexdigest(),
            model=str(document.get("model")),
            streaming=bool(document.get("stream")),
            prompt_tokens=answer.prompt_tokens,
        )
        self._sent.append(record)
        return record

    def _drops_now(self, request_hash: str, scenario: Scenario) -> bool:
        dropped = self._drops.get(request_hash, 0)
        if dropped >= scenario.drop_first:
            return False
        self._drops[request_hash] = dropped + 1
        if len(self._drops) > _MAX_RECORDS:
            self._drops.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends one answer and records its progress."""

    request: Request
    document: dict[str, Any]
    scenario: Scenario
    answer: Answer
    record: Sent
    rate: float

    def stream(self) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers=self._headers())

    async def whole(self) -> Response:
        seconds = self.scenario.first_token_delay + self.answer.completion_tokens / self.rate
        if not await _sleep_connected(self.request, seconds):
            self.record.disconnected = True
            return Response(status_code=499)
        choices = []
        for index, reason in enumerate(self.answer.finish_reasons):
            message = _merged([step.delta for step in self.answer.deltas if step.choice == index])
            choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
        document = self._envelope("chat.completion", choices)
        if self.scenario.usage:
            document["usage"] = self._usage()
        self.record.tokens_sent = self.answer.completion_tokens
        self.record.finished = True
        return JSONResponse(document, headers=self._headers())

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks():
                yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"
            if self.record.status == 200:
                yield b"data: [DONE]\n\n"
                self.record.finished = True
        finally:
            completed = self.record.finished or self.record.dropped or self.record.status != 200
            self.record.disconnected = not completed

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        for index in range(len(self.answer.finish_reasons)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        began = time.monotonic() + self.scenario.first_token_delay
        for step in self.answer.deltas:
            await asyncio.sleep(max(0.0, began + self.record.tokens_sent / self.rate - time.monotonic()))
            if self.record.tokens_sent == self.scenario.error_after:
                self.record.status = 500
                yield {
                    "error": {
                        "message": "The scenario asks for this error.",
                        "type": "server_error",
                        "code": "overloaded",
                    }
                }
                return
            await self._interrupt()
            self.record.tokens_sent += step.tokens
            yield self._chunk(step.choice, step.delta)
        for index, reason in enumerate(self.answer.finish_reasons):
            yield self._chunk(index, {}, reason)
        if self._wants_usage():
            yield {**self._envelope("chat.completion.chunk", []), "usage": self._usage()}

    async def _interrupt(self) -> None:
        """Drop the connection, or stall, where the scenario asks for it."""
        if self.record.tokens_sent == self.scenario.drop_after:
            self.record.dropped = True
            await _drop_connection(self.request)
        if self.record.tokens_sent == self.scenario.stall_after:
            await asyncio.sleep(_STALL_SECONDS)

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        chunk = self._envelope("chat.completion.chunk", [choice])
        return {**chunk, "usage": None} if self._wants_usage() else chunk

    def _wants_usage(self) -> bool:
        options = self.document.get("stream_options") or {}
        return bool(options.get("include_usage")) and self.scenario.usage

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        model = f"{self.record.model}-2026-11-01" if self.scenario.snapshot else self.record.model
        return {
            "id": f"chatcmpl-{self.record.request_id}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "choices": choices,
        }

    def _usage(self) -> dict[str, Any]:
        prompt, completion = self.answer.prompt_tokens, self.answer.completion_tokens
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        if self.scenario.cached is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": min(self.scenario.cached, prompt)}
        if self.answer.reasoning_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.answer.reasoning_tokens}
        return usage

    def _headers(self) -> dict[str, str]:
        return {"x-demo-upstream": "1", "x-request-id": self.record.request_id}


def _merged(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the deltas of one choice make."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for delta in deltas:
        for name in ("content", "reasoning_content"):
            if name in delta:
                message[name] = (message.get(name) or "") + delta[name]
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                opening = {key: value for key, value in call.items() if key != "index"}
                message.setdefault("tool_calls", []).append({**opening, "function": dict(call["function"])})
            else:
                message["tool_calls"][-1]["function"]["arguments"] += call["function"]["arguments"]
    return message


async def _sleep_connected(request: Request, seconds: float) -> bool:
    """Sleep; returns False as soon as the client has disconnected."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, _POLL_SECONDS))
        if await request.is_disconnected():
            return False
    return True


async def _drop_connection(request: Request) -> None:
    """Close the connection before the end of the answer. Bytes that were written still arrive."""
    request.state.transport.close()
    await asyncio.sleep(_POLL_SECONDS)


def _error(status: int, message: str, code: str, request_id: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {"x-demo-upstream": "1", "x-request-id": request_id}
    if status == 429:
        headers["retry-after"] = "1"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
