"""The counts of an emitter as Prometheus metrics, for a gateway that has a registry. Needs prometheus-client."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metering.emitter.client import Emitter

# What becomes of events, and the names under which EmitterStats has it.
_RESULTS = ("sent", "coalesced", "rejected", "dropped")

# What becomes of holds, and the names under which HoldStats has it.
_HOLD_RESULTS = ("held", "refused", "price_unknown", "unavailable", "failed_open", "released")


class EmitterCollector(Collector):
    """Collects an emitter's counts whenever metrics are read: `REGISTRY.register(EmitterCollector(emitter))`."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def collect(self) -> Iterator[Metric]:
        """The metrics; alert when events are dropped or rejected, or when more and more are spooled."""
        stats = self._emitter.stats()
        taken = CounterMetricFamily(
            "metering_emitter_events", "Usage events that were emitted or inherited from a dead process."
        )
        taken.add_metric([], stats.emitted + stats.inherited)
        yield taken
        results = CounterMetricFamily(
            "metering_emitter_results", "Usage events by what became of them.", labels=["result"]
        )
        for result in _RESULTS:
            results.add_metric([result], getattr(stats, result))
        yield results
        retries = CounterMetricFamily("metering_emitter_retries", "Requests that had to be repeated.")
        retries.add_metric([], stats.retries)
        yield retries
        spooled = GaugeMetricFamily("metering_emitter_spooled", "Usage events on disk that are not acknowledged.")
        spooled.add_metric([], stats.spooled)
        yield spooled
        holds = self._emitter.hold_stats()
        became = CounterMetricFamily("metering_emitter_holds", "Holds by what became of them.", labels=["result"])
        for result in _HOLD_RESULTS:
            became.add_metric([result], getattr(holds, result))
        yield became
        stopped = CounterMetricFamily(
            "metering_emitter_streams_stopped", "Streams that had to end, because their budget was exhausted."
        )
        stopped.add_metric([], holds.stopped)
        yield stopped
