"""The emitter takes events from any thread, spools them to disk, and posts them until they are acknowledged.

It has two threads. The *spooler* writes emitted events to disk every few milliseconds, and the *sender* posts them
from disk to the server. A server that is down or hangs never delays the spooler, and a crash of the process loses
at most the events of one flush interval.
"""

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from metering.emitter.cloudevents import coalesce, encode_event
from metering.emitter.delivery import Backoff, Delivery, Verdict
from metering.emitter.reports import Counters, EmitterStats, ErrorLog
from metering.emitter.segments import Segment, read_segment
from metering.emitter.sent import SentEvents
from metering.emitter.spool import Spool
from metering.events.events import TokenDelivered, UsageEvent

log = logging.getLogger(__name__)

MAX_BATCH_EVENTS = 1_000
# Starts and ends get a quarter more room than token-delivered events, which later events make up for.
HEADROOM = 4
# The threads wake up at least this often.
_IDLE_SECONDS = 0.5
# The most different warnings of an answer in one line of the log.
_MAX_WARNINGS = 5


class Emitter:
    """Posts usage events to the ingest API. Threads can share it; one per process and spool is enough."""

    def __init__(
        self,
        *,
        url: str,
        key: str,
        source: str,
        spool: Path,
        flush_interval: float = 0.05,
        max_queue_events: int = 100_000,
        max_spool_bytes: int = 1 << 30,
        timeout: float = 10.0,
        slow_retry: float = 30.0,
        keep_sent: float = 0.0,
        max_sent_bytes: int = 1 << 30,
    ) -> None:
        """Start both threads, and resend the events that dead processes left in the same spool.

        `url` is the root of the API, `key` has the role `ingest`, and `source` names this gateway instance. Times
        are in seconds: `timeout` is that of one request, `slow_retry` the pause while a setting is wrong.
        Acknowledged events are kept for `keep_sent`, in up to `max_sent_bytes`, for a restored server.

        Raises:
            SpoolError: the spool folder cannot be created or written.
        """
        self._source = source
        self._flush_interval = flush_interval
        self._max_queue_events = max_queue_events
        self._counters = Counters()
        self._errors = ErrorLog(log)
        self._wake = threading.Condition()
        self._queue: deque[UsageEvent] = deque()
        # Who waits for an event to be on disk, with the number of the event, in order.
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._queued = self._taken = 0
        self._deadline: float | None = None
        self._spool = Spool(
            root=spool,
            soft_bytes=max_spool_bytes,
            hard_bytes=max_spool_bytes + max_spool_bytes // HEADROOM,
            segment_events=MAX_BATCH_EVENTS,
        )
        self._sent = SentEvents(spool, seconds=keep_sent, max_bytes=max_sent_bytes)
        self._counters.add(inherited=self._spool.inherited_events)
        self._delivery = Delivery(url=url, key=key, timeout=timeout)
        self._backoff = Backoff(slow=slow_retry)
        self._spooler = threading.Thread(target=self._run_spooler, name="metering-spooler", daemon=True)
        self._sender = threading.Thread(target=self._run_sender, name="metering-sender", daemon=True)
        self._spooler.start()
        self._sender.start()
        atexit.register(self.close)

    def emit(self, event: UsageEvent, *, on_spooled: Callable[[], None] | None = None) -> None:
        """Take one event. Returns at once, in any state of server, network and disk.

        With `on_spooled`, the event is written without delay. The spooler's thread calls `on_spooled` when that is
        done, also when it has failed; it must return at once and not raise.
        """
        with self._wake:
            closed = self._deadline is not None
            full = len(self._queue) >= self._queue_limit(event)
            if not closed and not full:
                self._queue.append(event)
                self._queued += 1
                if on_spooled is not None:
                    self._waiting.append((self._queued, on_spooled))
                if on_spooled is not None or len(self._queue) in (1, MAX_BATCH_EVENTS):
                    self._wake.notify()
        self._counters.add(emitted=1)
        if on_spooled is not None and (closed or full):
            on_spooled()
        if closed:
            self._drop(1, "the emitter is closed")
        elif full:
            self._drop(1, "the queue in memory is full: the spool's disk is too slow")

    def stats(self) -> EmitterStats:
        """The number of events by what happened to them so far."""
        return self._counters.snapshot(spooled=self._spool.pending_events)

    def close(self, timeout: float = 5.0) -> bool:
        """Spool all emitted events, and send until all are acknowledged or `timeout` seconds have passed.

        Returns whether all events were acknowledged; the others stay on disk for the next process. Further calls
        are harmless.
        """
        with self._wake:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
            self._wake.notify_all()
        self._backoff.interrupt()
        self._spooler.join(timeout)
        self._spool.finish()
        self._sender.join(max(0.0, self._deadline - time.monotonic()) + 0.1)
        atexit.unregister(self.close)
        if not self._spooler.is_alive() and not self._sender.is_alive():
            self._spool.close()
            self._delivery.close()
        return self._spool.pending_events == 0 and not self._queue

    def _queue_limit(self, event: UsageEvent) -> int:
        extra = 0 if isinstance(event, TokenDelivered) else self._max_queue_events // HEADROOM
        return self._max_queue_events + extra

    def _drop(self, count: int, reason: str) -> None:
        self._counters.add(dropped=count)
        self._errors.error("usage events are being lost: %s", reason, count=count)

    def _run_spooler(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            self._spool_batch(batch)
            self._tell_spooled()

    def _tell_spooled(self) -> None:
        """Call those whose events were in the batches so far."""
        with self._wake:
            told = []
            while self._waiting and self._waiting[0][0] <= self._taken:
                told.append(self._waiting.popleft()[1])
        for call in told:
            call()

    def _next_batch(self) -> Sequence[UsageEvent] | None:
        """Up to 1,000 events, gathered for one flush interval at most; None when closed and empty."""
        with self._wake:
            while not self._queue:
                if self._deadline is not None:
                    return None
                self._wake.wait(_IDLE_SECONDS)
            if self._deadline is None:
                self._wake.wait_for(
                    lambda: (
                        bool(self._waiting) or len(self._queue) >= MAX_BATCH_EVENTS or self._deadline is not None
                    ),
                    timeout=self._flush_interval,
                )
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH_EVENTS))]
            self._taken += len(batch)
            return batch

    def _spool_batch(self, batch: Sequence[UsageEvent]) -> None:
        coalesced = coalesce(batch)
        self._counters.add(coalesced=len(batch) - len(coalesced))
        needed: list[bytes] = []
        spare: list[bytes] = []
        for event in coalesced:
            try:
                line = encode_event(event=event, source=self._source)
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                self._drop(1, f"an event cannot be written as JSON: {error}")
                continue
            (spare if isinstance(event, TokenDelivered) else needed).append(line)
        refused = self._spool.append(needed=needed, spare=spare)
        if refused:
            self._drop(refused, "the spool is full, and the server does not accept events")

    def _run_sender(self) -> None:
        while True:
            closing = self._deadline is not None
            drained = closing and not self._spooler.is_alive()
            segment = self._spool.claim(timeout=0 if drained else _IDLE_SECONDS)
            if segment is None and drained:
                return
            if segment is not None and not self._send_until_done(segment):
                return

    def _send_until_done(self, segment: Segment) -> bool:
        """Post one segment until the server has answered for each event; False if closing ran out of time."""
        try:
            contents = read_segment(segment)
        except OSError as error:
            self._spool.remove(segment)
            self._drop(segment.count, f"a spool file cannot be read: {error}")
            return True
        if contents.damaged:
            self._set_aside(contents.damaged, "not JSON: the spool file was damaged")
        while True:
            verdict = self._delivery.post(contents.lines)
            if verdict.done:
                self._finish(segment, contents.lines, verdict)
                return True
            self._counters.add(retries=1)
            self._errors.error("%s; %d events wait", verdict.problem, self._spool.pending_events)
            if self._out_of_time() or not self._pause(verdict):
                self._spool.give_back(segment)
                return False

    def _finish(self, segment: Segment, lines: Sequence[bytes], verdict: Verdict) -> None:
        for index, reason in verdict.rejected.items():
            self._set_aside([lines[index]], reason)
        if verdict.warnings:
            warned = "; ".join(verdict.warnings[:_MAX_WARNINGS])
            self._errors.error("the server accepted events of which it does not know a field: %s", warned)
        self._counters.add(sent=len(lines) - len(verdict.rejected))
        self._sent.keep([line for index, line in enumerate(lines) if index not in verdict.rejected])
        self._spool.remove(segment)
        self._backoff.reset()

    def _set_aside(self, lines: Sequence[bytes], reason: str) -> None:
        self._counters.add(rejected=len(lines))
        self._errors.error(
            "the server rejected an event, which is kept in rejected.ndjson: %s", reason, count=len(lines)
        )
        if not self._spool.set_aside(lines=lines, reason=reason):
            self._errors.error("rejected.ndjson is full or cannot be written: rejected events are lost")

    def _pause(self, verdict: Verdict) -> bool:
        """Wait before the next attempt; False if closing leaves no time for it."""
        self._backoff.wait(
            retry_after=verdict.retry_after, misconfigured=verdict.misconfigured, deadline=lambda: self._deadline
        )
        return not self._out_of_time()

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline
