"""`metering bench`: measured figures, each with the floor under it, as tables and as JSON."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from metering.cli.output import AsJson, say
from metering.lab.bench.alerts import bench_alerts
from metering.lab.bench.audit import bench_audit
from metering.lab.bench.exports import bench_exports
from metering.lab.bench.finalize import bench_finalize
from metering.lab.bench.ingest import bench_ingest
from metering.lab.bench.invoices import bench_invoices
from metering.lab.bench.page import render_page
from metering.lab.bench.push import bench_push
from metering.lab.bench.rating import bench_rating
from metering.lab.bench.totals import bench_totals

app = typer.Typer(
    help="Measure this machine. Starts servers of its own and leaves nothing behind but the figures.",
    no_args_is_help=True,
)

Out = Annotated[Path | None, typer.Option(help="Also write the result, as JSON, to this file.")]


@app.command("ingest")
def ingest(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Timed seconds of each shape of load.")] = 8.0,
    stored_streams: Annotated[
        int, typer.Option(min=0, help="Measure again with so many streams stored already; 0 leaves it out.")
    ] = 10_000_000,
    soak_seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="Also run so long under full load and watch the memory.")
    ] = 0.0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Durable events a second over HTTP by size of request and connections, and what bare psycopg writes."""
    report = bench_ingest(seconds=seconds, stored_streams=stored_streams, soak_seconds=soak_seconds, say=say)
    say(f"ratio to bare psycopg: {report.floor.ratio:.2f}")
    _finish(report, out, as_json)


@app.command("finalize")
def finalize(
    streams: Annotated[int, typer.Option(min=1_000, help="Streams to finalize.")] = 300_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Streams a second that worker processes finalize, and what a bare COPY and UPDATE takes."""
    report = bench_finalize(streams=streams, say=say)
    say(f"ratio to bare COPY + UPDATE: {report.ratio:.2f}")
    _finish(report, out, as_json)


@app.command("totals")
def totals(
    charges: Annotated[int, typer.Option(min=1_000, help="Charges of one month to store.")] = 10_000_000,
    open_streams: Annotated[
        int, typer.Option(min=0, help="Streams that are open in the last measurement.")
    ] = 1_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How long totals of a month take to read, question by question and a dashboard's page of them."""
    _finish(bench_totals(charges=charges, open_streams=open_streams, say=say), out, as_json)


@app.command("rating")
def rating(
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to rate.")] = 10.0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Streams a second that one thread rates, over every model of the catalogue; no server is started."""
    _finish(bench_rating(seconds=seconds, say=say), out, as_json)


@app.command("audit")
def audit(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long to post before each audit.")] = 20.0,
    events_per_stream: Annotated[int, typer.Option(min=2, max=10_000, help="Events of each stream.")] = 20,
    times: Annotated[int, typer.Option(min=1, max=10, help="How often to post more and audit all.")] = 3,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Journaled events a second that `metering audit` goes through, and the memory that it takes."""
    report = bench_audit(seconds=seconds, events_per_stream=events_per_stream, times=times, say=say)
    _finish(report, out, as_json)


@app.command("invoices")
def invoices(
    customers: Annotated[int, typer.Option(min=1, help="Customers, each with an invoice.")] = 100_000,
    lines: Annotated[int, typer.Option(min=1, max=200, help="Lines of each invoice.")] = 10,
    charges_per_line: Annotated[int, typer.Option(min=1, help="Charges that a line sums.")] = 5,
    workers: Annotated[int, typer.Option(min=0, max=16, help="Worker processes that take part.")] = 1,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How long it takes to close a month and make its invoices, Stripe aside."""
    report = bench_invoices(
        customers=customers, lines=lines, charges_per_line=charges_per_line, workers=workers, say=say
    )
    _finish(report, out, as_json)


@app.command("push")
def push(
    customers: Annotated[int, typer.Option(min=1, help="Customers, each with an invoice.")] = 5_000,
    lines: Annotated[int, typer.Option(min=10, max=200, help="Lines of each invoice.")] = 10,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How fast invoices are pushed to a local Stripe, and reconciled, at no limited rate."""
    _finish(bench_push(customers=customers, lines=lines, say=say), out, as_json)


@app.command("exports")
def exports(
    customers: Annotated[int, typer.Option(min=1, help="Customers of the month.")] = 5_000,
    lines: Annotated[int, typer.Option(min=1, max=200, help="Models that each uses.")] = 10,
    charges_per_line: Annotated[int, typer.Option(min=1, help="Charges of each model.")] = 100,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Rows a second that a month is exported with, of each kind and format, and the memory that it takes."""
    report = bench_exports(customers=customers, lines=lines, charges_per_line=charges_per_line, say=say)
    _finish(report, out, as_json)


@app.command("alerts")
def alerts(
    customers: Annotated[int, typer.Option(min=1, help="Customers, each with an alert of its own.")] = 100_000,
    hours: Annotated[int, typer.Option(min=1, help="Sums by hour of each customer, over a month.")] = 30,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """How long alerts take to evaluate for all customers, when nothing occurs and when everything does."""
    _finish(bench_alerts(customers=customers, hours=hours, say=say), out, as_json)


@app.command("page")
def page(
    results: Annotated[Path, typer.Argument(help="The folder with the JSON of every benchmark.")],
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")],
) -> None:
    """Write the figures of a folder of results as a page of Markdown."""
    out.write_text(render_page(results))
    say(f"wrote {out}")


def _finish(report: msgspec.Struct, out: Path | None, as_json: bool) -> None:
    document = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(document + b"\n")
        say(f"wrote {out}")
    if as_json:
        print(document.decode())
