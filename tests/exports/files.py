"""Exports as whole files, and read back: CSV as text, Parquet as Python values."""

import csv
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from typing import Any

from pyarrow import parquet
from sqlalchemy import Engine

from metering.core.period import BillingPeriod
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest, MonthExport

NOW = datetime(2026, 12, 3, tzinfo=UTC)
ISSUER = "Gateway Inc."


def export(
    engine: Engine,
    kind: str,
    format: str,
    period: str = "2026-11",
    *,
    customer_id: str | None = None,
    within: timedelta = timedelta(minutes=5),
) -> MonthExport:
    """An export that has not begun."""
    request = ExportRequest(
        kind=ExportKind(kind),
        format=ExportFormat(format),
        period=BillingPeriod.parse(period),
        customer_id=customer_id,
    )
    return MonthExport(engine=engine, request=request, issuer=ISSUER, now=NOW, timeout=within)


def content(engine: Engine, kind: str, format: str, period: str = "2026-11", **wanted: Any) -> bytes:
    """The file."""
    running = export(engine, kind, format, period, **wanted)
    try:
        return b"".join(iter(running.next_chunk, None))
    finally:
        running.close()


def read_csv(file: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file, all cells as texts."""
    return list(csv.DictReader(StringIO(file.decode(), newline=""), strict=True))


def read_parquet(file: bytes) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    rows: list[dict[str, Any]] = parquet.read_table(BytesIO(file)).to_pylist()
    return rows


def csv_rows(engine: Engine, kind: str, period: str = "2026-11", **wanted: Any) -> list[dict[str, str]]:
    return read_csv(content(engine, kind, "csv", period, **wanted))


def parquet_rows(engine: Engine, kind: str, period: str = "2026-11", **wanted: Any) -> list[dict[str, Any]]:
    return read_parquet(content(engine, kind, "parquet", period, **wanted))
