"""`metering bench`: benchmarks, each with the theoretical floor, as tables and as JSON."""

import secrets
import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from metering.cli.options import AsJson
from metering.lab.bench.alerts import bench_alerts
from metering.lab.bench.audit import bench_audit
from metering.lab.bench.emitter import bench_emitter
from metering.lab.bench.exports import bench_exports
from metering.lab.bench.finalize import bench_finalize
from metering.lab.bench.gateway import bench_gateway
from metering.lab.bench.growth import bench_growth
from metering.lab.bench.holds import bench_holds
from metering.lab.bench.ingest import Load, bench_ingest
from metering.lab.bench.invoices import bench_invoices
from metering.lab.bench.neighbours import NOISES, bench_neighbours
from metering.lab.bench.page import render_page
from metering.lab.bench.push import bench_push
from metering.lab.bench.rating import bench_rating
from metering.lab.bench.resume import bench_resume
from metering.lab.bench.speed import Size, bench_speed
from metering.lab.bench.totals import bench_totals
from metering.lab.chaos.plan import planned
from metering.lab.chaos.report import render_page as render_reliability
from metering.lab.chaos.run import run_chaos, summary
from metering.server.terminal.output import say

app = typer.Typer()

Out = Annotated[Path | None, typer.Option(help="Also write the result to this file, as JSON.")]


@app.command("ingest", epilog="Example: metering bench ingest --seconds 5 --stored-streams 0")
def ingest(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Measured seconds of each load.")] = 8.0,
    stored_streams: Annotated[
        int, typer.Option(min=0, help="Measure again with this many stored streams; 0 skips it.")
    ] = 10_000_000,
    soak_seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="Also run this long under full load and record the memory.")
    ] = 0.0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure durable events per second over HTTP, by request size and connections, against bare psycopg."""
    report = bench_ingest(
        load=Load(seconds=seconds), stored_streams=stored_streams, soak_seconds=soak_seconds, say=say
    )
    say(f"ratio to bare psycopg: {report.floor.ratio:.2f}")
    _finish(report, out, as_json)


@app.command("finalize")
def finalize(
    streams: Annotated[int, typer.Option(min=1_000, help="Streams to finalize.")] = 300_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure streams per second that workers finalize, against a bare COPY and UPDATE."""
    report = bench_finalize(streams=streams, say=say)
    say(f"ratio to bare COPY + UPDATE: {report.ratio:.2f}")
    _finish(report, out, as_json)


