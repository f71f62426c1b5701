"""`metering bench alerts`: evaluates alerts for 100,000 customers, when none fires and when all fire."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

import msgspec

from metering.alerts.alerts import AlertKind, AlertScope, AlertTerms
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.alerts.manage_alerts import create_alert
from metering.alerts.manage_endpoints import create_endpoint
from metering.core.clock import utc_now
from metering.events.usage import COUNTERS
from metering.lab.bench.filling import fill_rollups
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import BenchFailedError, Say, Stage, Stages, stage

# The last days of a month have the most hours to sum.
NOW = datetime(2026, 10, 30, 15, 30, tzinfo=UTC)
_TIMES = 5

# A third of the customers in each of three time zones.
_CUSTOMERS = """
INSERT INTO customers (customer_id, created_at, time_zone)
SELECT 'cust_' || to_char(n, 'FM000000'), now(), (ARRAY['UTC', 'Europe/Berlin', 'America/New_York'])[1 + n % 3]
FROM generate_series(1, {customers}) AS n
"""
# Some hours of each day up to now for each customer; each hour has one model, outcome and source.
_HOURS = f"""
INSERT INTO totals_hourly (customer_id, hour, provider, model, api_key_id, outcome, usage_source, retry,
    stream_count, {", ".join(COUNTERS)}, usd_cents)
SELECT 'cust_' || to_char(c, 'FM000000'),
    timestamptz '2026-10-01 00:00Z' + h % 30 * interval '1 day' + (c + 7 * h) % 15 * interval '1 h',
    'openai', 'model-' || (c + h) % 5, 'key',
    (ARRAY['completed', 'completed', 'cancelled', 'abandoned'])[1 + h % 4],
    (ARRAY['provider', 'provider', 'provider', 'estimate'])[1 + (h / 4) % 4], 'false', 10,
    {", ".join("1000" for _ in COUNTERS)}, 10 + (c % 9000) * 0.000125
FROM generate_series({{first}}, {{last}}) AS c, generate_series(1, {{hours}}) AS h
ON CONFLICT DO NOTHING
"""
_OWN = """
INSERT INTO alerts (alert_id, kind, scope, customer_id, name, version, thresholds, budget_usd_cents, enabled,
    created_by, created_at, changed_at)
SELECT 'alr_' || customer_id, 'spend', 'customer', customer_id, 'own', 1, ARRAY[50, 80, 100], 1000000, true,
    'bench', now(), now() FROM customers
"""
# A backlog: one stream for every tenth customer.
_BACKLOG = """
INSERT INTO streams (customer_id, stream_id, last_event_at, first_received_at, last_received_at, state)
SELECT customer_id, 's', '{now}', '{now}', '{now}', 'unpriced' FROM customers WHERE right(customer_id, 1) = '0'
"""
# A tenth of the customers has three budgets with a year of windows, and ten grants of which one is left.
_BUDGETS = f"""
INSERT INTO budgets (customer_id, budget_id, scope, budget_window, limit_usd_cents, action, version, created_at,
    counted_from, opened_at)
SELECT customer_id, customer_id || w, 'customer', w, 1000000, 'refuse', 1, '{NOW}', '{NOW}', '{NOW}'
FROM customers CROSS JOIN unnest(ARRAY['day', 'month', 'total']) AS w WHERE right(customer_id, 1) = '0';
INSERT INTO budget_windows (customer_id, budget_id, starts_at, ends_at, spent_usd_cents)
SELECT b.customer_id, b.budget_id, starts_at, starts_at + length, 123.456
FROM budgets b CROSS JOIN LATERAL (
    SELECT s AS starts_at, interval '1 day' AS length
    FROM generate_series(timestamptz '2025-10-31 00:00Z', '2026-10-30 00:00Z', '1 day') AS s
    WHERE b.budget_window = 'day'
    UNION ALL
    SELECT s, s + interval '1 month' - s
    FROM generate_series(timestamptz '2025-11-01 00:00Z', '2026-10-01 00:00Z', '1 month') AS s
    WHERE b.budget_window = 'month'
    UNION ALL
    SELECT '1970-01-01 00:00Z', '9999-01-01 00:00Z'::timestamptz - '1970-01-01 00:00Z'
    WHERE b.budget_window = 'total') AS windows
"""
_GRANTS = f"""
INSERT INTO grants (customer_id, grant_id, amount_usd_cents, paid_usd_cents, priority, effective_from, funding,
    reason, created_at, created_by, state, balance_usd_cents, entry_count, changed_at, sold_period)
SELECT customer_id, customer_id || g, 100000, 0, 500, '{NOW}', 'none', 'bench', '{NOW}', 'bench', 'active',
    CASE g WHEN 1 THEN 100000 ELSE 0 END, 2, '{NOW}', '2026-10'
