"""What the gateway counts about itself, as Prometheus metrics.

With several workers, each writes its numbers into files of a common folder, and the worker that is asked adds them
up. Numbers that change with every chunk are plain integers here; `publish` moves them over from time to time.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
    multiprocess,
)

from metering.emitter import EmitterStats, HoldStats
from metering.serving.processes import METRICS_VARIABLE

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_PREFIX = "metering_gateway_"
# What the emitter counts up; `spooled` goes up and down.
_EMITTER_COUNTERS = ("emitted", "inherited", "coalesced", "sent", "rejected", "dropped", "retries")
# What becomes of holds.
_HOLD_RESULTS = ("held", "refused", "price_unknown", "unavailable", "failed_open", "released")


class Metrics:
    """The metrics of one worker. The plain numbers may be changed by the event loop only."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._published: dict[str, int] = {}
        self.chunks = 0
        self.unreadable = 0
        self._streams = self._counter("streams", "Streams that ended, by outcome.", ("outcome",))
        self._disbelieved = self._counter("usage_not_believed", "Streams whose reported usage was not used as is.")
        self._problems = self._counter("problems", "Events that need an operator, by kind.", ("kind",))
        self._resumes = self._counter("resume", "Requests with an X-Resume-Key, and kept answers.", ("result",))
        self._chunks = self._counter("chunks", "Events of upstreams that were passed on or hidden.")
        self._unreadable = self._counter("unreadable_chunks", "Events of upstreams that could not be read.")
        self._holds = self._counter("holds", "Requests for holds by what became of them.", ("result",))
        self._stopped = self._counter("streams_stopped", "Streams that were cut off: their budget was exhausted.")
        for name in _EMITTER_COUNTERS:
            self._counter(f"emitter_{name}", f"Usage events: {name}, as in EmitterStats.")
        self._open = self._gauge("open_streams", "Streams that are running.")
        self._spooled = self._gauge("emitter_spooled", "Usage events on disk that are not acknowledged.")

    def ended(self, *, outcome: str, disbelieved: bool) -> None:
        self._streams.labels(outcome).inc()
        if disbelieved:
            self._disbelieved.inc()

    def problem(self, kind: str) -> None:
        """Count something that needs an operator: `upstream_key`, `usage_option`, `stalled_client`, …"""
        self._problems.labels(kind).inc()

    def resume(self, result: str) -> None:
        """Count what came of a request with an `X-Resume-Key`, or of what was kept for it."""
        self._resumes.labels(result).inc()

    def publish(self, *, open_streams: int, emitter: EmitterStats, holds: HoldStats) -> None:
        """Bring the metrics up to date."""
        self._raise(self._chunks, "chunks", self.chunks)
        self._raise(self._unreadable, "unreadable_chunks", self.unreadable)
        counts: Mapping[str, int] = asdict(emitter)
        for name in _EMITTER_COUNTERS:
            self._raise(self._counters[f"emitter_{name}"], f"emitter_{name}", counts[name])
        for result in _HOLD_RESULTS:
            self._raise(self._holds.labels(result), f"holds_{result}", getattr(holds, result))
        self._raise(self._stopped, "streams_stopped", holds.stopped)
        self._open.set(open_streams)
        self._spooled.set(emitter.spooled)

    def render(self) -> bytes:
        """All metrics as text, of all workers if there are several."""
        registry = self._registry
        if os.environ.get(METRICS_VARIABLE):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _raise(self, counter: Counter, name: str, value: int) -> None:
        known = self._published.get(name, 0)
        if value > known:
            counter.inc(value - known)
            self._published[name] = value

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        self._counters[name] = Counter(_PREFIX + name, text, labels, registry=self._registry)
        return self._counters[name]

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(_PREFIX + name, text, registry=self._registry, multiprocess_mode="livesum")
