"""The two threads of an emitter, from the queue in memory to the server's acknowledgement.

The *spooler* writes emitted events to disk every few milliseconds, and the *sender* posts them from disk to the
server. A server that is down or hangs never delays the spooler, and a crash of the process loses at most the
events of one flush interval.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from metering.emitter.cloudevents import coalesce, encode_event
from metering.emitter.delivery import Backoff, Delivery, Verdict
from metering.emitter.reports import Counters, EmitterStats, ErrorLog, Troubles
from metering.emitter.segments import Segment, read_segment
from metering.emitter.sent import SentEvents
from metering.emitter.spool import Spool
from metering.events.events import TokenDelivered, UsageEvent

log = logging.getLogger(__name__)

MAX_BATCH_EVENTS = 1_000
# Starts and ends get a quarter more room than token-delivered events, which later events make up for.
HEADROOM = 4
# The sender wakes up at least this often.
_IDLE_SECONDS = 0.5
_SHORTEST_INTERVAL = 0.001
# The most different warnings of an answer in one line of the log.
_MAX_WARNINGS = 5
_SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `Emitter` is given; times in seconds."""

    url: str
    key: str | Callable[[], str]
    source: str
    spool: Path
    flush_interval: float
    max_queue_events: int
    max_spool_bytes: int
    timeout: float
    slow_retry: float
    keep_sent: float
    max_sent_bytes: int


class _Awaited(NamedTuple):
    """An event in the queue whose emitter wants to know when it is on disk."""

    event: UsageEvent
    on_spooled: Callable[[], None]


