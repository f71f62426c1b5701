"""The state of the work as Prometheus metrics, read from the database and the queue, not from a process.

Every API process reports the same values. No label's value comes from outside, and every count is bounded.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from metering.alerts.queries.webhooks import alert_health
from metering.alerts.store.endpoints import EndpointState
from metering.budgets.queries.health import budget_health
from metering.core.clock import utc_now
from metering.customers.queries.time_zones import count_overdue_customers, unusable_zones
from metering.db.engine import DatabaseUnavailableError, transaction
from metering.prices.queries import comparison_health
from metering.server.bootstrap import redis_url
from metering.server.queries import flagged_bills, totals_freshness, work_health, workers_seen
from metering.server.settings import Settings
from metering.streams.ingest.nudge import QUEUE
from metering.streams.settlement import State
from metering.stripe.drift import DriftClass
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import standing_pushes
from metering.stripe.queries.reconciliations import drift_left, reconciled_at

log = logging.getLogger(__name__)

# The database is queried this often, however many clients scrape.
KEEP_SECONDS = 5.0
# All parts together stay below the ten seconds after which Prometheus gives up.
_PART_TIMEOUT = text("SET LOCAL statement_timeout = '1s'")
_QUEUE_SECONDS = 1.0


class WorkCollector(Collector):
    """Reads the parts one after another; `metering_part_unread` marks a part that could not be read."""

    def __init__(self, *, engine: Engine, redis: Redis, close_grace: timedelta, keep_seconds: float) -> None:
        self._engine = engine
        self._redis = redis
        self._keep_seconds = keep_seconds
        self._parts: Mapping[str, _Part] = {
            "streams": _streams,
            "totals": _totals,
            "workers": _workers,
            "months": lambda connection, now: _months(connection, now, close_grace),
            "pushes": lambda connection, _: _pushes(connection),
            "drift": _drift,
            "alerts": _alerts,
            "rates": _rates,
            "budgets": _budgets,
        }
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._kept: Sequence[Metric] = ()

    def collect(self) -> Iterable[Metric]:
        """The metrics, at most `keep_seconds` old."""
        with self._lock:
            if monotonic() - self._read_at >= self._keep_seconds:
                self._kept = [*self._database(utc_now()), *self._queue()]
                self._read_at = monotonic()
            return self._kept

    def _database(self, now: datetime) -> Iterator[Metric]:
        is_up = True
        unread = GaugeMetricFamily(
            "metering_part_unread", "1 for a part of these metrics that could not be read", labels=["part"]
        )
        for name, part in self._parts.items():
            found: Sequence[Metric] | None = None
            try:
                found = self._read(part, now) if is_up else None
            except DatabaseUnavailableError as error:
                is_up = False
                log.error("metrics are served without PostgreSQL", extra={"error": str(error).splitlines()[0]})
            except SQLAlchemyError as error:
                says = str(error).splitlines()[0]
                log.error("metrics could not be read", extra={"part": name, "error": says})
            unread.add_metric([name], int(found is None))
            yield from found or ()
        yield unread
        yield GaugeMetricFamily("metering_database_up", "1 while PostgreSQL answers", value=int(is_up))

    def _read(self, part: "_Part", now: datetime) -> Sequence[Metric]:
        with transaction(self._engine) as connection:
            connection.execute(_PART_TIMEOUT)
            return list(part(connection, now))

    def _queue(self) -> Iterator[Metric]:
        try:
            messages: int | None = self._redis.llen(QUEUE)
        except (RedisError, OSError):
            messages = None
        is_up = messages is not None
        yield GaugeMetricFamily("metering_queue_up", "1 while Valkey answers", value=int(is_up))
        if messages is not None:
            says = "Messages in Valkey that no worker has taken; their number is bounded"
            yield GaugeMetricFamily("metering_queue_messages", says, value=messages)


class WithoutMoney(Collector):
    """The same metrics without amounts of money, which need the token."""

    def __init__(self, whole: WorkCollector) -> None:
        self._whole = whole

    def collect(self) -> Iterable[Metric]:
        """All but the families in cents."""
        return [each for each in self._whole.collect() if not each.name.endswith("_cents")]


def build_work_collector(
    settings: Settings, *, engine: Engine, keep_seconds: float = KEEP_SECONDS
) -> WorkCollector:
    """The collector of a service, which reads with this engine."""
    url = redis_url(settings)
    return WorkCollector(
        engine=engine,
        redis=Redis.from_url(url, socket_timeout=_QUEUE_SECONDS, socket_connect_timeout=_QUEUE_SECONDS),
        close_grace=settings.close_grace,
        keep_seconds=keep_seconds,
    )


_Part = Callable[[Connection, datetime], Iterator[Metric]]


def _seconds(age: timedelta) -> float:
    """As a number; never below 0, although clocks may differ."""
    return max(age / timedelta(seconds=1), 0.0)


def _age(name: str, says: str, *, at: datetime | None, now: datetime) -> Iterator[Metric]:
    """How long ago it happened; no metric if it never did."""
    if at is not None:
        yield GaugeMetricFamily(name, says, value=_seconds(now - at))


def _streams(connection: Connection, now: datetime) -> Iterator[Metric]:
    health = work_health(connection, now=now)
    yield GaugeMetricFamily("metering_streams_due", "Streams that are due for the finalizer now", value=health.due)
    yield GaugeMetricFamily(
        "metering_oldest_due_seconds",
        "How long the oldest due stream has waited; 0 when none is due",
        value=_seconds(health.oldest_due_age),
    )
    states = GaugeMetricFamily(
        "metering_streams_not_final", "Streams that are not final, by state", labels=["state"]
    )
    for state in State:
        if state is not State.FINALIZED:
            states.add_metric([state.value], health.states.get(state.value, 0))
    yield states
    flagged = GaugeMetricFamily(
        "metering_charges_flagged",
        "Charges and adjustments of the last 24 hours that have a flag, by flag",
        labels=["flag"],
    )
    for flag, bills in flagged_bills(connection, since=now - timedelta(days=1)).items():
        flagged.add_metric([flag.value], bills)
    yield flagged


def _totals(connection: Connection, now: datetime) -> Iterator[Metric]:
    fresh = totals_freshness(connection)
    yield GaugeMetricFamily(
        "metering_totals_pending", "Booked sums that are not rolled up yet", value=fresh.pending
    )
    says = "Seconds since totals were last rolled up; no pending sum is older"
    yield from _age("metering_totals_rolled_up_seconds", says, at=fresh.rolled_up_at, now=now)


def _workers(connection: Connection, now: datetime) -> Iterator[Metric]:
    workers = workers_seen(connection, now=now)
    yield GaugeMetricFamily(
        "metering_workers", "Worker processes with a heartbeat within the last minute", value=workers.alive
    )
    yield from _age(
        "metering_workers_seen_seconds",
        "Seconds since the last heartbeat of any worker",
        at=workers.seen_at,
        now=now,
    )
    yield CounterMetricFamily(
        "metering_streams_finalized", "Streams that workers finalized", value=workers.streams
    )
    yield CounterMetricFamily(
        "metering_finalize_batches", "Transactions in which workers finalized streams", value=workers.batches
    )
    yield CounterMetricFamily(
        "metering_finalize_seconds",
        "Total duration of these transactions",
        value=_seconds(workers.batch_time),
    )


def _months(connection: Connection, now: datetime, grace: timedelta) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "metering_customers_overdue",
        "Customers whose last month is still open after its grace period",
        value=count_overdue_customers(connection, until=now - grace),
    )
    yield GaugeMetricFamily(
        "metering_customers_time_zone_unusable",
        "Customers whose months cannot be closed because their time zone is unusable",
        value=unusable_zones(connection, limit=0).customers,
    )


def _pushes(connection: Connection) -> Iterator[Metric]:
    of = "of the newest month, and of earlier months while not final, by state"
    counts = GaugeMetricFamily("metering_pushes", f"Invoices {of}", labels=["state"])
    cents = GaugeMetricFamily("metering_push_cents", f"Cents that invoices bill, {of}", labels=["state"])
    found = {each.state: each for each in standing_pushes(connection)}
    for state in PushState:
        counts.add_metric([state.value], found[state].count if state in found else 0)
        cents.add_metric([state.value], found[state].billed_cents if state in found else 0)
    yield counts
    yield cents


def _drift(connection: Connection, now: datetime) -> Iterator[Metric]:
    left = {each.drift_class: each for each in drift_left(connection)}
    of = "that the last reconciliation left open, by class"
    counts = GaugeMetricFamily("metering_drift_findings", f"Findings {of}", labels=["class"])
    cents = GaugeMetricFamily("metering_drift_cents", f"Absolute cents of findings {of}", labels=["class"])
    for drift_class in DriftClass:
        each = left.get(drift_class.value)
        counts.add_metric([drift_class.value], each.findings if each else 0)
        cents.add_metric([drift_class.value], each.cents if each else 0)
    yield counts
    yield cents
    says = "Seconds since the last reconciliation with Stripe"
    yield from _age("metering_reconciled_seconds", says, at=reconciled_at(connection), now=now)


def _alerts(connection: Connection, now: datetime) -> Iterator[Metric]:
    health = alert_health(connection)
    says = "Seconds since the evaluation of the kind of alert that was evaluated least recently"
    yield from _age("metering_alerts_evaluated_seconds", says, at=health.evaluated_at, now=now)
    endpoints = GaugeMetricFamily("metering_webhook_endpoints", "Webhook endpoints, by state", labels=["state"])
    for state in EndpointState:
        endpoints.add_metric([state.value], health.endpoints.get(state.value, 0))
    yield endpoints
    oldest = now - health.pending_since if health.pending_since else timedelta()
    says = "Age of the oldest pending webhook delivery; 0 when none is pending"
    yield GaugeMetricFamily("metering_oldest_webhook_seconds", says, value=_seconds(oldest))


def _rates(connection: Connection, now: datetime) -> Iterator[Metric]:
    health = comparison_health(connection)
    says = "Models whose price the installed catalogue would change, neither imported nor kept"
    yield GaugeMetricFamily("metering_price_changes", says, value=health.open_changes)
    says = "Seconds since the installed catalogue was last compared with the stored rates"
    yield from _age("metering_rates_compared_seconds", says, at=health.compared_at, now=now)


def _budgets(connection: Connection, now: datetime) -> Iterator[Metric]:
    health = budget_health(connection, now=now)
    yield GaugeMetricFamily("metering_holds_open", "Holds of streams that are not final", value=health.open_holds)
    says = "Open holds whose stream is final and whose lease has ended; not 0 for long"
    yield GaugeMetricFamily("metering_holds_stale", says, value=health.stale_holds)
    held = float(health.held_usd_cents)
    yield GaugeMetricFamily("metering_held_usd_cents", "What open holds set aside, in cents", value=held)
    says = "Budgets of which all is spent in the current window"
    yield GaugeMetricFamily("metering_budgets_exhausted", says, value=health.exhausted)
