"""The objects that live as long as the process, and what it does from time to time."""

import asyncio
import logging
import time
from typing import Protocol

from metering.emitter import Emitter
from metering.emitter.reports import ErrorLog
from metering.emitter.stream import emit_durably
from metering.events.events import StreamStart
from metering.gateway.generations import Generations
from metering.gateway.holds import Holds
from metering.gateway.metrics import Metrics
from metering.gateway.models import Models
from metering.gateway.resume.copies import Copies
from metering.gateway.routing import Routing
from metering.gateway.settings import GatewaySettings
from metering.gateway.upstream import UpstreamClient

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
# A start that is not on disk after this time no longer holds up its completion.
_DURABLE_SECONDS = 1.0
_CLOCK_JUMP_SECONDS = 30.0


class Running(Protocol):
    """A completion that is being served, or resumed."""

    def blocked_for(self, now: float) -> float: ...

    def stop_for_stall(self) -> None: ...

    def stop_for_shutdown(self) -> None: ...


class Gateway:
    """The state of one worker process."""

    def __init__(self, *, settings: GatewaySettings, emitter: Emitter) -> None:
        self.settings = settings
        self.routing = Routing(upstreams=settings.upstreams, keys=settings.keys)
        self.emitter = emitter
        self.client = UpstreamClient()
        self.generations = Generations(settings)
        self.models = Models()
        self.metrics = Metrics()
        # What is kept for clients that come back; None if resume is off.
        self.copies = Copies(settings=settings.resume, metrics=self.metrics) if settings.resume else None
        self.errors = ErrorLog(log)
        # What asks for holds before the upstream; None if no budget is asked.
        self.holds = (
            Holds(settings=settings.holds, emitter=emitter, metrics=self.metrics, errors=self.errors)
            if settings.holds
            else None
        )
        self.running: set[Running] = set()
        # The base URLs of upstreams that refused `stream_options`.
        self.without_usage_option: set[str] = set()
        self.is_stopping = False
        self._wall_minus_monotonic = time.time() - time.monotonic()
        self._dropped = 0

    async def make_durable(self, start: StreamStart) -> None:
        """Emit a start, and wait until it is on disk; not forever, since completions outlive a broken disk."""
        if not await emit_durably(self.emitter.emit, start, seconds=_DURABLE_SECONDS):
            self.metrics.problem("slow_spool")
            self.errors.error(
                "a stream-start was not on disk within %g s: the spool's disk is slow", _DURABLE_SECONDS
            )

    def reload(self, routing: Routing) -> None:
        """Use other upstreams and keys from the next request on. Upstreams are asked for usage again."""
        self.routing = routing
        self.without_usage_option.clear()

    async def tick(self) -> None:
        """Look after streams, clock and metrics until cancelled."""
        stall_seconds = self.settings.stall_seconds
        while True:
            await asyncio.sleep(min(_TICK_SECONDS, stall_seconds / 4))
            now = asyncio.get_running_loop().time()
            for completion in list(self.running):
                if completion.blocked_for(now) > stall_seconds:
                    completion.stop_for_stall()
            self._look_at_clock()
            self.publish()

    def publish(self) -> None:
        """Bring the metrics up to date."""
        stats = self.emitter.stats()
        self._dropped = stats.dropped
        self.metrics.publish(open_streams=len(self.running), emitter=stats, holds=self.emitter.hold_stats())

    def why_not_ready(self) -> str | None:
        """Why no new streams should be sent here; None if they can."""
        if self.is_stopping:
            return "the gateway is stopping"
        if self.emitter.stats().dropped > self._dropped:
            return "usage events are being lost: look at the spool's disk"
        return None

    def stop_running(self) -> None:
        """End all running streams, each with an error that its client sees."""
        for completion in list(self.running):
            completion.stop_for_shutdown()

    def _look_at_clock(self) -> None:
        """Streams keep their own time while they run; a new one takes the clock's, right or wrong."""
        now = time.time() - time.monotonic()
        jumped, self._wall_minus_monotonic = now - self._wall_minus_monotonic, now
        if abs(jumped) > _CLOCK_JUMP_SECONDS:
            self.metrics.problem("clock_jump")
            log.error("the system's clock jumped by %+.0f s: streams that start now are dated by it", jumped)
