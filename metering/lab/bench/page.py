"""docs/performance.md: the last figures as tables and a plot, from the JSON that the benchmarks wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from metering.lab.bench.alerts import AlertsReport
from metering.lab.bench.audit import AuditBenchReport
from metering.lab.bench.exports import ExportsReport
from metering.lab.bench.finalize import FinalizeReport
from metering.lab.bench.ingest import IngestReport, Row
from metering.lab.bench.invoices import InvoicesReport
from metering.lab.bench.machine import Machine
from metering.lab.bench.push import PushReport
from metering.lab.bench.rating import RatingReport
from metering.lab.bench.totals import TotalsReport

Report = TypeVar("Report", bound=msgspec.Struct)

_HEAD = """# Performance

What one small machine does, measured by `make bench`; client, API, PostgreSQL and workers share its cores. Each
figure is with `fsync`, `synchronous_commit` and `full_page_writes` on, with authentication and full validation,
and with each event in the journal. This page is written by `metering bench page` from `docs/performance/*.json`;
what the figures mean is in [what limits them](performance-limits.md).
"""


def render_page(results: Path) -> str:
    """The page, from a folder with each benchmark's JSON under its name, such as `ingest.json`."""
    ingest = _read(results / "ingest.json", IngestReport)
    finalize = _read(results / "finalize.json", FinalizeReport)
    totals = _read(results / "totals.json", TotalsReport)
    rating = _read(results / "rating.json", RatingReport)
    audit = _read(results / "audit.json", AuditBenchReport)
    invoices = _read(results / "invoices.json", InvoicesReport)
    push = _read(results / "push.json", PushReport)
    exports = _read(results / "exports.json", ExportsReport)
    alerts = _read(results / "alerts.json", AlertsReport)
    parts = [_HEAD, *_ingest(ingest), *_finalize(finalize), *_totals(totals), *_rating(rating), *_audit(audit)]
    parts += [*_invoices(invoices), *_push(push), *_exports(exports), *_alerts(alerts)]
    return "\n".join(parts)


def _read(path: Path, kind: type[Report]) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=kind)


def _ingest(report: IngestReport) -> list[str]:
    main = [row for row in report.rows if row.what == "api alone"]
    labels = ", ".join(f'"{row.events_per_request} x {row.connections}"' for row in main)
    values = ", ".join(str(round(row.events_per_second / 1000)) for row in main)
    floor, growth, soak = report.floor, report.growth, report.soak
    parts = [
        "## Ingest",
        "",
        _measured(report.machine),
        "",
        "```mermaid",
        "xychart-beta",
        '    title "Durable events a second, in thousands, by events a request x connections"',
        f"    x-axis [{labels}]",
        '    y-axis "thousand events/s"',
        f"    bar [{values}]",
        "```",
        "",
        _ingest_table([*report.rows, report.beside.row]),
        f"The worker beside finalized {report.beside.finalized_per_second:,.0f} streams/s meanwhile; API, worker, "
        f"PostgreSQL and client share {report.machine.cores} cores.",
        "",
        f"Bare psycopg, writing the same folded batches and journal rows, {floor.requests_per_commit} requests "
        f"a transaction, without HTTP: {_list(floor.bare_events_per_second)} events/s, over HTTP in turn with it "
        f"{_list(floor.http_events_per_second)}; ratio {floor.ratio:.2f}.",
        "",
    ]
    if growth is not None:
        parts += [
            f"With {growth.stored_streams:,} streams stored already: {growth.grown.events_per_second:,.0f}"
            f" events/s, before that {growth.empty.events_per_second:,.0f}; ratio {growth.ratio:.2f}.",
            "",
        ]
    if soak is not None:
        parts += [
            f"{soak.seconds:.0f} s under full load: {soak.row.events_per_second:,.0f} events/s, "
            f"p99 {soak.row.p99_ms:.0f} ms; looked at every ten seconds, the API process held from "
            f"{min(soak.megabytes):.0f} to {max(soak.megabytes):.0f} MB.",
            "",
        ]
    return parts


