"""`metering bench holds`: holds over HTTP, of one hot customer and of many, beside the UPDATE that others use.

The floor is what a service without group commit has at best: a conditional UPDATE of one row, a transaction for
each hold, from as many connections as the holds come from.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from statistics import median
from time import perf_counter

import msgspec
import psycopg

from metering.budgets.budget import BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.set_budget import BudgetTerms, set_budget
from metering.core.clock import utc_now
from metering.lab.bench.driver import Driven
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import Say, Stage, Stages, stage
from metering.lab.bench.workload import Workload

MANY = 1_000
_LIMIT = Decimal(10**15)
_INGEST_CONNECTIONS, _INGEST_EVENTS = 4, 100


class HoldsRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run of holds; `ingest_events_per_second` is what was posted beside them."""

    what: str
    customers: int
    connections: int
    holds_per_second: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    refused: dict[str, int]
    ingest_events_per_second: float = 0.0


class HoldsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench holds`. Ratios are medians of the rounds, whose runs follow each other."""

    machine: Machine
    rows: list[HoldsRow]
    updates_per_second: list[float]
    hot_ratio: float
    floor_ratio: float
    final_held_is_exact: bool


def bench_holds(*, seconds: float, connections: int, rounds: int, say: Say, stages: Stages = stage) -> HoldsReport:
    """Measure, in turn and several times: many customers, one customer, both with ingest beside, the floor."""
    with stages() as running:
        running.start_api()
        bench = _Bench(running, seconds, connections, say)
        bench.set_budgets()
        rows, floors, hot, floor = [], [], [], []
        for _ in range(rounds):
            many = bench.run("many customers", MANY)
            one = bench.run("one customer", 1)
            beside = bench.run("one customer, ingest beside", 1, ingest=True)
            update = asyncio.run(_updates_per_second(running, connections=connections, seconds=seconds))
            say(f"floor: UPDATE of one row, {connections} connections: {update:,.0f}/s")
            rows += [many, one, beside]
            floors.append(update)
            hot.append(one.holds_per_second / max(1.0, many.holds_per_second))
            floor.append(one.holds_per_second / max(1.0, update))
        return HoldsReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            rows=rows,
            updates_per_second=floors,
            hot_ratio=median(hot),
            floor_ratio=median(floor),
            final_held_is_exact=not running.one(_WRONG),
        )


# Budgets whose counter is not the sum of their open holds.
_WRONG = """
SELECT count(*) FROM budgets b WHERE b.held_usd_cents <> (
    SELECT coalesce(sum(h.held_usd_cents), 0) FROM holds h
    WHERE h.state = 'open' AND h.customer_id = b.customer_id)
"""
_CUSTOMERS = """
INSERT INTO customers (customer_id, time_zone, created_at)
SELECT 'held_' || to_char(n, 'FM000000'), 'UTC', now() FROM generate_series(0, {last}) AS n
"""


class _Bench:
    """The runs on a stage with a running API."""

    def __init__(self, running: Stage, seconds: float, connections: int, say: Say) -> None:
        self._stage, self._seconds, self._connections, self._say = running, seconds, connections, say
        self._seeds = count(1)

    def set_budgets(self) -> None:
        """A customer, and a monthly budget, for each of many."""
        self._stage.execute(_CUSTOMERS.format(last=MANY - 1))
        engine, now = self._stage.service.engine, utc_now()
        for number in range(MANY):
            scope = BudgetScope(ScopeKind.CUSTOMER, f"held_{number:06d}")
            terms = BudgetTerms(scope=scope, window=BudgetWindow.MONTH, limit_usd_cents=_LIMIT)
            set_budget(engine=engine, budget_id=f"b{number:06d}", terms=terms, by="bench", now=now)
        self._stage.execute("VACUUM (ANALYZE) budgets, budget_windows")

    def run(self, what: str, customers: int, *, ingest: bool = False) -> HoldsRow:
        """Ask for holds of so many customers, with events posted beside them if wanted."""
        driven, events = self._beside(customers) if ingest else (self._drive(customers), 0.0)
        row = HoldsRow(
            what=what,
            customers=customers,
            connections=self._connections,
            holds_per_second=driven.requests / driven.seconds,
            p50_ms=driven.p50_ms,
            p99_ms=driven.p99_ms,
            worst_ms=driven.worst_ms,
            refused=driven.refused,
            ingest_events_per_second=events,
        )
        beside = f", {row.ingest_events_per_second:,.0f} events/s beside" if ingest else ""
        self._say(
            f"{what:28} {row.holds_per_second:7,.0f} holds/s, p50 {row.p50_ms:5.1f} ms,"
            f" p99 {row.p99_ms:6.1f} ms{beside}"
        )
        return row

    def _drive(self, customers: int) -> Driven:
        return self._stage.drive(
            Workload(events_per_request=1),
            connections=self._connections,
            seconds=self._seconds,
            seed=next(self._seeds),
            hold_customers=customers,
        )

    def _beside(self, customers: int) -> tuple[Driven, float]:
        """The holds, and the events per second that another process posts meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as other:
            posting = other.submit(
                self._stage.drive,
                Workload(events_per_request=_INGEST_EVENTS),
                connections=_INGEST_CONNECTIONS,
                seconds=self._seconds,
                seed=next(self._seeds),
            )
            driven = self._drive(customers)
            posted = posting.result()
        return driven, posted.events / posted.seconds


_FLOOR_TABLE = "CREATE TABLE IF NOT EXISTS floor_budget (id int PRIMARY KEY, held numeric NOT NULL)"
_FLOOR_ROW = "INSERT INTO floor_budget VALUES (1, 0) ON CONFLICT DO NOTHING"
_FLOOR_UPDATE = b"UPDATE floor_budget SET held = held + 0.5 WHERE id = 1 AND held + 0.5 <= 1e15"


async def _updates_per_second(running: Stage, *, connections: int, seconds: float) -> float:
    """How often one row is updated under a condition, a transaction each, with nothing else stored."""
    running.execute(_FLOOR_TABLE)
    running.execute(_FLOOR_ROW)
    until = perf_counter() + seconds

    async def update() -> int:
        done = 0
        async with await psycopg.AsyncConnection.connect(running.database_url, autocommit=True) as connection:
            while perf_counter() < until:
                await connection.execute(_FLOOR_UPDATE)
                done += 1
        return done

    return sum(await asyncio.gather(*(update() for _ in range(connections)))) / seconds
