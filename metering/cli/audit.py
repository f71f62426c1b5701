"""`metering audit`: recompute everything from the journal."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from metering.audit.processes import YOUNG_OBJECTS, Processes
from metering.audit.report import MAX_SHOWN, AuditReport
from metering.audit.run import audit
from metering.cli.options import AsJson
from metering.cli.periods import check_begun, month_or_none
from metering.cli.progress import phases
from metering.core.clock import utc_now
from metering.core.collector import freeze_collector
from metering.core.period import BillingPeriod
from metering.server.bootstrap import build_service, database_url
from metering.server.settings import Settings, load_settings
from metering.server.terminal.output import counted, say, show


def audit_command(
    period: Annotated[
        str | None, typer.Option(help="Only streams that ended in this month, e.g. 2026-10. Default: all.")
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="A folder with room for about 2 kB per stream while it runs. Default: the temporary folder.",
            exists=True,
            file_okay=False,
            writable=True,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Processes, of up to 200 MB each. Default: one for each processor core."
        ),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder made by `metering archive write`; once for each archive. Default: what is archived is"
            " left out.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every stream, charge, adjustment and total from the journal and compare them with what is stored.

    Exit code 0: no difference. Exit code 2: differences, each with its row.
    """
    wanted = month_or_none(period)
    began = perf_counter()
    report = run_audit(
        load_settings(), period=wanted, scratch=scratch, processes=processes, archives=archive or ()
    )
    if not report.streams:
        check_begun(wanted, now=utc_now())
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _show(report, seconds=perf_counter() - began)
    if report.difference_count:
        raise typer.Exit(2)


def run_audit(
    settings: Settings,
    *,
    period: BillingPeriod | None = None,
    scratch: Path | None = None,
    processes: int | None = None,
    archives: Sequence[Path] = (),
) -> AuditReport:
    """The audit, on all cores unless told otherwise, with its progress on a terminal."""
    freeze_collector(young_objects=YOUNG_OBJECTS)
    with phases() as progress:
        return audit(
            engine=build_service(settings).engine,
            now=utc_now(),
            period=period,
            scratch=scratch,
            processes=Processes(
                count=processes or os.cpu_count() or 1,
                database_url=database_url(settings),
                statement_timeout=settings.statement_timeout,
            ),
            archives=archives,
            progress=progress,
        )


def _show(report: AuditReport, *, seconds: float) -> None:
    show([asdict(difference) for difference in report.differences], as_json=False, empty="nothing differs")
    if report.difference_count > MAX_SHOWN:
        say(f"and {report.difference_count - MAX_SHOWN:,} more")
    compared = f"{counted(report.streams, 'stream')} of {counted(report.events, 'journaled event')} compared"
    say(f"{compared} in {seconds:,.1f} s: {counted(report.difference_count, 'difference')}")
    if report.pending:
        say(f"{report.pending:,} streams wait for the finalizer: their facts and bookings were compared")
    if report.before_journal:
        say(f"{report.before_journal:,} streams began before the journal: their facts were taken as stored")
    if report.archived:
        say(f"{report.archived:,} streams are archived: with --archive FOLDER, their facts are compared as well")