FROM customers CROSS JOIN generate_series(1, 10) AS g WHERE right(customer_id, 1) = '0'
"""
_CHUNK = 10_000


class KindRow(msgspec.Struct, frozen=True, kw_only=True):
    """How long one evaluation of a kind of alert takes when none fires, in milliseconds."""

    kind: str
    p50_ms: float
    worst_ms: float


class AlertsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench alerts`. `own` counts the alerts of single customers."""

    machine: Machine
    customers: int
    hourly_rows: int
    own: int
    rows: list[KindRow]
    occurred: int
    occurred_seconds: float


def bench_alerts(*, customers: int, hours: int, say: Say, stages: Stages = stage) -> AlertsReport:
    """Fill, evaluate several times below every threshold, then once above all of them."""
    with stages() as running:
        say(f"storing {hours} hours of {customers:,} customers ...")
        fill_customers(running, customers=customers, hours=hours)
        create_alerts(running)
        rows = [_measure(running, kind, say) for kind in AlertKind]
        running.execute("UPDATE alerts SET budget_usd_cents = 1, version = 2 WHERE kind = 'spend'")
        began = perf_counter()
        occurred = evaluate_all(running, AlertKind.SPEND)
        seconds = perf_counter() - began
        if occurred != 4 * customers:
            raise BenchFailedError(f"{occurred:,} alerts fired, not {4 * customers:,}")
        say(f"{occurred:,} alerts fired and queued in {seconds:.1f} s")
        return AlertsReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            customers=customers,
            hourly_rows=running.one("SELECT count(*) FROM totals_hourly"),
            own=customers,
            rows=rows,
            occurred=occurred,
            occurred_seconds=seconds,
        )


def fill_customers(running: Stage, *, customers: int, hours: int) -> None:
    running.execute(_CUSTOMERS.format(customers=customers))
    for first in range(1, customers + 1, _CHUNK):
        last = min(first + _CHUNK - 1, customers)
        running.execute(_HOURS.format(first=first, last=last, hours=hours))
    fill_rollups(running)
    running.execute(_BACKLOG.format(now=NOW.isoformat()))
    running.execute(_BUDGETS)
    running.execute(_GRANTS)
    running.execute("VACUUM (ANALYZE)")
    running.execute("CHECKPOINT")


def create_alerts(running: Stage) -> None:
    """Create one unreachable alert of each kind for all customers, and a spend alert for each customer."""
    unreachable: dict[AlertKind, dict[str, Decimal]] = {
        AlertKind.SPEND: {"budget_usd_cents": Decimal(10**9)},
        AlertKind.DAILY_CHANGE: {"floor_usd_cents": Decimal(10**9)},
        AlertKind.ESTIMATED_SHARE: {"floor_usd_cents": Decimal(10**9)},
        AlertKind.DRIFT: {},
        AlertKind.BACKLOG_AGE: {},
        AlertKind.PRICE_CHANGE: {},
        AlertKind.INCONSISTENT_USAGE: {},
        AlertKind.BUDGET: {},
        AlertKind.BALANCE_BELOW: {},
    }
    for kind, amounts in unreachable.items():
        terms = AlertTerms(
            kind=kind,
            scope=AlertScope.EACH_CUSTOMER,
            customer_id=None,
            thresholds=(Decimal(100),),
            **amounts,  # type: ignore[arg-type]
        )
        create_alert(
            engine=running.service.engine, name=kind.value, terms=terms, created_by="bench", now=utc_now()
        )
    running.execute(_OWN)
    create_endpoint(
        engine=running.service.engine,
        url="https://hooks.example.com/",
        description="",
        types=(),
        allow_private=False,
        created_by="bench",
        now=utc_now(),
    )
    running.execute("ANALYZE alerts")


def _measure(running: Stage, kind: AlertKind, say: Say) -> KindRow:
    took = []
    for _ in range(_TIMES):
        began = perf_counter()
        if found := evaluate_all(running, kind):
            raise BenchFailedError(f"{found:,} alerts of kind {kind} fired")
        took.append((perf_counter() - began) * 1000)
    took.sort()
    row = KindRow(kind=kind.value, p50_ms=took[len(took) // 2], worst_ms=took[-1])
    say(f"{row.kind:16} p50 {row.p50_ms:7.0f} ms  at most {row.worst_ms:7.0f} ms")
    return row


def evaluate_all(running: Stage, kind: AlertKind) -> int:
    """Evaluate until nothing is left; returns the number of alerts that fired."""
    running.execute(f"UPDATE alert_evaluations SET due_at = 'epoch' WHERE kind = '{kind.value}'")
    occurred = 0
    while True:
        found = evaluate_alerts(engine=running.service.engine, kind=kind, every=timedelta(minutes=1), now=NOW)
        if found is None:
            raise BenchFailedError(f"{kind} was not due")
        occurred += found.occurrences
        if not found.more:
            return occurred
