"""`metering bench exports`: exports a closed month of five million charges as every kind of file."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import msgspec

from metering.core.clock import utc_now
from metering.exports.export_month import ExportFormat, ExportKind
from metering.lab.bench.commands import run_command
from metering.lab.bench.invoices import PERIOD, close_month, fill_month
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import Say, Stage, Stages, stage

# The streams of the charges: exports take tags from them.
_STREAMS = """
INSERT INTO streams (customer_id, stream_id, started_at, start_fingerprint, start_data, last_event_at, end_rank,
    ended_at, end_fingerprint, end_data, first_received_at, last_received_at, state, revision)
SELECT customer_id, stream_id, started_at, 1,
    json_build_object('provider', provider, 'model', model, 'streaming', true, 'operation', 'chat',
        'input_tokens', input_tokens, 'max_output_tokens', 4096, 'api_key_id', api_key_id,
        'request_hash', md5(charge_id), 'tags', json_build_object('team', 'team-of-' || api_key_id)),
    ended_at, 0, ended_at, 1,
    json_build_object('outcome', outcome, 'usage_source', usage_source, 'response_model', response_model,
        'usage', json_build_object('input_tokens', input_tokens, 'output_tokens', output_tokens)),
    started_at, ended_at, 'finalized', 0
FROM charges
"""


class ExportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `metering export`; memory and CPU time are those of its process."""

    kind: str
    format: str
    rows: int
    seconds: float
    rows_per_second: float
    file_megabytes: float
    peak_megabytes: float
    cpu_seconds: float


class ExportsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench exports`."""

    machine: Machine
    customers: int
    charges: int
    rows: list[ExportRow]


def bench_exports(
    *, customers: int, lines: int, charges_per_line: int, say: Say, stages: Stages = stage
) -> ExportsReport:
    """Fill a month, close it, and export each file in turn."""
    with stages() as running, TemporaryDirectory() as folder:
        charges = customers * lines * charges_per_line
        say(f"storing {charges:,} charges of {customers:,} customers ...")
        began = perf_counter()
        fill_month(
            running, customers=customers, lines=lines, charges_per_line=charges_per_line, in_time_order=True
        )
        fill_streams_of_charges(running)
        close_month(running)
        say(f"stored and closed in {perf_counter() - began:.0f} s")
        rows = [
            run_export(running, kind, format, Path(folder), say) for kind in ExportKind for format in ExportFormat
        ]
        return ExportsReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            customers=customers,
            charges=charges,
            rows=rows,
        )


def fill_streams_of_charges(running: Stage) -> None:
    running.execute("ALTER TABLE streams DROP CONSTRAINT streams_pkey")
    running.execute(_STREAMS)
    running.execute("ALTER TABLE streams ADD PRIMARY KEY (customer_id, stream_id)")
    running.execute("VACUUM (ANALYZE) streams")
    running.execute("CHECKPOINT")


def run_export(running: Stage, kind: ExportKind, format: ExportFormat, folder: Path, say: Say) -> ExportRow:
    out = folder / f"{kind}.{format}"
    options = ["--period", str(PERIOD), "--format", str(format), "--out", str(out), "--json"]
    ran = run_command(running, "export", str(kind), *options)
    result = msgspec.json.decode(ran.printed)
    out.unlink()
    row = ExportRow(
        kind=kind.value,
        format=format.value,
        rows=result["rows"],
        seconds=result["seconds"],
        rows_per_second=result["rows"] / result["seconds"],
        file_megabytes=result["bytes"] / 1e6,
        peak_megabytes=ran.peak_megabytes,
        cpu_seconds=ran.cpu_seconds,
    )
    speed = f"{row.rows:10,} rows  {row.rows_per_second:8,.0f} rows/s"
    say(f"{kind:13} {format:7} {speed}  {row.peak_megabytes:.0f} MB")
    return row