def _ingest_table(rows: Sequence[Row]) -> str:
    lines = [
        "| | events a request | connections | events/s | requests/s | p50 ms | p99 ms | requests a commit "
        "| CPU us an event: API, PostgreSQL, client | WAL bytes | journal bytes | API MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.what} | {row.events_per_request:,} | {row.connections} | {row.events_per_second:,.0f} "
        f"| {row.requests_per_second:,.0f} | {row.p50_ms:.1f} | {row.p99_ms:.1f} | {row.requests_per_commit:.1f} "
        f"| {row.api_cpu_microseconds:.1f}, {row.postgres_cpu_microseconds:.1f}, "
        f"{row.client_cpu_microseconds:.1f} | {row.wal_bytes:.0f} | {row.journal_disk_bytes:.0f} "
        f"| {row.api_peak_megabytes:.0f} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def _finalize(report: FinalizeReport) -> list[str]:
    lines = [
        "| worker processes | streams/s | CPU us a stream: workers, PostgreSQL | WAL bytes a stream |",
        "|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.workers} | {row.streams_per_second:,.0f} | {row.worker_cpu_microseconds:.0f}, "
        f"{row.postgres_cpu_microseconds:.0f} | {row.wal_bytes:,.0f} |"
        for row in report.rows
    ]
    return [
        "## Finalize",
        "",
        _measured(report.machine),
        "",
        *lines,
        "",
        f"{report.rows[0].streams:,} streams, {report.batch:,} a transaction. A bare COPY of the same charges and "
        f"an UPDATE of their streams: {report.bare_streams_per_second:,.0f} streams/s; ratio {report.ratio:.2f}.",
        "",
    ]


def _totals(report: TotalsReport) -> list[str]:
    rows = [*report.rows, report.with_open_streams]
    lines = ["| question, one request after the other | rows | p50 ms | p99 ms |", "|---|--:|--:|--:|"]
    lines += [f"| {row.what} | {row.rows:,} | {row.p50_ms:.0f} | {row.p99_ms:.0f} |" for row in rows]
    return [
        "## Totals",
        "",
        _measured(report.machine),
        "",
        f"{report.charges:,} charges of one month, stored in {report.filled_seconds:.0f} s: "
        f"{report.hourly_rows:,} sums by hour, {report.daily_rows:,} by day.",
        "",
        *lines,
        "",
    ]


def _rating(report: RatingReport) -> list[str]:
    return [
        "## Rating",
        "",
        _measured(report.machine),
        "",
        f"One thread looks up and rates {report.streams_per_second:,.0f} streams/s, "
        f"{report.lines_per_second:,.0f} charge lines/s, over {report.models:,} models of the catalogue.",
        "",
    ]


def _audit(report: AuditBenchReport) -> list[str]:
    lines = ["| events | streams | seconds | events/s | peak MB |", "|--:|--:|--:|--:|--:|"]
    lines += [
        f"| {row.events:,} | {row.streams:,} | {row.seconds:.1f} | {row.events_per_second:,.0f} "
        f"| {row.peak_megabytes:.0f} |"
        for row in report.rows
    ]
    return [
        "## Audit",
        "",
        _measured(report.machine),
        "",
        f"`metering audit` over all that is stored, of streams with {report.events_per_stream} events:",
        "",
        *lines,
        "",
    ]


def _invoices(report: InvoicesReport) -> list[str]:
    return [
        "## Months",
        "",
        _measured(report.machine),
        "",
        f"A month of {report.charges:,} charges is closed for {report.customers:,} customers, and an invoice of "
        f"{report.lines_per_invoice} lines made for each, in {report.closed_seconds:.0f} s: "
        f"{report.customers_per_second:,.0f} customers/s, {report.charges_per_second:,.0f} charges/s, "
        f"by {report.processes} processes; Stripe aside.",
        "",
    ]


def _push(report: PushReport) -> list[str]:
    return [
        "## Stripe",
        "",
        _measured(report.machine),
        "",
        f"{report.customers:,} invoices of {report.lines_per_invoice} lines are pushed by one process to a local "
        f"Stripe on the same cores, {report.calls:.1f} calls each, in {report.pushed_seconds:.0f} s: "
        f"{report.invoices_per_second:,.0f} invoices/s. Pushing again asks nothing of it, in "
        f"{report.again_seconds:.2f} s. Reconciling takes {report.reconciled_seconds:.0f} s: "
        f"{report.reconciled_per_second:,.0f} invoices/s. With Stripe itself its limits decide: at 20 calls a "
        "second to an endpoint, 20 invoices a second.",
        "",
    ]


def _exports(report: ExportsReport) -> list[str]:
    lines = [
        "| export | format | rows | seconds | rows/s | file MB | peak MB | CPU s of the exporting process |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.kind} | {row.format} | {row.rows:,} | {row.seconds:.1f} | {row.rows_per_second:,.0f} "
        f"| {row.file_megabytes:,.0f} | {row.peak_megabytes:.0f} | {row.cpu_seconds:.0f} |"
        for row in report.rows
    ]
    return [
        "## Exports",
        "",
        _measured(report.machine),
        "",
        f"A closed month of {report.charges:,} charges of {report.customers:,} customers, which lie in the order "
        "of time, is written by `metering export`, one file after the other. Every file is proved to sum to its "
        "invoices.",
        "",
        *lines,
        "",
    ]


def _alerts(report: AlertsReport) -> list[str]:
    lines = ["| kind of alert, nothing occurs | p50 ms | at most ms |", "|---|--:|--:|"]
    lines += [f"| {row.kind} | {row.p50_ms:,.0f} | {row.worst_ms:,.0f} |" for row in report.rows]
    return [
        "## Alerts",
        "",
        _measured(report.machine),
        "",
        f"One look at {report.customers:,} customers in three time zones and {report.hourly_rows:,} sums by hour, "
        "each customer with an alert about spend of its own, beside one of each kind for all of them:",
        "",
        *lines,
        "",
        f"When everything is reached at once, {report.occurred:,} occurrences are kept and as many webhooks are "
        f"queued in {report.occurred_seconds:.0f} s, beside which other work goes on.",
        "",
    ]


def _measured(machine: Machine) -> str:
    return (
        f"`{machine.command}`, {machine.measured_at:%Y-%m-%d}, revision {machine.revision}: "
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_gib} GiB, {machine.system}, "
        f"Python {machine.python}, PostgreSQL {machine.postgres}; "
        f"fdatasync takes {machine.fdatasync_microseconds} us."
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)
