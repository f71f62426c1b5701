"""The audit log as a CSV or Parquet file, oldest row first."""

from collections.abc import Generator
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Engine

from metering.access.queries import AuditLogFilter, LoggedAction, iterate_audit_log
from metering.db.snapshots import read_transaction
from metering.exports.columns import Column, ExportFile, Kind, Row
from metering.exports.csv_file import CsvFile
from metering.exports.csv_lines import rendered
from metering.exports.export_month import ExportFormat
from metering.exports.parquet_file import ParquetFile

COLUMNS = (
    Column("audit_id", Kind.COUNT, "number of the row, from 1", distinct=True),
    Column("at", Kind.MOMENT, "when it was done", distinct=True),
    Column("actor", Kind.TEXT, "who did it: a key, or a user of the command line"),
    Column("door", Kind.TEXT, "where it came in: api, dashboard, cli, service or migration"),
    Column("address", Kind.TEXT, "the client's address, or the machine's name"),
    Column("request_id", Kind.TEXT, "the request's X-Request-Id, or one that was made", distinct=True),
    Column("kind", Kind.TEXT, "what it is about"),
    Column("action", Kind.TEXT, "what was done"),
    Column("subject", Kind.TEXT, "the id of what it is about", distinct=True),
    Column("before", Kind.JSON, "the values before", distinct=True),
    Column("after", Kind.JSON, "the values after", distinct=True),
    Column("row_hash", Kind.TEXT, "the hash of the row and of the one before, in hex", distinct=True),
)
_ROWS_AT_ONCE = 1_000


def export_audit_log(
    *, engine: Engine, format: ExportFormat, where: AuditLogFilter, now: datetime
) -> Generator[bytes]:
    """The parts of the file, read in one snapshot."""
    file: ExportFile = CsvFile(COLUMNS)
    if format is ExportFormat.PARQUET:
        file = ParquetFile(COLUMNS, facts={"metering.export": "audit-log", "metering.as_of": now.isoformat()})
    with read_transaction(engine) as connection:
        yield file.head()
        rows = map(_row, iterate_audit_log(connection, where=where))
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            yield file.lines(rendered(batch, COLUMNS))
        yield file.end()


def _row(each: LoggedAction) -> Row:
    return (
        each.audit_id,
        each.at,
        each.actor,
        each.door,
        each.address,
        each.request_id,
        each.kind,
        each.action,
        each.subject,
        _document(each.before),
        _document(each.after),
        each.row_hash.hex(),
    )


def _document(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
