"""The relay of one answer: from the upstream to the client, counted on the way, byte for byte."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from metering.answers.chunks import EventTooLargeError, SseEvent, SseParser
from metering.answers.json_reading import decode_object, read_documents
from metering.answers.usage import usage_objects
from metering.answers.words import error_code, type_of
from metering.emitter.meter import StreamMeter
from metering.gateway.client import Client, Headers
from metering.gateway.cost_field import whole_with_cost_field, with_cost_field
from metering.gateway.metrics import Metrics
from metering.gateway.problems import UpstreamFailedError, upstream_failed
from metering.gateway.requests import CompletionRequest
from metering.gateway.upstream import UpstreamAnswer

# How long the upstream may take to end its answer after [DONE].
LINGER_SECONDS = 1.0
_DONE = b"[DONE]"
# The last events of answers that do not end with [DONE].
_LAST_EVENTS = frozenset(
    {
        "message_stop",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "image_generation.completed",
        "image_edit.completed",
        "speech.audio.done",
        "transcript.text.done",
    }
)
# An object with one of these is an answer, though it may name an error as well.
_ANSWERS = ("choices", "output", "content", "data")
# Counting more text than this in the event loop would hold up the other streams.
_INLINE_BYTES = 64 << 10
_BAD_GATEWAY = 502
_HIGHEST_STATUS = 599

T = TypeVar("T")


@dataclass(slots=True)
class Progress:
    """The state of the upstream's answer.

    `draining`: the client has left, and the answer is read on for its usage, so that output is not delivered any
    more. `finishing`: it left after the last token, and only the usage is waited for. `leaving`: it has left, and
    only what the upstream writes before it notices is read.
    """

    upstream_finished: bool = False
    draining: bool = False
    finishing: bool = False
    leaving: bool = False
    error: str | None = None


class Relay:
    """Relays one answer."""

    def __init__(
        self,
        *,
        client: Client,
        meter: StreamMeter,
        progress: Progress,
        request: CompletionRequest,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._meter = meter
        self._progress = progress
        self._any_answer = request.endpoint.any_answer
        self._hides_usage = request.hides_usage
        self._metrics = metrics
        self._parser = SseParser()

    async def relay(self, answer: UpstreamAnswer) -> None:
        """Pass the answer on until its end.

        Raises:
            UpstreamFailedError: the answer broke off before it was finished.
        """
        status = answer.status if answer.status <= _HIGHEST_STATUS else _BAD_GATEWAY
        if answer.status < 400 and not answer.is_encoded and await answer.is_event_stream():
            await self._relay_events(answer, status, answer.headers)
        elif answer.status < 400 and self._any_answer and "json" not in answer.content_type:
            await self._relay_bytes(answer, status, answer.headers)
        else:
            await self._relay_whole(answer, status, answer.headers)

    async def relay_error(self, answer: UpstreamAnswer, body: bytes) -> None:
        """Pass on an error of the upstream whose body was read already."""
        await self._pass_whole(answer, min(answer.status, _HIGHEST_STATUS), answer.headers, body)

    async def _relay_bytes(self, answer: UpstreamAnswer, status: int, headers: Headers) -> None:
        """Audio or text, which says nothing of its usage, as it comes."""
        await self._client.send_headers(status, headers)
        while data := await answer.read():
            await self._client.send_body(data)
        self._progress.upstream_finished = True
        await self._client.finish()

    async def _relay_whole(self, answer: UpstreamAnswer, status: int, headers: Headers) -> None:
        await self._pass_whole(answer, status, headers, await answer.body())

    async def _pass_whole(self, answer: UpstreamAnswer, status: int, headers: Headers, body: bytes) -> None:
        """A completion or an error in one piece."""
        if len(body) > _INLINE_BYTES:
            await _in_thread(lambda: self._count_whole(answer, body))
        else:
            self._count_whole(answer, body)
        self._progress.upstream_finished = True
        if self._progress.error is not None and status < 400 and self._is_only_an_error(body):
            # SDKs take an error with the status 200 for an empty answer.
            status = _BAD_GATEWAY
        if status < 400 and not answer.is_encoded:
            body = whole_with_cost_field(body)
        await self._client.send_whole(status, headers, body)

    def _count_whole(self, answer: UpstreamAnswer, body: bytes) -> None:
        documents = None if answer.is_encoded else read_documents(body)
        progress = self._progress
        if answer.status >= 400:
            progress.error = error_code(documents[0] if documents else {}) or f"http_{answer.status}"
            return
        delivered = not progress.draining
        if documents is None:
            progress.error = "upstream_invalid_json"
            self._metrics.unreadable += 1
            self._meter.take_unreadable(len(body), delivered=delivered)
            return
        for document in documents:
            self._meter.take(document, delivered=delivered)
            progress.error = progress.error or error_code(document)

    @staticmethod
    def _is_only_an_error(body: bytes) -> bool:
        document = decode_object(body)
        return document is not None and not any(document.get(name) for name in _ANSWERS)

    async def _relay_events(self, answer: UpstreamAnswer, status: int, headers: Headers) -> None:
        """A completion in events, each passed on as soon as it is complete."""
        await self._client.send_headers(status, headers)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as linger:
                while data := await answer.read():
                    await self._pass_on(self._parser.feed(data))
                    if self._progress.finishing and self._meter.has_final_usage:
                        break
                    if self._progress.upstream_finished and linger.when() is None:
                        linger.reschedule(loop.time() + LINGER_SECONDS)
            await self._pass_rest()
        except EventTooLargeError as error:
            raise upstream_failed(status=502, message=str(error), code="upstream_event_too_large") from error
        except (TimeoutError, UpstreamFailedError):
            await self._pass_rest()
            if not (self._progress.upstream_finished or self.is_complete or self._progress.error):
                raise
        if not (self._meter.is_finished or self._progress.upstream_finished or self._progress.error):
            message = "The upstream ended its answer before it was finished."
            raise upstream_failed(status=502, message=message, code="upstream_incomplete")
        self._progress.upstream_finished = True
        await self._client.finish()

    @property
    def is_complete(self) -> bool:
        """Whether every choice has finished and its usage is known, whatever the connection does now."""
        return self._meter.is_finished and self._meter.has_final_usage

    async def _pass_rest(self) -> None:
        """The last event, if only the empty line after it is missing; half an event is dropped."""
        for event in self._parser.finish():
            if event.data is None or event.data.strip() == _DONE or decode_object(event.data) is not None:
                await self._pass_on([event])

    async def _pass_on(self, events: list[SseEvent]) -> None:
        """Count the events, then send those that are for the client. Waits while the client is slow."""
        shown: list[bytes] = []
        for event in events:
            if len(event.raw) > _INLINE_BYTES:
                visible = await _in_thread(lambda event=event: self._examine(event))  # type: ignore[misc]
            else:
                visible = self._examine(event)
            if visible is not None:
                shown.append(visible)
        self._metrics.chunks += len(events)
        if shown and self._client.takes:
            await self._client.send_body(shown[0] if len(shown) == 1 else b"".join(shown))
        if len(events) > 1:
            # After a burst it is the others' turn.
            await asyncio.sleep(0)

    def _examine(self, event: SseEvent) -> bytes | None:
        """Count the output of an event; returns what the client gets of it, or None."""
        data = event.data
        if not data:
            return event.raw
        document = decode_object(data)
        if document is None:
            self._note_unreadable(data)
            return event.raw
        self._meter.take(document, delivered=not self._progress.draining)
        if "choices" not in document or "error" in document:
            self._note_ending(document)
        if self._hides_usage and not document.get("choices") and is_usage_only(document):
            return None
        return event.raw if self._hides_usage or b'"usage"' not in data else with_cost_field(event.raw, document)

    def _note_ending(self, document: dict[str, Any]) -> None:
        """Errors, and the last events of the formats that have no [DONE]."""
        progress = self._progress
        progress.error = progress.error or error_code(document)
        if type_of(document) in _LAST_EVENTS:
            progress.upstream_finished = True

    def _note_unreadable(self, data: bytes) -> None:
        if data.strip() == _DONE:
            self._progress.upstream_finished = True
            return
        documents = read_documents(data)
        for document in documents or ():
            self._meter.take(document, delivered=not self._progress.draining)
        if documents is None and data.strip() not in _EMPTY_VALUES:
            self._metrics.unreadable += 1
            self._meter.take_unreadable(len(data), delivered=not self._progress.draining)


_EMPTY_VALUES = frozenset({b"", b"null", b"{}", b"[]", b'""', b"true", b"false"})


def is_usage_only(document: dict[str, Any]) -> bool:
    """Whether this is the extra chunk of `stream_options.include_usage`: usage, and no answer."""
    return not document.get("choices") and not document.get("error") and bool(usage_objects(document))


async def _in_thread(work: Callable[[], T]) -> T:
    """Run work in a thread; a cancellation waits for it, so that no other task touches what it changes."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise
