"""The emitter takes events from any thread, spools them to disk, and posts them until they are acknowledged."""

import atexit
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metering.answers.inputs import count_input
from metering.answers.tokens import counter_for
from metering.emitter.events import check_count, check_start, inlet_of
from metering.emitter.hold import Hold, HoldMode, HoldRequest, HoldSettings, hold_of_start
from metering.emitter.holds import Holds, HoldStats
from metering.emitter.identity import StreamIdentity
from metering.emitter.meter import Output, StreamMeter
from metering.emitter.pump import Options, Pump
from metering.emitter.reports import EmitterStats, ErrorLog
from metering.emitter.spool import SpoolError
from metering.emitter.stops import Stops
from metering.emitter.stream import Held, MeteredStream
from metering.events.events import Inlet, StreamEnd, StreamStart, UsageEvent

log = logging.getLogger(__name__)


class Emitter:
    """Posts usage events to the ingest API. Threads can share it; one per process and spool is enough.

    A forked child may go on with the emitter of its parent: it gets a queue, a spool folder and threads of its own
    with its first event. What the parent had not sent stays the parent's.
    """

    def __init__(
        self,
        *,
        url: str,
        key: str | Callable[[], str],
        source: str,
        spool: Path,
        flush_interval: float = 0.05,
        max_queue_events: int = 100_000,
        max_spool_bytes: int = 1 << 30,
        timeout: float = 10.0,
        slow_retry: float = 30.0,
        keep_sent: float = 0.0,
        max_sent_bytes: int = 1 << 30,
        holds: HoldSettings | None = None,
    ) -> None:
        """Start its threads, and resend the events that dead processes left in the same spool.

        `url` is the root of the API, `key` has the role `ingest`, and `source` names this gateway instance. A
        function as `key` is asked for each request, so that a key can be replaced while the process runs. Times
        are in seconds: `timeout` is that of one request, `slow_retry` the pause while a setting is wrong.
        Acknowledged events are kept for `keep_sent`, in up to `max_sent_bytes`, for a restored server. `holds`
        says how long a hold is waited for, and what passes without one.

        Raises:
            SpoolError: the spool folder cannot be created or written.
            ValueError: the key has other characters than a key can have.
        """
        self._options = Options(
            url=url,
            key=key,
            source=source,
            spool=Path(spool),
            flush_interval=flush_interval,
            max_queue_events=max_queue_events,
            max_spool_bytes=max_spool_bytes,
            timeout=timeout,
            slow_retry=slow_retry,
            keep_sent=keep_sent,
            max_sent_bytes=max_sent_bytes,
        )
        self._lock = threading.Lock()
        self._stops = Stops()
        self._holds = Holds(url=url, key=key, settings=holds or HoldSettings())
        self._pump: Pump | None = Pump(self._options, on_stop=self._stop)
        self._closed = False
        _all.add(self)
        atexit.register(self.close)

    def emit(self, event: UsageEvent, *, on_spooled: Callable[[], None] | None = None) -> None:
        """Take one event. Returns at once, in any state of server, network and disk.

        With `on_spooled`, the event is written without delay. The spooler's thread calls `on_spooled` when that is
        done, also when it has failed; it must return at once and not raise.
        """
        if isinstance(event, StreamEnd):
            self._stops.forget(event.stream_id)
        pump = self._pump or self._reopened()
        if pump is None:
            if on_spooled is not None:
                on_spooled()
        elif on_spooled is None:
            pump.put(event)
        else:
            pump.put_awaited(event, on_spooled)

    def stream(
        self,
        *,
        customer_id: str,
        provider: str,
        model: str,
        stream_id: str | None = None,
        input_tokens: int | None = None,
        input_characters: int | None = None,
        request: Mapping[str, Any] | None = None,
        streaming: bool = True,
        operation: str = "chat",
        max_output_tokens: int | None = None,
        api_key_id: str | None = None,
        request_hash: str | None = None,
        service_tier: str | None = None,
        tags: Mapping[str, str] | None = None,
        inlet: str = Inlet.EVENTS,
        durable: bool = False,
        hold: HoldMode | None = None,
        slice_output_tokens: int | None = None,
        lease_seconds: int | None = None,
        start_now: bool = True,
    ) -> MeteredStream:
        """A stream, for `with` or `async with`; `MeteredStream` describes `durable`, `hold` and `start_now`.

        Its id is made up if you give none. The input is `input_tokens`, or counted from the `request` in OpenAI's
        format, or what the upstream reports; for speech also `input_characters`. `inlet` names who watches
        the stream, where that is no gateway of yours.

        Raises:
            TypeError, ValueError: a field is wrong; the message names it.
        """
        if input_characters is not None:
            check_count("input_characters", input_characters)
        counter = counter_for(model=model)
        counted = count_input(request=dict(request), counter=counter) if request and input_tokens is None else None
        identity = StreamIdentity(
            customer_id=customer_id,
            stream_id=uuid.uuid4().hex if stream_id is None else stream_id,
            provider=provider,
            model=model,
            streaming=streaming,
            input_tokens=counted.tokens if counted else input_tokens,
            input_exact=counted is None or counted.exact,
            input_characters=input_characters,
            operation=operation,
            max_output_tokens=max_output_tokens,
            api_key_id=api_key_id,
            request_hash=request_hash,
            service_tier=service_tier,
            tags=tags or {},
            inlet=inlet_of(inlet),
        )
        meter = StreamMeter(identity=identity, counter=counter, emit=self.emit, output=Output.UNTOLD)
        start = check_start(meter.make_start())
        held = self._held(start, hold, slice_output_tokens, lease_seconds)
        return MeteredStream(
            meter=meter, start=start, emit=self.emit, durable=durable, held=held, start_now=start_now
        )

    def _held(
        self, start: StreamStart, mode: HoldMode | None, slice_output_tokens: int | None, lease_seconds: int | None
    ) -> Held | None:
        """How a stream gets its hold; None where none is wanted."""
        if mode is None:
            return None
        asked = hold_of_start(
            start, mode=mode, slice_output_tokens=slice_output_tokens, lease_seconds=lease_seconds
        )
        return Held(request=asked, holds=self._holds, stops=self._stops)

    def hold(self, request: HoldRequest) -> Hold:
        """The hold of a stream whose events you make yourself. Ask before anything goes upstream.

        If the hold has `failed_open`, the stream-start has to have it, too.

        Raises:
            HoldRefused: the stream must not begin: the budget is exhausted, or its price is unknown.
            HoldUnavailable: the service did not answer in time, and streams do not pass without an answer.
        """
        return self._holds.take(request)

    async def hold_async(self, request: HoldRequest) -> Hold:
        """The same, for an event loop. If it is cancelled, the hold is released."""
        return await self._holds.take_async(request)

    def release(self, *, customer_id: str, stream_id: str) -> bool:
        """Release a hold of which nothing went upstream; False if the stream has begun: then post its stream-end.

        Raises:
            HoldUnavailable: the service did not answer in time. The hold expires after its lease.
        """
        return self._holds.release(customer_id=customer_id, stream_id=stream_id)

    def release_later(self, *, customer_id: str, stream_id: str) -> None:
        """The same in the background, without waiting."""
        self._holds.release_later(customer_id=customer_id, stream_id=stream_id)

    def on_stop(self, stream_id: str, call: Callable[[], None]) -> None:
        """Call this function once if the stream has to end, on the thread that posts events; it returns at once.

        It is forgotten when the stream-end is emitted.
        """
        self._stops.watch(stream_id, call)

    def hold_stats(self) -> HoldStats:
        """The number of holds of this process by what became of them."""
        return self._holds.stats()

    def _stop(self, stream_ids: Sequence[str]) -> None:
        self._holds.count_stopped(self._stops.tell(stream_ids))

    def stats(self) -> EmitterStats:
        """The number of events of this process by what happened to them so far."""
        pump = self._pump
        return EmitterStats() if pump is None else pump.stats()

    def close(self, timeout: float = 5.0) -> bool:
        """Spool all emitted events, and send until all are acknowledged or `timeout` seconds have passed.

        Returns whether all events were acknowledged; the others stay on disk for the next process. Further calls
        are harmless.
        """
        self._closed = True
        atexit.unregister(self.close)
        deadline = time.monotonic() + timeout
        self._holds.close(timeout)
        pump = self._pump
        return pump is None or pump.close(max(0.0, deadline - time.monotonic()))

    def _reopened(self) -> Pump | None:
        """The pump of this process, a forked child; None if there can be none."""
        with self._lock:
            if self._pump is None and not self._closed:
                try:
                    self._pump = Pump(self._options, on_stop=self._stop)
                except SpoolError as error:
                    _errors.error("usage events are being lost in a forked process: %s", error)
            return self._pump

    def _forget(self) -> None:
        """In a forked child: the parent's queue, files and threads are the parent's."""
        pump, self._pump = self._pump, None
        self._lock = threading.Lock()
        self._stops, self._holds = Stops(), self._holds.again()
        if pump is not None:
            pump.disown()


_all: "weakref.WeakSet[Emitter]" = weakref.WeakSet()
_errors = ErrorLog(log)


def _after_fork() -> None:
    for emitter in list(_all):
        emitter._forget()


os.register_at_fork(after_in_child=_after_fork)
