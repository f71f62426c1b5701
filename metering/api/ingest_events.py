"""`POST /v1/events`: plain ASGI around the writer, since this path is walked 100,000 times a second."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from metering.api.auth import Authenticator, require_ingest
from metering.api.errors import NoEventAcceptedError
from metering.domain.stream import fold
from metering.ingest.body import NDJSON, inflate, media_type_of, receive
from metering.ingest.decode import Decoded, decode_json, decode_ndjson
from metering.ingest.rejections import Rejection
from metering.ingest.writer import IngestWriter, Submission
from metering.store.journal import JournalEntry, compress
from metering.telemetry import EVENTS_ACCEPTED, EVENTS_REJECTED

_encode = msgspec.json.Encoder().encode


class Accepted(msgspec.Struct, frozen=True):
    """The answer once the accepted events are durable."""

    accepted: int
    rejected: list[Rejection]


class IngestEndpoint:
    """Authenticates, decodes, has the writer commit, and answers only then."""

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

    async def __call__(self, request: Request) -> Response:
        """The answer to one request.

        Raises:
            MeteringError: what `metering.api.problems` answers.
        """
        headers = request.headers
        key = await self._authenticator.key_async(headers.get("authorization"))
        require_ingest(key)
        media_type = media_type_of(headers.get("content-type", ""))
        try:
            sent = await receive(request.stream())
        except ClientDisconnect:
            return Response(status_code=499)
        body = inflate(sent, encoding=headers.get("content-encoding", ""))
        decoded = decode_ndjson(body) if media_type == NDJSON else decode_json(body)
        if not decoded.events:
            EVENTS_REJECTED.inc(len(decoded.rejections))
            raise NoEventAcceptedError(decoded.rejections)
        await self._writer.submit(self._submission(key.key_id, media_type, body, decoded))
        EVENTS_ACCEPTED.inc(len(decoded.events))
        EVENTS_REJECTED.inc(len(decoded.rejections))
        answer = Accepted(len(decoded.events), list(decoded.rejections))
        return Response(_encode(answer), media_type="application/json")

    def _submission(self, key_id: str, media_type: str, body: bytes, decoded: Decoded) -> Submission:
        return Submission(
            JournalEntry(
                ingest_key_id=key_id,
                received_at=self._clock(),
                media_type=media_type or "application/json",
                event_count=len(decoded.events),
                rejected=[rejection.index for rejection in decoded.rejections] or None,
                body=compress(body),
            ),
            fold(decoded.events),
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
