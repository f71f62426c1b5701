"""`metering bench totals`: how long it takes to read the totals of a month with ten million charges."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import httpx2
import msgspec
import psycopg

from metering.access.store.readers import READER_SETTINGS
from metering.core.clock import utc_now
from metering.db.engine import READER_ROLE
from metering.lab.bench.filling import fill_charges, fill_open_streams
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import Say, Stage, Stages, stage

_MONTH = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
_PART = {"from": "2026-10-01T00:00:00Z", "to": "2026-10-23T14:30:00Z"}
_CUSTOMER = "cust_000003"

# Queries of the API, each one request.
QUERIES: Mapping[str, Mapping[str, str]] = {
    "month": _MONTH,
    "month by customer": {**_MONTH, "group_by": "customer_id"},
    "month by customer, 1,000 a page": {**_MONTH, "group_by": "customer_id", "limit": "1000"},
    "month by model and day": {**_MONTH, "group_by": "model", "granularity": "day", "limit": "1000"},
    "month by model and day, in New York": {
        **_MONTH,
        "group_by": "model",
        "granularity": "day",
        "time_zone": "America/New_York",
        "limit": "1000",
    },
    "month by day": {**_MONTH, "granularity": "day"},
    "month by day, in Kolkata": {**_MONTH, "granularity": "day", "time_zone": "Asia/Kolkata"},
    "month by outcome and source": {**_MONTH, "group_by": "outcome,usage_source"},
    "month to date by customer": {**_PART, "group_by": "customer_id"},
    "month to date by model and day": {**_PART, "group_by": "model", "granularity": "day", "limit": "1000"},
    "one customer by model and day": {
        **_MONTH,
        "group_by": "model",
        "granularity": "day",
        "customer_id": _CUSTOMER,
        "limit": "1000",
    },
    "one customer by hour": {**_MONTH, "granularity": "hour", "customer_id": _CUSTOMER, "limit": "1000"},
    "month by API key": {**_MONTH, "group_by": "api_key_id"},
    "month by customer, model and day": {**_MONTH, "group_by": "customer_id,model", "granularity": "day"},
}
# Dashboard pages. Days that are no month are summed by day, and compared with as many days before.
PAGES: Mapping[str, str] = {
    "the dashboard's first page": "/dashboard/?month=2026-10",
    "the same, 15 days beside the 15 before": "/dashboard/?first=2026-10-17&last=2026-10-31",
    "the same, by API key": "/dashboard/?first=2026-10-17&last=2026-10-31&by=keys",
    "the same, by inlet": "/dashboard/?first=2026-10-17&last=2026-10-31&by=inlets",
    "the dashboard's customers": "/dashboard/customers?month=2026-10",
    "the dashboard's page of a customer": f"/dashboard/customer?customer_id={_CUSTOMER}&month=2026-10",
    "the dashboard's models": "/dashboard/models?month=2026-10",
    "the dashboard's streams": "/dashboard/streams?month=2026-10",
}
# Queries of the reporting views, with a reader's privileges and settings.
VIEWS: Mapping[str, str] = {
    "view daily_usage, month by model and day": """
        SELECT day, model, sum(usd) FROM reporting.daily_usage
        WHERE day >= '2026-10-01' AND day < '2026-11-01' GROUP BY day, model""",
    "view daily_usage, month by customer": """
        SELECT customer_id, sum(usd) FROM reporting.daily_usage
        WHERE day >= '2026-10-01' AND day < '2026-11-01' GROUP BY customer_id""",
    "view daily_usage, one customer by day": f"""
        SELECT day, sum(usd) FROM reporting.daily_usage
        WHERE customer_id = '{_CUSTOMER}' AND day >= '2026-10-01' AND day < '2026-11-01' GROUP BY day""",
    "view unbilled, by customer and month": """
        SELECT customer_id, period, sum(usd) FROM reporting.unbilled GROUP BY customer_id, period""",
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One query, run many times in turn."""

    what: str
    rows: int
    p50_ms: float
    p99_ms: float


class TotalsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench totals`."""

    machine: Machine
    charges: int
    filled_seconds: float
    hourly_rows: int
    daily_rows: int
    rows: list[Row]
    open_streams: int
    with_open_streams: Row


def bench_totals(
    *, charges: int, open_streams: int, say: Say, times: int = 40, stages: Stages = stage
) -> TotalsReport:
    """Fill, run each query `times` times, then one more with open streams."""
    with stages() as running:
        say(f"storing {charges:,} charges ...")
        began = perf_counter()
        fill_charges(running, charges)
        filled = perf_counter() - began
        say(f"stored in {filled:.0f} s")
        running.start_api()
        with signed_in(running) as client:
            timed = partial(_timed, times=times, say=say)
            rows = [timed(what, partial(rows_of, client, question)) for what, question in QUERIES.items()]
            rows += [timed(what, partial(open_page, client, path)) for what, path in PAGES.items()]
            rows += _ask_views(running, timed)
            fill_open_streams(running, open_streams)
            what = f"month by customer, {open_streams:,} streams open"
            question = {**_MONTH, "to": "2027-01-01T00:00:00Z", "group_by": "customer_id"}
            with_open = timed(what, partial(rows_of, client, question))
        return TotalsReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            charges=charges,
            filled_seconds=filled,
            hourly_rows=_count(running, "totals_hourly"),
            daily_rows=_count(running, "totals_daily"),
            rows=rows,
            open_streams=open_streams,
            with_open_streams=with_open,
        )


@contextmanager
def signed_in(running: Stage) -> Iterator[httpx2.Client]:
    """A client of the API with a key that reads, signed in to the dashboard as well."""
    headers = running.reader_headers()
    with httpx2.Client(base_url=running.url, headers=headers, timeout=60) as client:
        client.post("/dashboard/sign-in", data={"key": headers["authorization"].removeprefix("Bearer ")})
        yield client


def _ask_views(running: Stage, timed: Callable[[str, Callable[[], int]], Row]) -> list[Row]:
    options = f"-c role={READER_ROLE} -c work_mem={READER_SETTINGS['work_mem']} -c timezone=UTC"
    with psycopg.connect(running.database_url, options=options, autocommit=True) as connection:

        def count(query: str) -> int:
            return len(connection.execute(query.encode()).fetchall())

        return [timed(what, partial(count, query)) for what, query in VIEWS.items()]


def _timed(what: str, ask: Callable[[], int], *, times: int, say: Say) -> Row:
    """Run a query `times` times; its latencies and its number of rows."""
    took: list[float] = []
    found = 0
    for turn in range(times + 2):
        began = perf_counter()
        found = ask()
        if turn >= 2:  # the first two warm up
            took.append((perf_counter() - began) * 1000)
    took.sort()
    row = Row(what=what, rows=found, p50_ms=took[len(took) // 2], p99_ms=took[len(took) * 99 // 100])
    say(f"{what:40} {row.rows:6,} rows  p50 {row.p50_ms:7.1f} ms  p99 {row.p99_ms:7.1f} ms")
    return row


def time_question(client: httpx2.Client, what: str, *, times: int) -> float:
    """The p99 of one of the queries, in milliseconds."""
    return p99_ms(partial(rows_of, client, QUERIES[what]), times=times)


def p99_ms(ask: Callable[[], int], *, times: int) -> float:
    """The p99 of a query, in milliseconds."""
    return _timed("", ask, times=times, say=lambda _: None).p99_ms


def rows_of(client: httpx2.Client, question: Mapping[str, str]) -> int:
    """Ask for totals; the number of rows."""
    answer = client.get("/v1/totals", params=dict(question))
    answer.raise_for_status()
    return len(answer.json()["data"])


def open_page(client: httpx2.Client, path: str) -> int:
    """The number of table rows on a page."""
    answer = client.get(path)
    answer.raise_for_status()
    return answer.text.count("<tr>")


def _count(running: Stage, table: str) -> int:
    return running.one(f"SELECT count(*) FROM {table}")
