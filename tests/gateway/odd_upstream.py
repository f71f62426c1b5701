"""An upstream that does what well-behaved ones do not; the model's name says what. It keeps what it was sent."""

import asyncio
import gzip
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

_WHOLE = {
    "id": "odd-1",
    "object": "chat.completion",
    "created": 1,
    "model": "odd",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Seven."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "surprise": {"kept": True}},
}


def _chunk(content: str, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    body = {"id": "odd-1", "object": "chat.completion.chunk", "created": 1, "model": "odd", "choices": [choice]}
    return b"data: " + msgspec.json.encode({**body, **more}) + b"\n\n"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class OddUpstream:
    """`bodies` and `headers` are of the last requests; `flooded` counts what a flood has sent."""

    def __init__(self) -> None:
        self.bodies: deque[bytes] = deque(maxlen=50)
        self.headers: deque[dict[str, str]] = deque(maxlen=50)
        self.flooded = 0
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        kind = msgspec.json.decode(body)["model"].removeprefix("odd-")
        if kind == "redirect":
            return RedirectResponse("http://127.0.0.1:9/v1/chat/completions", status_code=307)
        if kind == "html-error":
            return Response("<h1>Bad Gateway</h1>", status_code=502, media_type="text/html")
        if kind == "not-json":
            return Response("hello", media_type="application/json")
        if kind == "gzip":
            zipped = gzip.compress(msgspec.json.encode(_WHOLE))
            return Response(zipped, media_type="application/json", headers={"content-encoding": "gzip"})
        if kind == "flood":
            return StreamingResponse(self._flood(), media_type="text/event-stream")
        if kind in ("bytewise", "no-done", "no-finish", "lingers", "usage-early", "huge-event", "keep-alive"):
            return StreamingResponse(_stream(kind), media_type="text/event-stream")
        return JSONResponse(_WHOLE)

    async def _flood(self) -> AsyncIterator[bytes]:
        """Comments of 64 KiB, as fast as they are taken."""
        for self.flooded in range(10_000):
            yield b": " + b"x" * 65_536 + b"\n\n"


async def _stream(kind: str) -> AsyncIterator[bytes]:
    if kind == "bytewise":
        whole = _chunk("Sieben Kisten — ") + b": ping\r\n\r\n" + _chunk("🌊", "stop") + b"data:[DONE]\n\n"
        for byte in whole:
            yield bytes([byte])
    elif kind == "huge-event":
        yield _chunk("Seven")
        for _ in range(200):
            yield b"x" * 65_536
    elif kind == "keep-alive":
        for _ in range(8):
            yield b": still thinking\n\n"
            await asyncio.sleep(0.1)
        yield _chunk("Seven.", "stop") + b"data: [DONE]\n\n"
    elif kind == "usage-early":
        yield _chunk("", usage=_usage(11, 0))
        yield _chunk("one two three four five")
        await asyncio.sleep(30)
    else:
        yield _chunk("Seven")
        yield _chunk(" crates.", None if kind == "no-finish" else "stop")
        if kind == "lingers":
            yield b"data: [DONE]\n\n"
            await asyncio.sleep(30)