@app.command("speed", epilog="Example: metering bench speed --out docs/performance/speed.json")
def speed(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Measured seconds of each load.")] = 8.0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure the headline speeds in one run, each beside its floor, in about a quarter of an hour."""
    report = bench_speed(size=Size(seconds=seconds), say=say)
    missed = sum(row.reaches_aim is False for row in report.rows)
    say(f"{len(report.rows)} speeds, {missed} below their aim; the load of the machine was {report.load:.1f}")
    _finish(report, out, as_json)


@app.command("holds", epilog="Example: metering bench holds --seconds 5")
def holds(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Measured seconds of each run.")] = 8.0,
    connections: Annotated[int, typer.Option(min=1, max=500, help="Connections that ask for holds.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Rounds of all runs, in turn.")] = 3,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure holds per second over HTTP, of one customer and of many, against a conditional UPDATE."""
    report = bench_holds(seconds=seconds, connections=connections, rounds=rounds, say=say)
    say(f"one customer / many: {report.hot_ratio:.2f}; ratio to the UPDATE of one row: {report.floor_ratio:.2f}")
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


@app.command("growth", epilog="Example: metering bench growth --charges 100000 --charges 1000000")
def growth(
    charges: Annotated[
        list[int] | None,
        typer.Option(min=10_000, help="Stored charges, once for each size. Default: 1, 10 and 100 million."),
    ] = None,
    customers: Annotated[int, typer.Option(min=10, max=100_000, help="Customers of each size.")] = 500,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Seconds of posting.")] = 8.0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure the same work on ever larger databases. A hundred million charges take 60 GB of disk and an hour."""
    sizes = charges or (1_000_000, 10_000_000, 100_000_000)
    _finish(bench_growth(sizes=sizes, customers=customers, seconds=seconds, say=say), out, as_json)


@app.command("rating")
def rating(
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="Measured seconds.")] = 10.0,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure streams per second that one thread rates, over all models of the catalogue; starts no server."""
    _finish(bench_rating(seconds=seconds, say=say), out, as_json)


@app.command("audit")
def audit(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Seconds of posting before each audit.")] = 20.0,
    events_per_stream: Annotated[int, typer.Option(min=2, max=10_000, help="Events per stream.")] = 20,
    times: Annotated[int, typer.Option(min=1, max=10, help="Number of rounds of posting and auditing.")] = 3,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure journaled events per second of `metering audit`, and its memory."""
    report = bench_audit(seconds=seconds, events_per_stream=events_per_stream, times=times, say=say)
    _finish(report, out, as_json)


@app.command("invoices")
def invoices(
    customers: Annotated[int, typer.Option(min=1, help="Customers, each with one invoice.")] = 100_000,
    lines: Annotated[int, typer.Option(min=1, max=200, help="Lines per invoice.")] = 10,
    charges_per_line: Annotated[int, typer.Option(min=1, help="Charges per line.")] = 5,
    workers: Annotated[int, typer.Option(min=0, max=16, help="Worker processes.")] = 1,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure the time to close a month and create its invoices, without Stripe."""
    report = bench_invoices(
        customers=customers, lines=lines, charges_per_line=charges_per_line, workers=workers, say=say
    )
    _finish(report, out, as_json)


@app.command("push")
def push(
    customers: Annotated[int, typer.Option(min=1, help="Customers, each with one invoice.")] = 5_000,
    lines: Annotated[int, typer.Option(min=10, max=200, help="Lines per invoice.")] = 10,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast invoices are pushed to a local Stripe and reconciled, without a rate limit."""
    _finish(bench_push(customers=customers, lines=lines, say=say), out, as_json)


@app.command("exports")
def exports(
    customers: Annotated[int, typer.Option(min=1, help="Customers in the month.")] = 5_000,
    lines: Annotated[int, typer.Option(min=1, max=200, help="Models per customer.")] = 10,
    charges_per_line: Annotated[int, typer.Option(min=1, help="Charges per model.")] = 100,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure exported rows per second of each kind and format, and the memory."""
    report = bench_exports(customers=customers, lines=lines, charges_per_line=charges_per_line, say=say)
    _finish(report, out, as_json)


@app.command("alerts")
def alerts(
    customers: Annotated[int, typer.Option(min=1, help="Customers, each with one alert.")] = 100_000,
    hours: Annotated[int, typer.Option(min=1, help="Hourly sums per customer, over a month.")] = 30,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure the evaluation of all customers' alerts, when none fires and when all fire."""
    _finish(bench_alerts(customers=customers, hours=hours, say=say), out, as_json)


@app.command("gateway", epilog="Example: metering bench gateway --rate 20 --rate 60 --workers 2")
def gateway(
    streams: Annotated[int, typer.Option(min=1, max=5_000, help="Streams at the same time.")] = 200,
    rate: Annotated[
        list[int] | None, typer.Option(min=1, help="Tokens a second and stream. Default: 20, 60.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Measured seconds of each load.")] = 8.0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Measure one worker, and this many.")] = 2,
    litellm: Annotated[
        Path | None, typer.Option(help="An environment with litellm[proxy], to measure its proxy as well.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure chunks per second, latency and CPU of the gateway, against a bare TCP pass-through."""
    report = bench_gateway(
        streams=streams,
        rates=tuple(rate or (20, 60)),
        seconds=seconds,
        workers=workers,
        litellm=litellm,
        say=say,
    )
    _finish(report, out, as_json)


@app.command("emitter")
def emitter(
    calls: Annotated[int, typer.Option(min=1_000, max=10_000_000, help="Calls of each kind.")] = 100_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure the microseconds of a call of the embedded emitter, against an append to a queue."""
    report = bench_emitter(calls=calls, say=say)
    say(f"ratio of emit to an append under a lock: {report.ratio:.1f}; p99 at 1/ms: {report.paced_ratio:.1f}")
    _finish(report, out, as_json)


@app.command("resume", epilog="Example: metering bench resume --streams 50 --rounds 3")
def resume(
    streams: Annotated[int, typer.Option(min=1, max=5_000, help="Streams at the same time.")] = 100,
    rate: Annotated[int, typer.Option(min=1, help="Tokens a second and stream.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Measured seconds of each turn.")] = 6.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Turns of each kind.")] = 5,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure what an X-Resume-Key costs: the first chunk, and CPU per chunk, also with a second reader."""
    _finish(bench_resume(streams=streams, rate=rate, seconds=seconds, rounds=rounds, say=say), out, as_json)


@app.command("neighbours", epilog="Example: metering bench neighbours --seconds 3 --rounds 2")
def neighbours(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Seconds of each window.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Windows alone, and as many beside.")] = 5,
    charges: Annotated[int, typer.Option(min=0, help="Stored charges, for the readers.")] = 150_000,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {', '.join(noise.kind for noise in NOISES)}.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure how long a quiet client waits beside noisy ones: large and bad bodies, readers, connections."""
    noises = [noise for noise in NOISES if only is None or noise.kind in only]
    report = bench_neighbours(seconds=seconds, rounds=rounds, charges=charges, noises=noises, say=say)
    _finish(report, out, as_json)


@app.command("chaos", epilog="Example: metering bench chaos --minutes 30 --seed 7")
def chaos(
    minutes: Annotated[float, typer.Option(min=0.1, max=1440, help="Minutes with faults.")] = 3.0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Play the faults of this seed. Default: a new one.")
    ] = None,
    faults: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of faults, at least one of each kind. Default: 34 a minute, with --streams 7."
        ),
    ] = None,
    events_per_second: Annotated[
        float | None, typer.Option(min=10, help="Events of all gateways. Default: 6000, with --streams 2500.")
    ] = None,
    gateways: Annotated[int, typer.Option(min=1, max=16, help="Gateway processes.")] = 3,
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="Clients that ask for holds, at once.")] = 64,
    streams: Annotated[
        int | None,
        typer.Option(min=1, help="Streams of all senders: the run takes as long as they do, not --minutes."),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Write what all processes print to this file.")] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole product under faults, and compare every cost, month and invoice. Exits with 2 on a problem."""
    # A SIGTERM unwinds as Ctrl-C does, so that no process and no mounted disk is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = planned(
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        minutes=minutes,
        faults=faults,
        events_per_second=events_per_second,
        gateways=gateways,
        clients=clients,
        streams=streams,
    )
    report = run_chaos(plan=plan, log=log, say=say)
    for line in summary(report):
        say(line)
    _finish(report, out, as_json)
    if report.problems:
        raise typer.Exit(2)


@app.command("reliability-page", epilog="Example: metering bench reliability-page docs/reliability --out page.md")
def reliability_page(
    results: Annotated[Path, typer.Argument(help="The folder with chaos.json.")],
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")],
) -> None:
    """Write the report of a chaos run as a Markdown page."""
    out.write_text(render_reliability(results))
    say(f"wrote {out}")


@app.command("page", epilog="Example: metering bench page docs/performance --out docs/performance.md")
def page(
    results: Annotated[Path, typer.Argument(help="The folder with the JSON files of all benchmarks.")],
    out: Annotated[Path, typer.Option(help="The Markdown file to write.")],
) -> None:
    """Write the results of a folder as a Markdown page."""
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
