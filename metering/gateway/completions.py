"""One completion, from the client's request to its stream-end: request upstream, pass on, count, and stop.

When the client disconnects, the stream ends as cancelled. The upstream connection is closed at once, or, with
`drain_seconds`, read on for the usage at its end. The stream-end is emitted without an await, so that no
cancellation can prevent it.
"""

import asyncio
import logging
import uuid
from contextlib import aclosing
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Receive, Send

from metering.events.events import Outcome
from metering.gateway.chunks import (
    EventTooLargeError,
    SseEvent,
    SseParser,
    decode_object,
    error_code,
    is_usage_only,
)
from metering.gateway.meter import Emit, StreamIdentity, StreamMeter
from metering.gateway.problems import Problem, UpstreamFailedError, upstream_failed
from metering.gateway.requests import CompletionRequest
from metering.gateway.tokens import count_input, counter_for
from metering.gateway.upstream import UpstreamAnswer, UpstreamClient

log = logging.getLogger(__name__)

# Encoding a larger request in the event loop would delay the other streams.
_COUNT_INLINE_BYTES = 64 << 10
# How long the upstream may take to end its answer after [DONE].
_LINGER_SECONDS = 1.0
_DONE = b"[DONE]"


@dataclass(slots=True)
class _Progress:
    """The state of the answer to the client, and of the upstream's answer."""

    headers_sent: bool = False
    response_complete: bool = False
    upstream_finished: bool = False
    client_left: bool = False
    draining: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    error_type: str | None = None


