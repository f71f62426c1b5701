"""`POST /v1/events`: plain ASGI around the writer, since this path is walked 100,000 times a second."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from metering.api.auth import Authenticator, require_ingest
from metering.api.errors import NoEventAcceptedError
from metering.api.problems import error_response
from metering.core.errors import MeteringError
from metering.events.store import JournalEntry, stream_hashes
from metering.events.wire.bodies import pack_body
from metering.events.wire.decode import NDJSON, Decoded, decode_json, decode_ndjson
from metering.events.wire.rejections import Rejection
from metering.streams.ingest.body import inflate, media_type_of, receive_body
from metering.streams.ingest.fold import fold_wire
from metering.streams.ingest.metrics import EVENTS_ACCEPTED, EVENTS_REJECTED
from metering.streams.ingest.writer import IngestWriter, Submission

_encode = msgspec.json.Encoder().encode


class Accepted(msgspec.Struct, frozen=True):
    """The answer once the accepted events are durable."""

    accepted: int
    rejected: list[Rejection]


class IngestEndpoint:
    """Authenticates, decodes, has the writer commit, and answers only then. An ASGI application."""

    def __init__(
        self,
        *,
        writer: IngestWriter,
        authenticator: Authenticator,
        clock: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._authenticator = authenticator
        self._clock = clock
        # One request is decoded in a turn of the event loop, so that the writer is never kept from its database
        # for longer than that: without it, all that wait are decoded first, and PostgreSQL idles meanwhile.
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except MeteringError as error:
            response = error_response(error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        headers = request.headers
        key = await self._authenticator.key_async(headers.get("authorization"))
        require_ingest(key)
        media_type = media_type_of(headers.get("content-type", ""))
        sent = await receive_body(request.stream())
        async with self._turn:
            decoded, submission = self._read(key.key_id, media_type, headers.get("content-encoding", ""), sent)
            await asyncio.sleep(0)
        await self._writer.submit(submission)
        EVENTS_ACCEPTED.inc(len(decoded.events))
        EVENTS_REJECTED.inc(len(decoded.rejections))
        answer = Accepted(len(decoded.events), list(decoded.rejections))
        return Response(_encode(answer), media_type="application/json")

    def _read(self, key_id: str, media_type: str, encoding: str, sent: bytes) -> tuple[Decoded, Submission]:
        body = inflate(sent, encoding=encoding)
        decoded = decode_ndjson(body) if media_type == NDJSON else decode_json(body)
        if not decoded.events:
            EVENTS_REJECTED.inc(len(decoded.rejections))
            raise NoEventAcceptedError(decoded.rejections)
        return decoded, self._submission(key_id, media_type, body, decoded)

    def _submission(self, key_id: str, media_type: str, body: bytes, decoded: Decoded) -> Submission:
        streams = fold_wire(decoded.events)
        return Submission(
            JournalEntry(
                ingest_key_id=key_id,
                received_at=self._clock(),
                media_type=media_type or "application/json",
                event_count=len(decoded.events),
                rejected=[rejection.index for rejection in decoded.rejections] or None,
                body=pack_body(body),
                stream_hashes=stream_hashes(streams),
            ),
            streams,
        )


OPENAPI: dict[str, Any] = {
    "summary": "Post usage events",
    "description": "CloudEvents 1.0 in JSON: one event, an array, or one a line (application/x-ndjson). Answered "
    "once the accepted events are committed with fsync. Sending anything again is harmless.",
    "security": [{"HTTPBearer": []}],
    "requestBody": {
        "required": True,
        "content": {
            media_type: {"schema": {"type": "object"}}
            for media_type in (
                "application/cloudevents+json",
                "application/cloudevents-batch+json",
                "application/json",
                NDJSON,
            )
        },
    },
    "responses": {
        "200": {
            "description": "The accepted events are durable; each rejected one has its index, id, code and detail."
        },
        "401": {"description": "No valid key"},
        "403": {"description": "The key may not post events"},
        "413": {"description": "More than 8 MiB or 10,000 events"},
        "415": {"description": "Unsupported Content-Type or Content-Encoding"},
        "422": {"description": "No event was accepted"},
        "503": {"description": "Not stored: send again after Retry-After seconds"},
    },
}
