"""One completion, from the client's request to its stream-end: request upstream, pass on, count, and stop.

When the client disconnects, what has already arrived and what the upstream writes before it notices are counted,
and the upstream connection is closed. With `drain_seconds`, or after the last token, the answer is read on for the
usage at its end. The stream-end is emitted without an await, so that no cancellation can prevent it.
"""

import asyncio
import contextlib
import logging
import math
import uuid
from dataclasses import dataclass, replace

from starlette.datastructures import Headers

from metering.emitter.meter import StreamMeter
from metering.emitter.stream import BUDGET
from metering.events.events import Outcome, StreamStart
from metering.gateway.client import Client
from metering.gateway.gateway import Gateway
from metering.gateway.holds import STOPPED, NoHoldError
from metering.gateway.meters import make_meter
from metering.gateway.problems import Problem, UpstreamFailedError, upstream_failed
from metering.gateway.relay import LINGER_SECONDS, Progress, Relay
from metering.gateway.requests import CompletionRequest
from metering.gateway.upstream import UpstreamAnswer

log = logging.getLogger(__name__)

# How long the usage is waited for when the client has left after the last token, whatever `drain_seconds` is.
_FINISH_SECONDS = 1.5
# Reading what has arrived: at most this long, and until the event loop found nothing new this many times.
_SWEEP_SECONDS = 0.05
_SWEEP_QUIET_ROUNDS = 4
# How long an upstream has to notice that our side of the connection is closed.
_NOTICE_SECONDS = 0.1
# How often a completion without a client looks whether it is still worth going on.
_LOOK_SECONDS = 0.25
# A client that has come back on another connection does not wait for the old one for longer than this.
_OLD_CONNECTION_SECONDS = 2.0
_USAGE_OPTION_NAMES = (b"stream_options", b"include_usage")

