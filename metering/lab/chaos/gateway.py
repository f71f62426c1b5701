"""`python -m metering.lab.chaos.gateway ORDER`: a gateway process that reports streams through the real emitter.

It can be killed at any time. A stream counts as told once its last event is on the spool's disk; what was not told
is sent again from its start by the next process, as the same events. So the streams of a run are known exactly.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

import msgspec

from metering.core.clock import utc_now
from metering.emitter import Emitter
from metering.events.events import UsageEvent
from metering.lab.chaos.orders import Order, carry_out
from metering.lab.chaos.traffic import SKEWS, Clock, play, tell

_TICK_SECONDS = 0.02
# Just within what the run waits for a gateway to end.
_CLOSE_SECONDS = 540.0


class GatewayOrder(Order, frozen=True, kw_only=True):
    """What a gateway does: `events_per_second` of up to `streams_at_once` open streams, until `finish` exists."""

    url: str
    key: str
    seed: int
    gateway: int
    customers: int
    events_per_second: float
    streams_at_once: int = 100

    @property
    def told(self) -> Path:
        """The numbers of the streams that are wholly on the spool's disk."""
        return Path(self.folder) / "told"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The streams numbered from 0 that were reported, and the last process's counts of events."""

    streams: int
    all_sent: bool
    emitted: int
    inherited: int
    sent: int
    dropped: int
    rejected: int
    retries: int


@dataclass(slots=True)
class _Open:
    """A stream under way: its next event, and those after it."""

    number: int
    next_event: UsageEvent
    events: Iterator[UsageEvent]


class _Gateway:
    """Interleaves the events of open streams, and records which streams are sent."""

    def __init__(self, order: GatewayOrder, emitter: Emitter) -> None:
        self._order = order
        self._emitter = emitter
        self._random = Random()  # the order of events does not matter to any bill
        self._clock = Clock(now=utc_now())
        self._skew = SKEWS[order.gateway % len(SKEWS)]
        self._spooled: deque[int] = deque()
        self._told = set(map(int, order.told.read_text().split())) if order.told.exists() else set()
        self._file = order.told.open("a")
        self._next = 0
        self._open: list[_Open] = []

    def run(self) -> int:
        """Report until told to finish; returns the number of streams."""
        began, sent = time.monotonic(), 0
        while not self._order.finish.exists():
            self._clock.set(utc_now() + self._skew)
            due = int((time.monotonic() - began) * self._order.events_per_second) - sent
            # After a stop it does not catch up on more than two seconds.
            if due > self._order.events_per_second * 2:
                began, sent, due = time.monotonic(), 0, 0
            for _ in range(due):
                self._emit_one()
                sent += 1
            self._note()
            time.sleep(_TICK_SECONDS)
        self._clock.set(utc_now() + self._skew)
        # A killed process may have told streams above those that it left open.
        while self._next <= max(self._told, default=-1):
            self._emit_one()
        while self._open:
            self._emit_one(opens=False)
        return self._next

    def close(self) -> bool:
        """Send all that is spooled; returns whether all was acknowledged."""
        done = self._emitter.close(timeout=_CLOSE_SECONDS)
        self._note()
        self._file.close()
        return done

    def _emit_one(self, *, opens: bool = True) -> None:
        while opens and len(self._open) < self._order.streams_at_once:
            number, self._next = self._next, self._next + 1
            if number not in self._told:
                self._begin(number)
        index = self._random.randrange(len(self._open))
        stream = self._open[index]
        event, following = stream.next_event, next(stream.events, None)
        if following is None:
            self._emitter.emit(event, on_spooled=partial(self._spooled.append, stream.number))
            self._open[index] = self._open[-1]
            self._open.pop()
        else:
            self._emitter.emit(event)
            stream.next_event = following

    def _begin(self, number: int) -> None:
        order = self._order
        story = tell(seed=order.seed, gateway=order.gateway, number=number, customers=order.customers)
        events = play(story, self._clock)
        self._open.append(_Open(number, next(events), events))

    def _note(self) -> None:
        """Write down what has been spooled since the last time."""
        numbers = [self._spooled.popleft() for _ in range(len(self._spooled))]
        self._told.update(numbers)
        self._file.writelines(f"{number}\n" for number in numbers)
        self._file.flush()


def _run(order: GatewayOrder) -> Result:
    emitter = Emitter(
        url=order.url,
        key=order.key,
        source=f"/gateways/chaos-{order.gateway}",
        spool=Path(order.folder) / "spool",
        timeout=5.0,
    )
    gateway = _Gateway(order, emitter)
    streams = gateway.run()
    all_sent = gateway.close()
    counts = asdict(emitter.stats())
    known = {name: counts[name] for name in Result.__struct_fields__ if name in counts}
    return Result(streams=streams, all_sent=all_sent, **known)


if __name__ == "__main__":
    carry_out(GatewayOrder, _run)
