"""`metering bench invoices`: closes and invoices a month for 100,000 customers, without Stripe."""

import resource
from time import perf_counter

import msgspec

from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import BenchFailedError, Say, Stage, Stages, stage
from metering.months.run_invoices import RunRequest, begin_run, close_run
from metering.server.outgoing import close_terms

PERIOD = BillingPeriod(2026, 10)

_CUSTOMERS = """
INSERT INTO customers (customer_id, created_at)
SELECT 'cust_' || to_char(n, 'FM000000'), now() FROM generate_series(1, {customers}) AS n
"""
# Each customer uses `lines` models several times over the whole month, at its own prices.
_CHARGES = """
INSERT INTO charges (customer_id, stream_id, charge_id, booked_at, period, outcome, provider, model,
    response_model, api_key_id, started_at, ended_at, input_tokens, output_tokens, usage_source, input_unknown,
    cancel_policy, rate_card_id, rated_model, lines, usd_cents)
SELECT 'cust_' || to_char(c, 'FM000000'), 's' || n, 'ch_' || md5(c || '/' || n), at, '2026-10', 'completed',
    'openai', 'model-' || n % {lines}, 'model-' || n % {lines}, 'key_' || n % 2, at - interval '5 s', at,
    n * 800, n * 90, 'provider', false, 'delivered', 'rc_bench', 'model-' || n % {lines},
    format('[{{"kind": "input", "quantity": %s, "usd_per_million": "5", "usd_cents": "%s"}},'
        ' {{"kind": "output", "quantity": %s, "usd_per_million": "%s", "usd_cents": "%s"}}]',
        n * 800, n * 0.4, n * 90, rate, n * 90 * rate / 10000)::json,
    n * 0.4 + n * 90 * rate / 10000
FROM (SELECT c, n, trim_scale(25 + c % 9000 * 0.0125) AS rate,
             timestamptz '2026-10-01 00:00Z' + (c * 7919 + n * 104729) % 2678400 * interval '1 s' AS at
      FROM generate_series({first}, {last}) AS c, generate_series(1, {per_customer}) AS n) AS drawn
{order}
"""
_CHUNK = 10_000


class InvoicesReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench invoices`. `processes` counts this process and the workers."""

    machine: Machine
    customers: int
    lines_per_invoice: int
    charges: int
    processes: int
    filled_seconds: float
    closed_seconds: float
    customers_per_second: float
    charges_per_second: float
    peak_megabytes: float


def bench_invoices(
    *, customers: int, lines: int, charges_per_line: int, workers: int, say: Say, stages: Stages = stage
) -> InvoicesReport:
    """Fill a month, then close it as `metering invoices run` does, beside `workers` worker processes."""
    with stages() as running:
        charges = customers * lines * charges_per_line
        say(f"storing {charges:,} charges of {customers:,} customers ...")
        began = perf_counter()
        fill_month(running, customers=customers, lines=lines, charges_per_line=charges_per_line)
        filled = perf_counter() - began
        say(f"stored in {filled:.0f} s")
        for _ in range(workers):
            running.start_worker()
        closed = close_month(running)
        invoices = running.one("SELECT count(*) FROM invoices")
        if invoices != customers:
            raise BenchFailedError(f"{invoices:,} invoices for {customers:,} customers")
        say(f"closed and invoiced in {closed:.1f} s: {customers / closed:,.0f} customers/s")
        return InvoicesReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            customers=customers,
            lines_per_invoice=lines,
            charges=charges,
            processes=workers + 1,
            filled_seconds=filled,
            closed_seconds=closed,
            customers_per_second=customers / closed,
            charges_per_second=charges / closed,
            peak_megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


def fill_month(
    running: Stage, *, customers: int, lines: int, charges_per_line: int, in_time_order: bool = False
) -> None:
    """Store a month of charges; each customer uses one model for each line of its invoice.

    The rows are ordered by customer on disk, or by the time of booking, as after a real month.
    """
    running.execute(_CUSTOMERS.format(customers=customers))
    for first in range(1, customers + 1, _CHUNK):
        running.execute(
            _CHARGES.format(
                first=first,
                last=min(first + _CHUNK - 1, customers),
                lines=lines,
                per_customer=lines * charges_per_line,
                order="ORDER BY at" if in_time_order else "",
            )
        )
    running.execute("VACUUM (ANALYZE)")
    running.execute("CHECKPOINT")


def close_month(running: Stage) -> float:
    """Close the month as `metering invoices run` does; returns the seconds that it took."""
    service = running.service
    began = perf_counter()
    run = begin_run(
        engine=service.engine,
        request=RunRequest(period=PERIOD, requested_by="the benchmark"),
        terms=close_terms(service.settings),
        now=utc_now(),
    )
    close_run(engine=service.engine, run=run, terms=close_terms(service.settings), clock=utc_now)
    return perf_counter() - began