_STOPPED = Problem(
    status=503, message="The gateway is restarting. Try again.", type="server_error", code="gateway_shutdown"
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    error_type: str | None = None


class Completion:
    """Serves one completion request, and meters it."""

    def __init__(
        self,
        *,
        request: CompletionRequest,
        client_headers: Headers,
        client: Client,
        stream_id: str,
        gateway: Gateway,
    ) -> None:
        self._request = request
        self._client_headers = client_headers
        self._client = client
        self._copy = client.copy
        self._stream_id = stream_id
        self._gateway = gateway
        self._progress = Progress()
        self._answer: UpstreamAnswer | None = None
        self._meter: StreamMeter | None = None
        self._interrupted = asyncio.Event()
        self._stop: asyncio.Task[bool] | None = None
        self._stop_reason: _Verdict | None = None
        self._goodbye = _STOPPED

    async def serve(self) -> None:
        """Answer the client; returns after the stream-end is emitted and the upstream connection closed."""
        try:
            await self._serve()
        finally:
            if self._copy is not None:
                self._copy.drop("")

    async def _serve(self) -> None:
        work = asyncio.create_task(self._work())
        watch = asyncio.create_task(self._client.until_gone())
        stop = self._stop = asyncio.create_task(self._interrupted.wait())
        self._gateway.running.add(self)
        try:
            await asyncio.wait({work, watch, stop}, return_when=asyncio.FIRST_COMPLETED)
            # uvicorn also reports a disconnect when the response is complete.
            if watch.done() and not self._client.is_complete and not work.done():
                self._client.left = True
                await self._wait_for_return(work)
                await self._read_on(work)
            await self._cancel(work)
        except asyncio.CancelledError:
            # The server stops: the client learns it, and the task ends without a traceback in the log.
            self._stop_reason = _Verdict(Outcome.FAILED, "gateway_shutdown")
            await self._cancel(work)
        finally:
            self._gateway.running.discard(self)
            watch.cancel()
            stop.cancel()
        if self._stop_reason is not None and not self._client.is_complete:
            await self._client.say_goodbye(self._goodbye)
        if not work.cancelled():
            work.result()

    def blocked_for(self, now: float) -> float:
        """The seconds for which the client has taken nothing of what waits for it."""
        if self._client.blocked_since is None:
            return 0.0
        blocked = now - self._client.blocked_since
        came_back = self._copy is not None and now - self._copy.read_at < _OLD_CONNECTION_SECONDS
        return math.inf if came_back and blocked > _OLD_CONNECTION_SECONDS else blocked

    def stop_for_stall(self) -> None:
        """The client does not read: disconnect it, and end the stream as cancelled if it cannot be resumed."""
        self._gateway.metrics.problem("stalled_client")
        log.warning("stream %s: the client has stopped reading and is disconnected", self._stream_id)
        if self._copy is not None and self._copy.is_kept and self._client.disconnect():
            return
        self._interrupt(_Verdict(Outcome.CANCELLED, "client_stalled"))

    def stop_for_shutdown(self) -> None:
        """End the stream as failed, with an error for the client."""
        self._interrupt(_Verdict(Outcome.FAILED, "gateway_shutdown"))

    def stop_for_budget(self) -> None:
        """Cut the answer off: the budget has no room for more of it. What is complete already stays so."""
        meter = self._meter
        if self._progress.upstream_finished or (meter is not None and meter.is_finished and meter.has_final_usage):
            return
        self._goodbye = STOPPED if self._stop_reason is None else self._goodbye
        self._interrupt(_Verdict(Outcome.CANCELLED, BUDGET))

    def _interrupt(self, verdict: _Verdict) -> None:
        self._stop_reason = self._stop_reason or verdict
        self._interrupted.set()

    async def _cancel(self, work: asyncio.Task[None]) -> None:
        """Wait for the work's end, which is now if the client has left or the stream is stopped."""
        if self._stop_reason is not None and self._client.blocked_since is not None:
            await self._client.abort()
        if self._stop_reason is not None or self._client.left:
            work.cancel()
        await asyncio.wait({work})

    async def _wait_for_return(self, work: asyncio.Task[None]) -> None:
        """After the client has left: let the answer go on while it is kept and the client may still come back."""
        copies, copy, stop = self._gateway.copies, self._copy, self._stop
        if copies is None or copy is None or stop is None:
            return
        loop = asyncio.get_running_loop()
        left_at = loop.time()
        while copy.is_kept and not (work.done() or stop.done()):
            seconds = max(left_at, copy.read_at) + copies.settings.window_seconds - loop.time()
            if seconds <= 0 and await copies.give_up(copy):
                return
            pause = min(max(seconds, 0.0), _LOOK_SECONDS)
            await asyncio.wait({work, stop}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)

    async def _read_on(self, work: asyncio.Task[None]) -> None:
        """After the client has left: take what has arrived, then what is worth waiting for."""
        await self._sweep(work)
        meter, progress = self._meter, self._progress
        if work.done() or meter is None:
            return
        seconds = self._request.upstream.drain_seconds
        if meter.is_finished or progress.upstream_finished:
            if meter.has_final_usage:
                return
            progress.finishing = True
            seconds = max(seconds, LINGER_SECONDS if progress.upstream_finished else _FINISH_SECONDS)
        elif seconds:
            progress.draining = True
        elif self._tell_to_stop():
            progress.leaving = True
            seconds = _NOTICE_SECONDS
        if seconds and self._stop is not None:
            await asyncio.wait({work, self._stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def _tell_to_stop(self) -> bool:
        """Close our side of the upstream's connection, so that it stops; False where that is not possible."""
        if self._answer is None or self._progress.error is not None or not self._request.streaming:
            return False
        return self._answer.close_sending()

    async def _sweep(self, work: asyncio.Task[None]) -> None:
        """Let the event loop deliver and count what lies in the sockets already, without waiting for more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _SWEEP_SECONDS
        quiet, known = 0, -1
        while quiet < _SWEEP_QUIET_ROUNDS and loop.time() < until and not work.done():
            await asyncio.sleep(0)
            arrived = self._answer.arrived_bytes if self._answer is not None else 0
            quiet, known = (quiet + 1 if arrived == known else 0), arrived

    async def _work(self) -> None:
        gateway = self._gateway
        meter = await make_meter(request=self._request, stream_id=self._stream_id, emit=gateway.emitter.emit)
        try:
            start = await self._admitted(meter.make_start())
        except NoHoldError as refused:
            # Nothing goes upstream: there is no stream.
            await self._client.send_problem(refused.problem)
            return
        self._meter = meter
        verdict = _Verdict(Outcome.FAILED, "gateway_error")
        try:
            await gateway.make_durable(start)
            verdict = await self._relay(meter)
        except UpstreamFailedError as failure:
            if self._progress.leaving:
                verdict = self._verdict_when_stopped(meter)
            else:
                verdict = self._verdict_of(failure)
                log.warning("stream %s: %s: %s", self._stream_id, self._request.upstream.provider, failure)
                await self._client.send_problem(failure.problem)
        except asyncio.CancelledError:
            verdict = self._verdict_when_stopped(meter)
            raise
        finally:
            self._end(meter, verdict)

    async def _admitted(self, start: StreamStart) -> StreamStart:
        """The stream-start, once there is money for the stream."""
        if self._gateway.holds is None:
            return start
        loop = asyncio.get_running_loop()

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self.stop_for_budget)

        hold = await self._gateway.holds.take(self._request, start, on_stop=stop)
        return replace(start, failed_open=True) if hold.failed_open else start

    def _end(self, meter: StreamMeter, verdict: _Verdict) -> None:
        usage = meter.end(outcome=verdict.outcome, error_type=verdict.error_type)
        completed = verdict.outcome is Outcome.COMPLETED
        disbelieved = completed and usage is not None and usage.disbelieved
        self._gateway.metrics.ended(outcome=verdict.outcome.value, disbelieved=disbelieved)
        if disbelieved:
            log.warning(
                "stream %s: the usage that %s reports does not fit its answer: the gateway's count is used",
                self._stream_id,
                self._request.upstream.provider,
            )

    async def _relay(self, meter: StreamMeter) -> _Verdict:
        request, gateway = self._request, self._gateway
        base_url = request.upstream.base_url
        asks = request.content is not request.original and base_url not in gateway.without_usage_option
        refused = False
        if asks:
            refused = await self._ask(meter, request.content, may_refuse=True)
        if refused:
            gateway.without_usage_option.add(base_url)
            gateway.metrics.problem("usage_option")
            log.warning("%s refuses stream_options: its streams are counted by the gateway", base_url)
        if refused or not asks:
            await self._ask(meter, request.original, may_refuse=False)
        if self._progress.leaving:
            return self._verdict_when_stopped(meter)
        if self._progress.error is not None:
            return _Verdict(Outcome.FAILED, self._progress.error)
        return _Verdict(Outcome.CANCELLED if self._progress.draining else Outcome.COMPLETED)

    async def _ask(self, meter: StreamMeter, content: bytes, *, may_refuse: bool) -> bool:
        """Ask the upstream and relay its answer; True if it refuses the usage option, and nothing was relayed."""
        relay = Relay(
            client=self._client,
            meter=meter,
            progress=self._progress,
            request=self._request,
            metrics=self._gateway.metrics,
        )
        async with self._gateway.client.request(
            completion=self._request, content=content, client_headers=self._client_headers
        ) as answer:
            self._answer = answer
            if answer.status in (401, 403):
                raise self._upstream_key_refused(answer.status)
            if may_refuse and answer.status in (400, 404, 422):
                body = await answer.body()
                if any(name in body for name in _USAGE_OPTION_NAMES):
                    return True
                await relay.relay_error(answer, body)
            else:
                await relay.relay(answer)
        return False

    def _upstream_key_refused(self, status: int) -> UpstreamFailedError:
        """The gateway's own key is refused: no fault of the client, and a case for the operator."""
        upstream = self._request.upstream
        self._gateway.metrics.problem("upstream_key")
        self._gateway.errors.error(
            "%s answers %d to this gateway's own key: check api_key of the upstream %s",
            upstream.base_url,
            status,
            upstream.provider,
        )
        message = "The upstream refuses the gateway's own credentials. The gateway's operator has to repair it."
        return upstream_failed(status=502, message=message, code="upstream_unauthorized")

    def _verdict_of(self, failure: UpstreamFailedError) -> _Verdict:
        if self._progress.draining:
            return _Verdict(Outcome.CANCELLED)
        outcome = Outcome.TIMED_OUT if failure.timed_out else Outcome.FAILED
        return _Verdict(outcome, failure.problem.code)

    def _verdict_when_stopped(self, meter: StreamMeter) -> _Verdict:
        # The upstream breaks off when it notices that its answer is not read. That is no error.
        if self._progress.error is not None and not self._progress.leaving:
            return _Verdict(Outcome.FAILED, self._progress.error)
        is_complete = meter.is_finished and meter.has_final_usage
        if (self._progress.upstream_finished or is_complete) and not self._progress.draining:
            return _Verdict(Outcome.COMPLETED)
        if self._stop_reason is not None:
            return self._stop_reason
        return _Verdict(Outcome.CANCELLED)


def new_stream_id() -> str:
    return uuid.uuid4().hex
