"""docs/performance.md: the last figures as tables and a plot, from the JSON that the benchmarks wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from metering.lab.bench.alerts import AlertsReport
from metering.lab.bench.audit import AuditBenchReport
from metering.lab.bench.emitter import EmitterReport
from metering.lab.bench.exports import ExportsReport
from metering.lab.bench.finalize import FinalizeReport
from metering.lab.bench.gateway import GatewayReport
from metering.lab.bench.growth import GrowthReport
from metering.lab.bench.holds import HoldsReport
from metering.lab.bench.ingest import IngestReport, Row
from metering.lab.bench.invoices import InvoicesReport
from metering.lab.bench.neighbours import NeighboursReport, counts_of
from metering.lab.bench.page_blocks import markdown_table, numbers, section
from metering.lab.bench.page_gateways import emitter_section, gateway_section, resume_section
from metering.lab.bench.page_growth import growth_section
from metering.lab.bench.push import PushReport
from metering.lab.bench.rating import RatingReport
from metering.lab.bench.resume import ResumeReport
from metering.lab.bench.speed import SpeedReport
from metering.lab.bench.totals import TotalsReport

Report = TypeVar("Report", bound=msgspec.Struct)

_HEAD = """# Performance

Measured with `make bench` on one small machine: client, API, PostgreSQL and workers share its cores. All figures
are with `fsync`, `synchronous_commit` and `full_page_writes` on, with authentication and full validation, and with
every event in the journal. `metering bench page` writes this page from `docs/performance/*.json`;
[what limits them](performance-limits.md) explains the figures.
"""


def render_page(results: Path) -> str:
    """The page as Markdown, from a folder with the JSON of each benchmark, such as `ingest.json`."""
    return "\n".join(
        [
            _HEAD,
            *_at_a_glance(results / "speed.json"),
            *_ingest(_read(results / "ingest.json", IngestReport)),
            *_finalize(_read(results / "finalize.json", FinalizeReport)),
            *_totals(_read(results / "totals.json", TotalsReport)),
            *_rating(_read(results / "rating.json", RatingReport)),
            *_audit(_read(results / "audit.json", AuditBenchReport)),
            *_invoices(_read(results / "invoices.json", InvoicesReport)),
            *_push(_read(results / "push.json", PushReport)),
            *_exports(_read(results / "exports.json", ExportsReport)),
            *_alerts(_read(results / "alerts.json", AlertsReport)),
            *gateway_section(_read(results / "gateway.json", GatewayReport)),
            *resume_section(_read(results / "resume.json", ResumeReport)),
            *emitter_section(_read(results / "emitter.json", EmitterReport)),
            *_holds(_read(results / "holds.json", HoldsReport)),
            *_neighbours(_read(results / "neighbours.json", NeighboursReport)),
            *_growth(results / "growth.json"),
        ]
    )


def _read(path: Path, kind: type[Report]) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def _growth(path: Path) -> list[str]:
    """The same work at each size, where it has been measured."""
    return growth_section(_read(path, GrowthReport)) if path.exists() else []


def _at_a_glance(path: Path) -> list[str]:
    """The headline speeds, where they have been measured."""
    if not path.exists():
        return []
    report = _read(path, SpeedReport)
    table = markdown_table(
        "what | unit | measured | aim | floor | what the floor is | ratio",
        (
            f"{row.what} | {row.unit} | {row.measured:,.0f} | {'' if row.aim is None else f'{row.aim:,.0f}'} "
            f"| {row.floor:,.0f} | {row.floor_is} | {row.ratio:.2f}"
            for row in report.rows
        ),
        texts=2,
    )
    note = (
        "All of it in one run, each figure beside the least that has to be done for it. The ratio is the part of"
        f" the floor's speed that is reached. The load of the machine was {report.load:.1f} before the run."
    )
    return section("At a glance", report.machine, note, table)


def _ingest(report: IngestReport) -> list[str]:
    main = [row for row in report.rows if row.what == "api alone"]
    labels = ", ".join(f'"{row.events_per_request} x {row.connections}"' for row in main)
    values = ", ".join(str(round(row.events_per_second / 1000)) for row in main)
    plot = (
        '```mermaid\nxychart-beta\n    title "Durable events per second, in thousands, by events per request x'
        f' connections"\n    x-axis [{labels}]\n    y-axis "thousand events/s"\n    bar [{values}]\n```'
    )
    floor, growth, soak = report.floor, report.growth, report.soak
    blocks = [
        plot,
        _ingest_table([*report.rows, report.beside.row]),
        f"In the last row, the worker finalized {report.beside.finalized_per_second:,.0f} streams/s; API, worker, "
        f"PostgreSQL and client share {report.machine.cores} cores.",
        "Bare psycopg, which writes the same folded batches and journal rows without HTTP, "
        f"{floor.requests_per_commit} requests per transaction: {numbers(floor.bare_events_per_second)} events/s; "
        f"over HTTP, in alternating rounds: {numbers(floor.http_events_per_second)}; ratio {floor.ratio:.2f}.",
    ]
    if growth is not None:
        blocks.append(
            f"With {growth.stored_streams:,} stored streams: {growth.grown.events_per_second:,.0f} events/s; "
            f"without them: {growth.empty.events_per_second:,.0f}; ratio {growth.ratio:.2f}."
        )
    if soak is not None:
        blocks.append(
            f"{soak.seconds:.0f} s under full load: {soak.row.events_per_second:,.0f} events/s, "
            f"p99 {soak.row.p99_ms:.0f} ms; the memory of the API process, read every ten seconds, was from "
            f"{min(soak.megabytes):.0f} to {max(soak.megabytes):.0f} MB."
        )
    return section("Ingest", report.machine, *blocks)


def _ingest_table(rows: Sequence[Row]) -> str:
    return markdown_table(
        " | events per request | connections | events/s | requests/s | p50 ms | p99 ms | requests per commit "
        "| CPU us per event: API, PostgreSQL, client | WAL bytes | journal bytes | API MB",
        (
            f"{row.what} | {row.events_per_request:,} | {row.connections} | {row.events_per_second:,.0f} "
            f"| {row.requests_per_second:,.0f} | {row.p50_ms:.1f} | {row.p99_ms:.1f} "
            f"| {row.requests_per_commit:.1f} | {row.api_cpu_microseconds:.1f}, "
            f"{row.postgres_cpu_microseconds:.1f}, {row.client_cpu_microseconds:.1f} | {row.wal_bytes:.0f} "
            f"| {row.journal_disk_bytes:.0f} | {row.api_peak_megabytes:.0f}"
            for row in rows
        ),
    )


def _finalize(report: FinalizeReport) -> list[str]:
    table = markdown_table(
        "worker processes | streams/s | CPU us per stream: workers, PostgreSQL | WAL bytes per stream",
        (
            f"{row.workers} | {row.streams_per_second:,.0f} | {row.worker_cpu_microseconds:.0f}, "
            f"{row.postgres_cpu_microseconds:.0f} | {row.wal_bytes:,.0f}"
            for row in report.rows
        ),
        texts=0,
    )
    floor = (
        f"{report.rows[0].streams:,} streams, {report.batch:,} per transaction. A bare COPY of the same charges "
        f"and an UPDATE of their streams: {report.bare_streams_per_second:,.0f} streams/s; "
        f"ratio {report.ratio:.2f}."
    )
    return section("Finalize", report.machine, table, floor)


def _totals(report: TotalsReport) -> list[str]:
    stored = (
        f"{report.charges:,} charges of one month, stored in {report.filled_seconds:.0f} s: "
        f"{report.hourly_rows:,} hourly sums, {report.daily_rows:,} daily sums."
    )
    table = markdown_table(
        "query, one request at a time | rows | p50 ms | p99 ms",
        (
            f"{row.what} | {row.rows:,} | {row.p50_ms:.0f} | {row.p99_ms:.0f}"
            for row in [*report.rows, report.with_open_streams]
        ),
    )
    return section("Totals", report.machine, stored, table)


def _rating(report: RatingReport) -> list[str]:
    rated = (
        f"One thread looks up and rates {report.streams_per_second:,.0f} streams/s, "
        f"{report.lines_per_second:,.0f} charge lines/s, over {report.models:,} models of the catalogue."
    )
    return section("Rating", report.machine, rated)


def _audit(report: AuditBenchReport) -> list[str]:
    table = markdown_table(
        "events | streams | seconds | events/s | peak MB",
        (
            f"{row.events:,} | {row.streams:,} | {row.seconds:.1f} | {row.events_per_second:,.0f} "
            f"| {row.peak_megabytes:.0f}"
            for row in report.rows
        ),
        texts=0,
    )
    what = f"`metering audit` over all stored data, with {report.events_per_stream} events per stream:"
    return section("Audit", report.machine, what, table)


def _invoices(report: InvoicesReport) -> list[str]:
    closed = (
        f"A month of {report.charges:,} charges is closed for {report.customers:,} customers, with an invoice of "
        f"{report.lines_per_invoice} lines for each, in {report.closed_seconds:.0f} s: "
        f"{report.customers_per_second:,.0f} customers/s, {report.charges_per_second:,.0f} charges/s, "
        f"by {report.processes} processes, without Stripe."
    )
    return section("Months", report.machine, closed)


def _push(report: PushReport) -> list[str]:
    pushed = (
        f"One process pushes {report.customers:,} invoices of {report.lines_per_invoice} lines to a local Stripe "
        f"on the same cores, with {report.calls:.1f} calls each, in {report.pushed_seconds:.0f} s: "
        f"{report.invoices_per_second:,.0f} invoices/s. Pushing again makes no call and takes "
        f"{report.again_seconds:.2f} s. Reconciling takes {report.reconciled_seconds:.0f} s: "
        f"{report.reconciled_per_second:,.0f} invoices/s. With Stripe itself, its rate limits decide: at 20 calls "
        "per second and endpoint, 20 invoices per second."
    )
    return section("Stripe", report.machine, pushed)


def _exports(report: ExportsReport) -> list[str]:
    what = (
        f"`metering export` writes a closed month of {report.charges:,} charges of {report.customers:,} "
        "customers, whose rows are in the order of time, one file after the other. It checks the sums of every "
        "file against the invoices."
    )
    table = markdown_table(
        "export | format | rows | seconds | rows/s | file MB | peak MB | CPU s of the exporting process",
        (
            f"{row.kind} | {row.format} | {row.rows:,} | {row.seconds:.1f} | {row.rows_per_second:,.0f} "
            f"| {row.file_megabytes:,.0f} | {row.peak_megabytes:.0f} | {row.cpu_seconds:.0f}"
            for row in report.rows
        ),
        texts=2,
    )
    return section("Exports", report.machine, what, table)


def _alerts(report: AlertsReport) -> list[str]:
    what = (
        f"One evaluation for {report.customers:,} customers in three time zones and {report.hourly_rows:,} hourly "
        "sums. Each customer has a spend alert, and one alert of each kind applies to all customers:"
    )
    table = markdown_table(
        "kind of alert, none fires | p50 ms | worst ms",
        (f"{row.kind} | {row.p50_ms:,.0f} | {row.worst_ms:,.0f}" for row in report.rows),
    )
    fired = (
        f"When all spend alerts fire at once, {report.occurred:,} occurrences are stored and as many webhooks "
        f"queued in {report.occurred_seconds:.0f} s, while other work goes on."
    )
    return section("Alerts", report.machine, what, table, fired)


def _neighbours(report: NeighboursReport) -> list[str]:
    table = markdown_table(
        "beside | p50 ms alone, beside | p99 ms alone, beside | ratio | aim | quiet client | noisy ones "
        "| `/livez` | worst ms | load",
        (
            f"{row.what} | {row.alone_p50_ms:.1f}, {row.beside_p50_ms:.1f} "
            f"| {row.alone_p99_ms:.0f}, {row.beside_p99_ms:.0f} | {row.ratio:.1f} "
            f"| {'' if row.aim is None else f'below {row.aim:g}'} "
            f"| {counts_of(row.quiet)} | {counts_of(row.noisy)} "
            f"| {row.livez - row.livez_failed} of {row.livez} | {row.livez_worst_ms:.0f} | {row.load:.1f}"
            for row in report.rows
        ),
    )
    note = (
        f"A quiet key posts {report.rate:g} requests a second, each with ten new streams. Windows alone and beside"
        " a noise take turns; a request's time is from when it was due. API, PostgreSQL and all clients share the"
        f" {report.machine.cores} cores, so that a noise takes the machine from the quiet client, too. The readers"
        f" ask for a month of {report.charges:,} charges, by hour and by everything."
    )
    return section("Neighbours", report.machine, table, note)


def _holds(report: HoldsReport) -> list[str]:
    first = report.rows[0]
    runs = markdown_table(
        "run | holds/s | p50 ms | p99 ms | events/s posted beside",
        (
            f"{row.what} | {row.holds_per_second:,.0f} | {row.p50_ms:.1f} | {row.p99_ms:.1f} "
            f"| {f'{row.ingest_events_per_second:,.0f}' if row.ingest_events_per_second else ''}"
            for row in report.rows
        ),
    )
    exact = "are" if report.final_held_is_exact else "are NOT"
    note = (
        f"Holds over HTTP by {first.connections} connections, for {first.customers:,} customers and for one; the"
        " runs take turns. The floor is a conditional UPDATE of one row, a transaction for each, from as many"
        f" connections: {numbers(report.updates_per_second)} a second. Ratio of one customer to many:"
        f" {report.hot_ratio:.2f}; to the floor: {report.floor_ratio:.2f}. At the end, the counters of all budgets"
        f" {exact} the sums of their open holds."
    )
    return section("Holds", report.machine, runs, note)
