"""`metering export`: a month's charges, invoice lines or FOCUS rows as a file."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic, perf_counter
from typing import IO, Annotated

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from metering.cli.options import AsJson, OnlyCustomer, Period
from metering.cli.periods import check_begun
from metering.cli.progress import SECONDS_PER_UPDATE, progress
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.exports.export_month import ExportFormat, ExportKind, ExportProgress, ExportRequest, MonthExport
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import counted, say, show_one

Format = Annotated[ExportFormat, typer.Option("--format", help="The file format.")]
Out = Annotated[
    Path | None, typer.Option(help="The file to write; it appears when it is complete. Default: standard output.")
]


class CannotWriteError(MeteringError):
    """The file cannot be written; none is left behind."""


def export_command(
    kind: Annotated[ExportKind, typer.Argument(help="What to export. docs/exports.md describes the columns.")],
    period: Period,
    format: Format = ExportFormat.CSV,
    customer: OnlyCustomer = None,
    out: Out = None,
    excel: Annotated[
        bool,
        typer.Option(
            "--excel", help="For Excel: with a UTF-8 mark and plain times, so that a double-click opens it."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export a month's charges, invoice lines, or cost and usage in the FOCUS 1.2 format.

    The rows of a closed month sum to its invoices; otherwise the export fails without a file.
    """
    request = ExportRequest(
        kind=kind, format=format, period=BillingPeriod.parse(period), customer_id=customer, excel=excel
    )
    if out is None and format is ExportFormat.PARQUET and sys.stdout.isatty():
        raise typer.BadParameter("Parquet cannot be printed to a terminal: name a file", param_hint="--out")
    if out is None and as_json:
        raise typer.BadParameter("standard output is the file: name a file with --out", param_hint="--json")
    service = build_service(load_settings())
    began, size = perf_counter(), 0
    with export_bar(f"exporting {kind}") as update:
        running = MonthExport(
            engine=service.engine,
            request=request,
            issuer=service.settings.issuer_name,
            now=utc_now(),
            on_progress=update,
        )
        with closing(running), file_target(out) as target:
            for chunk in iter(running.next_chunk, None):
                size += target.write(chunk)
            if running.rows == 0:
                check_begun(request.period, now=utc_now())
    if running.rows == 0:
        whose = f" of customer {customer!r}" if customer else ""
        say(f"note: {period} has no {kind.value}{whose}: the file has no rows")
    seconds = perf_counter() - began
    if out is None:
        return
    if as_json:
        result = {"file": str(out), "rows": running.rows, "bytes": size, "seconds": round(seconds, 3)}
        show_one(result, as_json=True)
        return
    say(f"wrote {out}: {counted(running.rows, 'row')}, {size / 1e6:,.1f} MB, in {seconds:,.1f} s")


@contextmanager
def export_bar(what: str) -> Iterator[Callable[[ExportProgress], None] | None]:
    """A bar with the rows written so far; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    rows = "{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} rows/s"
    began = monotonic()
    with progress(BarColumn(), TextColumn(rows), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None, rows=0, rate=0)

        def update(far: ExportProgress) -> None:
            rate = far.rows / max(monotonic() - began, SECONDS_PER_UPDATE)
            bar.update(task, completed=far.entries, total=far.total_entries, rows=far.rows, rate=rate)

        yield update


@contextmanager
def file_target(out: Path | None) -> Iterator[IO[bytes]]:
    """Where to write. A file gets its name when the block ends without an error; otherwise it is removed.

    Raises:
        CannotWriteError: `out` cannot be written; a folder is refused before the block.
    """
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if out.is_dir():
        raise CannotWriteError(f"{out} is a folder: name a file in it")
    try:
        if out.exists() and not out.is_file():
            # A device or a pipe: a renamed file would take its place.
            with out.open("wb") as written:
                yield written
            return
        # Where a link leads, not the link.
        out = out.resolve()
        with NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                yield file.file
                file.flush()
                os.fsync(file.fileno())
                part.chmod(0o666 & ~_umask())
                part.replace(out)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CannotWriteError(f"{out} cannot be written: {error.strerror or error}") from error


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