class Pump:
    """The queue, the spool and the threads of one process."""

    def __init__(self, options: Options, *, on_stop: Callable[[Sequence[str]], None] | None = None) -> None:
        """Start both threads, and resend the events that dead processes left in the same spool.

        The sender calls `on_stop` with the ids of streams that have to end, as the server's answer says.

        Raises:
            SpoolError: the spool folder cannot be created or written.
            ValueError: the key has other characters than a key can have.
        """
        self._options = options
        self._on_stop = on_stop
        self.counters = Counters(EmitterStats)
        self._errors = ErrorLog(log)
        self._troubles = Troubles(log)
        self._wake = threading.Condition()
        # Any thread appends to it, without a lock; the spooler alone takes from its front.
        self._queue: deque[UsageEvent | _Awaited] = deque()
        # Whether the queue is to be written without delay.
        self._urgent = False
        self._deadline: float | None = None
        # Whether the spooler has looked at the queue for the last time.
        self._sealed = False
        self._room = options.max_queue_events
        self._delivery = Delivery(url=options.url, key=options.key, timeout=options.timeout)
        self._spool = Spool(
            root=options.spool,
            soft_bytes=options.max_spool_bytes,
            hard_bytes=options.max_spool_bytes + options.max_spool_bytes // HEADROOM,
            segment_events=MAX_BATCH_EVENTS,
        )
        self._sent = SentEvents(options.spool, seconds=options.keep_sent, max_bytes=options.max_sent_bytes)
        self.counters.add(inherited=self._spool.inherited_events)
        self._backoff = Backoff(slow=options.slow_retry)
        self._spooler = threading.Thread(target=self._run_spooler, name="metering-spooler", daemon=True)
        self._sender = threading.Thread(target=self._run_sender, name="metering-sender", daemon=True)
        self._spooler.start()
        self._sender.start()

    @property
    def spooled(self) -> int:
        """The number of events on disk that are not acknowledged."""
        return self._spool.pending_events

    def stats(self) -> EmitterStats:
        """The counts so far. Events are counted when they leave the queue, so that `put` does not have to."""
        with self._wake:
            counted = self.counters.snapshot(spooled=self.spooled)
            return replace(counted, emitted=counted.emitted + len(self._queue))

    def put(self, event: UsageEvent) -> None:
        """Take one event; see `Emitter.emit`. This path takes no lock and makes nothing."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._room or self._deadline is not None:
            self._put_if_possible(event, event)
            return
        queue.append(event)
        # The spooler looks by itself after each flush interval: to wake it costs more than all of this.
        if waiting == MAX_BATCH_EVENTS - 1:
            self._hurry()
        if self._sealed:
            self._take_back()

    def put_awaited(self, event: UsageEvent, on_spooled: Callable[[], None]) -> None:
        """Take one event, have it written at once, and have `on_spooled` called when it is."""
        self._put_if_possible(event, _Awaited(event, on_spooled))

    def _put_if_possible(self, event: UsageEvent, item: UsageEvent | _Awaited) -> None:
        if self._deadline is not None:
            self._refuse(item, "the emitter is closed")
        elif len(self._queue) >= self._queue_limit(event):
            self._refuse(item, "the queue in memory is full: the spool's disk is too slow")
        else:
            self._queue.append(item)
            self._hurry()
            if self._sealed:
                self._take_back()

    def _hurry(self) -> None:
        with self._wake:
            self._urgent = True
            self._wake.notify()

    def _take_back(self) -> None:
        """An event came too late for the spooler, or just in time: take one back, if it is still there."""
        try:
            item = self._queue.pop()
        except IndexError:
            return
        self._refuse(item, "the emitter is closed")

    def _refuse(self, item: UsageEvent | _Awaited, reason: str) -> None:
        self.counters.add(emitted=1)
        if isinstance(item, _Awaited):
            item.on_spooled()
        self.drop(1, reason)

    def drop(self, count: int, reason: str) -> None:
        """Count and log events that are lost."""
        self.counters.add(dropped=count)
        self._errors.error("usage events are being lost: %s", reason, count=count)

    def close(self, timeout: float) -> bool:
        """Spool all events, and send until all are acknowledged or `timeout` seconds have passed."""
        with self._wake:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
            self._wake.notify_all()
        self._backoff.interrupt()
        self._spooler.join(timeout)
        self._spool.finish()
        self._sender.join(max(0.0, self._deadline - time.monotonic()) + 0.1)
        if not self._spooler.is_alive() and not self._sender.is_alive():
            self._spool.close()
            self._delivery.close()
        return self._spool.pending_events == 0 and not self._queue

    def disown(self) -> None:
        """In a forked child: let go of the parent's spool, which stays as it is. The threads are not here."""
        self._spool.disown()

    def _queue_limit(self, event: UsageEvent) -> int:
        most = self._options.max_queue_events
        return most if isinstance(event, TokenDelivered) else most + most // HEADROOM

    def _run_spooler(self) -> None:
        while not self._sealed:
            batch = self._next_batch()
            if batch:
                self._spool_batch([item.event if isinstance(item, _Awaited) else item for item in batch])
            for item in batch:
                if isinstance(item, _Awaited):
                    item.on_spooled()

    def _next_batch(self) -> Sequence[UsageEvent | _Awaited]:
        """Up to 1,000 events, gathered for one flush interval at most. Seals an empty queue, once closed."""
        interval = max(self._options.flush_interval, _SHORTEST_INTERVAL)
        queue = self._queue
        with self._wake:
            while self._deadline is None and not self._urgent:
                if not self._wake.wait(interval) and queue:
                    break
            if not queue:
                # From here on, `put` takes its event back. One that came before is still taken.
                self._sealed = self._deadline is not None
            batch = [queue.popleft() for _ in range(min(len(queue), MAX_BATCH_EVENTS))]
            # What was added since then is followed by a call of `_hurry`, which waits for this lock.
            self._urgent = len(batch) == MAX_BATCH_EVENTS and bool(queue)
            self.counters.add(emitted=len(batch))
            return batch

    def _spool_batch(self, batch: Sequence[UsageEvent]) -> None:
        coalesced = coalesce(batch)
        self.counters.add(coalesced=len(batch) - len(coalesced))
        needed: list[bytes] = []
        spare: list[bytes] = []
        for event in coalesced:
            try:
                line = encode_event(event=event, source=self._options.source)
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                self.drop(1, f"an event cannot be written as JSON: {error}")
                continue
            (spare if isinstance(event, TokenDelivered) else needed).append(line)
        refused = self._spool.append(needed=needed, spare=spare)
        if refused:
            self.drop(refused, "the spool is full, and the server does not accept events")

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
            self.drop(segment.count, f"a spool file cannot be read: {error}")
            return True
        if contents.damaged:
            self._set_aside(contents.damaged, "not JSON: the spool file was damaged")
        while True:
            verdict = self._delivery.post(contents.lines)
            if verdict.done:
                self._finish(segment, contents.lines, verdict)
                return True
            self.counters.add(retries=1)
            kind = "setting" if verdict.misconfigured else "server"
            self._troubles.arises(
                _SERVER, kind, "%s; usage events wait in the spool (%d now)", verdict.problem, self.spooled
            )
            if self._out_of_time() or not self._pause(verdict):
                self._spool.give_back(segment)
                return False

    def _finish(self, segment: Segment, lines: Sequence[bytes], verdict: Verdict) -> None:
        for index, reason in verdict.rejected.items():
            self._set_aside([lines[index]], reason)
        if verdict.warnings:
            warned = "; ".join(verdict.warnings[:_MAX_WARNINGS])
            self._errors.error("the server accepted events of which it does not know a field: %s", warned)
        self.counters.add(sent=len(lines) - len(verdict.rejected))
        self._sent.keep([line for index, line in enumerate(lines) if index not in verdict.rejected])
        self._spool.remove(segment)
        if verdict.stop and self._on_stop is not None:
            self._on_stop(verdict.stop)
        self._backoff.reset()
        self._troubles.passes(_SERVER, "the server accepts usage events again")

    def _set_aside(self, lines: Sequence[bytes], reason: str) -> None:
        self.counters.add(rejected=len(lines))
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
