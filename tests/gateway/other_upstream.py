"""An upstream for the endpoints beside chat, as OpenAI and Anthropic describe them; its model says how it ends.

`…-plain` reports usage; `-silent` reports none, or zeros; `-drop` breaks off after three words; `-error` sends an
error then; `-slow` waits between words; `-endless` repeats each word; `-refused` answers 429. It keeps what it was
sent and what it has written.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = tuple(f" {word}" for word in ["three", "rings", "for", "the", "old", "kings", "under", "the", "sky"])
BROKEN_AFTER = 3
_REPEATED = 500
_PAUSES = {"slow": 0.25, "endless": 0.02}
AUDIO = bytes(range(256)) * 40
Event = dict[str, Any]


@dataclass
class Asked:
    """A request, and what was written as its answer."""

    path: str
    headers: dict[str, str]
    body: bytes
    words: int = 0
    done: bool = False


class _Dropped(Exception):
    """The connection breaks here."""


class OtherUpstream:
    """`asked` has the last requests."""

    def __init__(self) -> None:
        self.asked: deque[Asked] = deque(maxlen=100)
        paths = {
            "/completions": _completion_events,
            "/responses": _response_events,
            "/messages": _message_events,
            "/images/generations": _image_events,
            "/images/edits": _image_events,
            "/audio/transcriptions": _transcript_events,
            "/audio/translations": _transcript_events,
            "/audio/speech": _speech_events,
        }
        routes = [Route(f"/v1{path}", self._endpoint(events), methods=["POST"]) for path, events in paths.items()]
        self.app = Starlette(routes=[*routes, Route("/v1/embeddings", self._embeddings, methods=["POST"])])

    def of_path(self, path: str) -> Asked:
        """The last request to a path."""
        return next(each for each in reversed(self.asked) if each.path == path)

    async def _note(self, request: Request) -> tuple[Asked, dict[str, Any]]:
        body = await request.body()
        asked = Asked(request.url.path.removeprefix("/v1"), dict(request.headers), body)
        self.asked.append(asked)
        if request.headers["content-type"].startswith("multipart/"):
            return asked, dict(await request.form())
        return asked, json.loads(body)

    def _endpoint(self, events: "Callable[[str, bool], Iterator[Event]]") -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            asked, given = await self._note(request)
            model = str(given["model"])
            if model.endswith("-refused"):
                refusal = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limited"}}
                return JSONResponse({"type": "error", **refusal}, status_code=429)
            if str(given.get("stream")).lower() in ("true", "1"):
                named = asked.path in ("/messages", "/responses")
                written = self._written(asked, model, events(model, True), named=named)
                return StreamingResponse(written, media_type="text/event-stream")
            asked.done = True
            if asked.path == "/audio/speech":
                return Response(AUDIO, media_type="audio/mpeg")
            whole = list(events(model, False))[-1]
            if given.get("response_format") == "text":
                return Response(whole["text"], media_type="text/plain; charset=utf-8")
            return JSONResponse(whole)

        return answer

    async def _written(
        self, asked: Asked, model: str, events: Iterator[Event], *, named: bool
    ) -> AsyncIterator[bytes]:
        ends_badly = model.endswith(("-drop", "-error"))
        for event in events:
            is_word = event.pop("word", False)
            if is_word and ends_badly and asked.words == BROKEN_AFTER:
                if model.endswith("-drop"):
                    raise _Dropped
                error = {"type": "overloaded_error", "message": "overloaded", "code": "overloaded"}
                yield _framed({"type": "error", "error": error}, named=named)
                return
            for _ in range(_REPEATED if is_word and model.endswith("-endless") else 1):
                yield _framed(event, named=named)
                asked.words += is_word  # once it is written
                await asyncio.sleep(_PAUSES.get(model.rpartition("-")[2], 0.0))
        asked.done = True

    async def _embeddings(self, request: Request) -> Response:
        _, given = await self._note(request)
        inputs = given["input"] if isinstance(given["input"], list) else [given["input"]]
        data = [{"object": "embedding", "index": index, "embedding": [0.1, 0.2]} for index, _ in enumerate(inputs)]
        usage = {} if given["model"].endswith("-silent") else {"usage": {"prompt_tokens": 9, "total_tokens": 9}}
        return JSONResponse({"object": "list", "data": data, "model": given["model"], **usage})


def _framed(event: Event, *, named: bool) -> bytes:
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode() if event != {"done": True} else b"data: [DONE]\n\n"


def _silent(model: str) -> bool:
    return model.endswith("-silent")


def _completion_events(model: str, streaming: bool) -> Iterator[Event]:
    base = {"id": "cmpl-7", "object": "text_completion", "created": 1, "model": model}
    usage = {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52}
    for word in WORDS:
        yield {**base, "choices": [{"index": 0, "text": word, "finish_reason": None}], "word": True}
    yield {**base, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    if not _silent(model):
        yield {**base, "choices": [], "usage": usage}
    yield {"done": True}
    if not streaming:
        choice = {"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}
        yield {**base, "choices": [choice], **({} if _silent(model) else {"usage": usage})}


def _response_events(model: str, streaming: bool) -> Iterator[Event]:
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 30},
        "total_tokens": 52,
    }
    part = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}

    def response(status: str, **more: Any) -> Event:
        base = {"id": "resp_7", "object": "response", "created_at": 1, "model": model, "status": status}
        fixed = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "error": None}
        return {**base, **fixed, "output": [], "incomplete_details": None, "usage": None, **more}

    number = iter(range(1_000))
    yield {"type": "response.created", "sequence_number": next(number), "response": response("in_progress")}
    for word in WORDS:
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
        delta = {"type": "response.output_text.delta", "sequence_number": next(number), **place, "delta": word}
        yield {**delta, "word": True}
    whole = response("completed", output=[message], usage=None if _silent(model) else usage)
    yield {"type": "response.completed", "sequence_number": next(number), "response": whole}
    if not streaming:
        yield whole


def _message_events(model: str, streaming: bool) -> Iterator[Event]:
    entered = {"input_tokens": 4, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 0}
    # The stock client insists on a usage.
    nothing = {"input_tokens": 0, "output_tokens": 0}
    begun = {"usage": nothing if _silent(model) else {**entered, "output_tokens": 1}}
    base = {"id": "msg_7", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
    yield {"type": "message_start", "message": {**base, "content": [], "stop_reason": None, **begun}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for word in WORDS:
        delta = {"type": "text_delta", "text": word}
        yield {"type": "content_block_delta", "index": 0, "delta": delta, "word": True}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"usage": {"output_tokens": 0 if _silent(model) else 40}}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, **ended}
    yield {"type": "message_stop"}
    if not streaming:
        content = [{"type": "text", "text": "".join(WORDS)}]
        usage = {"usage": nothing if _silent(model) else {**entered, "output_tokens": 40}}
        yield {**base, "content": content, "stop_reason": "end_turn", **usage}


def _image_events(model: str, streaming: bool) -> Iterator[Event]:
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
        "output_tokens": 4_160,
        "total_tokens": 4_172,
    }
    told = {} if _silent(model) else {"usage": usage}
    yield {"type": "image_generation.partial_image", "b64_json": "QUJD", "partial_image_index": 0}
    yield {"type": "image_generation.completed", "b64_json": "QUJDREVG", **told}
    if not streaming:
        yield {"created": 1, "data": [{"b64_json": "QUJDREVG"}], **told}


def _transcript_events(model: str, streaming: bool) -> Iterator[Event]:
    usage = (
        {"type": "duration", "seconds": 9}
        if "whisper" in model
        else {
            "type": "tokens",
            "input_tokens": 90,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 90},
            "output_tokens": 10,
            "total_tokens": 100,
        }
    )
    told = {} if _silent(model) else {"usage": usage}
    for word in WORDS:
        yield {"type": "transcript.text.delta", "delta": word, "word": True}
    yield {"type": "transcript.text.done", "text": "".join(WORDS), **told}
    if not streaming:
        yield {"text": "".join(WORDS), **told}


def _speech_events(model: str, streaming: bool) -> Iterator[Event]:  # noqa: ARG001 - all have the same form
    yield {"type": "speech.audio.delta", "audio": "QUJD"}
    usage = {"input_tokens": 12, "output_tokens": 120, "total_tokens": 132}
    yield {"type": "speech.audio.done", **({} if _silent(model) else {"usage": usage})}
