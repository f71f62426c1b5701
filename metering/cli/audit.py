"""`metering audit`: derive everything from the journal once more, and compare it with what is stored."""

import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from metering.audit.run import MAX_SHOWN, AuditReport, audit
from metering.cli.output import AsJson, phases, say, show
from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings


def audit_command(
    period: Annotated[
        str | None, typer.Option(help="Only streams that ended in this month, e.g. 2026-10; else all there is.")
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="A folder with room for about 2 kB a stream while it runs; else the system's temporary one.",
            exists=True,
            file_okay=False,
            writable=True,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fold the journal from nothing and compare every stream, charge, adjustment and total with what is stored.

    Exits with 0 when all agrees, and with 2 when something differs; each difference names its row.
    """
    wanted = BillingPeriod.parse(period) if period else None
    service = build_service(load_settings())
    began = perf_counter()
    with phases() as progress:
        report = audit(engine=service.engine, now=utc_now(), period=wanted, scratch=scratch, progress=progress)
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _show(report, seconds=perf_counter() - began)
    if report.difference_count:
        raise typer.Exit(2)


def _show(report: AuditReport, *, seconds: float) -> None:
    show([asdict(difference) for difference in report.differences], as_json=False, empty="nothing differs")
    if report.difference_count > MAX_SHOWN:
        say(f"and {report.difference_count - MAX_SHOWN:,} more")
    say(
        f"{report.streams:,} streams of {report.events:,} journaled events compared in {seconds:,.1f} s: "
        f"{report.difference_count:,} differences"
    )
    if report.pending:
        say(f"{report.pending:,} streams wait for the finalizer: their facts and bookings were compared")
    if report.before_journal:
        say(f"{report.before_journal:,} streams began before the journal: their facts were taken as stored")
