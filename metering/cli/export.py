"""`metering export`: a month as a file."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import perf_counter
from typing import IO, Annotated

import typer

from metering.cli.output import AsJson, export_bar, say, show_one
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest, MonthExport
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings

Format = Annotated[ExportFormat, typer.Option("--format", help="The format of the file.")]
Customer = Annotated[str | None, typer.Option(help="Only this customer.")]
Period = Annotated[str, typer.Option(help="The month, e.g. 2026-10.")]
Out = Annotated[
    Path | None, typer.Option(help="The file to write; it is there once it is whole. Default: standard output.")
]


class CannotWriteError(MeteringError):
    """The file cannot be written; there is none."""


def export_command(
    kind: Annotated[ExportKind, typer.Argument(help="What to export; docs/exports.md has the columns.")],
    period: Period,
    format: Format = ExportFormat.CSV,
    customer: Customer = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Export a month's charges, its invoice lines, or its cost and usage by FOCUS 1.2.

    The rows of a closed month sum to its invoices, or there is no file.
    """
    request = ExportRequest(kind=kind, format=format, period=BillingPeriod.parse(period), customer_id=customer)
    if out is None and format is ExportFormat.PARQUET and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is no text for a terminal: name a file", param_hint="--out")
    if out is None and as_json:
        raise typer.BadParameter("standard output is the file: name another with --out", param_hint="--json")
    service = build_service(load_settings())
    began = perf_counter()
    with export_bar(f"exporting {kind}") as tell:
        running = MonthExport(
            engine=service.engine,
            request=request,
            issuer=service.settings.issuer_name,
            now=utc_now(),
            on_progress=tell,
        )
        with closing(running), _target(out) as target:
            for chunk in iter(running.next_chunk, None):
                target.write(chunk)
    seconds = perf_counter() - began
    if out is None:
        return
    size = out.stat().st_size
    if as_json:
        result = {"file": str(out), "rows": running.rows, "bytes": size, "seconds": round(seconds, 3)}
        show_one(result, as_json=True)
        return
    say(f"wrote {out}: {running.rows:,} rows, {size / 1e6:,.1f} MB, in {seconds:,.1f} s")


@contextmanager
def _target(out: Path | None) -> Iterator[IO[bytes]]:
    """Where to write. A file gets its name when the block ends well; otherwise there is none."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
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
    """What new files of this process are kept from; there is no other way to ask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