class Completion:
    """Serves one completion request, and meters it."""

    def __init__(
        self, *, request: CompletionRequest, client_headers: Headers, client: UpstreamClient, emit: Emit
    ) -> None:
        self._request = request
        self._client_headers = client_headers
        self._client = client
        self._emit = emit
        self._stream_id = uuid.uuid4().hex
        self._progress = _Progress()

    async def serve(self, *, receive: Receive, send: Send) -> None:
        """Answer the client; returns after the stream-end is emitted and the upstream connection closed."""
        work = asyncio.create_task(self._work(send))
        watch = asyncio.create_task(_client_leaves(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            # uvicorn also reports a disconnect when the response is complete.
            if not self._progress.response_complete and not work.done():
                self._progress.client_left = True
                await self._drain(work)
                work.cancel()
            await asyncio.wait({work})
        finally:
            watch.cancel()
            work.cancel()
            await asyncio.wait({work, watch})
        if not work.cancelled():
            work.result()

    async def _drain(self, work: asyncio.Task[None]) -> None:
        """Let the upstream finish after the client has left, for `drain_seconds` at most."""
        seconds = self._request.upstream.drain_seconds
        if seconds and not self._progress.upstream_finished:
            self._progress.draining = True
            await asyncio.wait({work}, timeout=seconds)

    async def _work(self, send: Send) -> None:
        meter = await self._make_meter()
        verdict = _Verdict(Outcome.FAILED, "gateway_error")
        try:
            meter.start()
            verdict = await self._relay(meter, send)
        except UpstreamFailedError as failure:
            outcome = Outcome.TIMED_OUT if failure.timed_out else Outcome.FAILED
            verdict = (
                _Verdict(Outcome.CANCELLED) if self._progress.draining else _Verdict(outcome, failure.problem.code)
            )
            log.warning("stream %s: %s: %s", self._stream_id, self._request.upstream.provider, failure)
            await self._send_problem(failure.problem, send)
        except asyncio.CancelledError:
            verdict = self._verdict_when_stopped()
            raise
        finally:
            meter.end(outcome=verdict.outcome, error_type=verdict.error_type)

    async def _make_meter(self) -> StreamMeter:
        request = self._request
        counter = counter_for(model=request.model)
        if len(request.content) <= _COUNT_INLINE_BYTES:
            counted = count_input(request=request.document, counter=counter)
        else:
            counted = await asyncio.to_thread(count_input, request=request.document, counter=counter)
        identity = StreamIdentity(
            customer_id=request.key.customer_id,
            stream_id=self._stream_id,
            provider=request.upstream.provider,
            model=request.model,
            streaming=request.streaming,
            input_tokens=counted.tokens,
            input_exact=counted.exact,
            max_output_tokens=request.max_output_tokens,
            api_key_id=request.key.api_key_id,
            request_hash=request.request_hash,
            service_tier=request.service_tier,
            tags=request.tags,
        )
        return StreamMeter(identity=identity, counter=counter, emit=self._emit)

    async def _relay(self, meter: StreamMeter, send: Send) -> _Verdict:
        async with self._client.request(completion=self._request, client_headers=self._client_headers) as answer:
            if self._request.streaming and answer.is_event_stream and answer.status < 400:
                await self._relay_events(answer, meter, send)
            else:
                await self._relay_whole(answer, meter, send)
        if self._progress.error is not None:
            return _Verdict(Outcome.FAILED, self._progress.error)
        return _Verdict(Outcome.CANCELLED if self._progress.draining else Outcome.COMPLETED)

    async def _relay_whole(self, answer: UpstreamAnswer, meter: StreamMeter, send: Send) -> None:
        """Relay a completion or an error in one piece."""
        body = await answer.body()
        document = decode_object(body)
        if answer.status >= 400:
            self._progress.error = error_code(document or {}) or f"http_{answer.status}"
        elif document is None:
            self._progress.error = "upstream_invalid_json"
        else:
            meter.take(document, delivered=not self._progress.draining)
            self._progress.error = error_code(document)
        self._progress.upstream_finished = True
        length = (b"content-length", str(len(body)).encode())
        await self._send_headers(answer.status, [*answer.headers, length], send)
        await self._send_last(body, send)

    async def _relay_events(self, answer: UpstreamAnswer, meter: StreamMeter, send: Send) -> None:
        """Relay a completion in events, each as soon as it is complete."""
        await self._send_headers(answer.status, answer.headers, send)
        parser = SseParser()
        try:
            async with asyncio.timeout(None) as linger, aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    await self._pass_on(parser.feed(chunk), meter, send)
                    if self._progress.upstream_finished and linger.when() is None:
                        linger.reschedule(asyncio.get_running_loop().time() + _LINGER_SECONDS)
            await self._pass_on(parser.finish(), meter, send)
        except EventTooLargeError as error:
            raise upstream_failed(status=502, message=str(error), code="upstream_event_too_large") from error
        except (TimeoutError, UpstreamFailedError):
            if not self._progress.upstream_finished:
                raise
        if not meter.saw_finish and not self._progress.upstream_finished and self._progress.error is None:
            message = "The upstream ended its answer before it was finished."
            raise upstream_failed(status=502, message=message, code="upstream_incomplete")
        await self._send_last(b"", send)

    async def _pass_on(self, events: list[SseEvent], meter: StreamMeter, send: Send) -> None:
        """Count the events, then send those that are for the client. Waits while the client is slow."""
        shown = [event.raw for event in events if self._examine(event, meter)]
        if shown and not self._progress.draining:
            await send({"type": "http.response.body", "body": b"".join(shown), "more_body": True})

    def _examine(self, event: SseEvent, meter: StreamMeter) -> bool:
        """Count the output of an event; returns whether the event is for the client."""
        if event.data is None:
            return True
        if event.data.strip() == _DONE:
            self._progress.upstream_finished = True
            return True
        document = decode_object(event.data)
        if document is None:
            return True
        meter.take(document, delivered=not self._progress.draining)
        self._progress.error = self._progress.error or error_code(document)
        return not (self._request.hides_usage and is_usage_only(document))

    def _verdict_when_stopped(self) -> _Verdict:
        if self._progress.error is not None:
            return _Verdict(Outcome.FAILED, self._progress.error)
        if self._progress.upstream_finished and not self._progress.draining:
            return _Verdict(Outcome.COMPLETED)
        if self._progress.client_left:
            return _Verdict(Outcome.CANCELLED)
        return _Verdict(Outcome.FAILED, "gateway_shutdown")

    async def _send_problem(self, problem: Problem, send: Send) -> None:
        """Send the error as the answer, or as the last event of an answer that has begun."""
        if self._progress.headers_sent:
            await self._send_last(problem.sse_event(), send)
            return
        await self._send_headers(problem.status, [(b"content-type", b"application/json")], send)
        await self._send_last(problem.body(), send)

    async def _send_headers(self, status: int, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self._progress.headers_sent = True
        headers = [*headers, (b"x-metering-stream-id", self._stream_id.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send_last(self, body: bytes, send: Send) -> None:
        self._progress.response_complete = True
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _client_leaves(receive: Receive) -> None:
    """Returns once the client has closed its connection, or its response is complete."""
    while (await receive())["type"] != "http.disconnect":
        continue
