"""Export a month: all of its rows as one file, read from one snapshot and written about a thousand at a time."""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from threading import Lock

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InternalError, OperationalError

from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.customers.store import require_customer
from metering.db.engine import DatabaseUnavailableError, cancel_statement
from metering.db.failures import why_failed
from metering.db.snapshots import read_transaction
from metering.exports.charge_columns import CHARGE_COLUMNS
from metering.exports.charges_export import charge_rows
from metering.exports.columns import ExportFile
from metering.exports.csv_file import CsvFile
from metering.exports.focus_columns import FOCUS_COLUMNS
from metering.exports.focus_export import focus_rows
from metering.exports.line_columns import LINE_COLUMNS
from metering.exports.lines_export import line_rows
from metering.exports.parquet_file import ParquetFile
from metering.exports.queries.months import ExportMonth, count_entries, iterate_months, limit_export

# The most customers, and about the most entries, that one query reads. A query sorts its rows before it returns
# the first, so larger batches delay the download; but smaller batches read the same database pages more often.
_CUSTOMERS, _ENTRIES = 10_000, 500_000
_LONGEST = timedelta(hours=6)


class ExportStoppedError(MeteringError):
    """The export was interrupted; what was written is not a valid file."""


class NotForExcelError(MeteringError):
    """Only a CSV file has a variant for Excel."""


class ExportKind(StrEnum):
    """The kinds of export; docs/exports.md has the columns of each."""

    CHARGES = "charges"
    INVOICE_LINES = "invoice-lines"
    FOCUS = "focus"


class ExportFormat(StrEnum):
    """The file format."""

    CSV = "csv"
    PARQUET = "parquet"


COLUMNS = {
    ExportKind.CHARGES: CHARGE_COLUMNS,
    ExportKind.INVOICE_LINES: LINE_COLUMNS,
    ExportKind.FOCUS: FOCUS_COLUMNS,
}


# A file's name has at most 255 bytes; ids have up to 128 characters.
_NAME_PART = 64


def plain_name(*parts: str) -> str:
    """A file's name of the begins of these parts, of letters, digits, `.`, `_` and `-` only.

    >>> plain_name("charges", "2026-11", "=1+1")
    'charges-2026-11-_1_1'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(part[:_NAME_PART] for part in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """The file to export; `customer_id` None exports all customers. `excel`: a CSV file that Excel opens well."""

    kind: ExportKind
    format: ExportFormat
    period: BillingPeriod
    customer_id: str | None = None
    excel: bool = False

    def __post_init__(self) -> None:
        if self.excel and self.format is not ExportFormat.CSV:
            raise NotForExcelError(f"excel: only for csv; {self.format} says itself how it is read")

    @property
    def file_name(self) -> str:
        """The file's name, of letters, digits, `.`, `_` and `-` only."""
        of = [] if self.customer_id is None else [self.customer_id]
        excel = ["excel"] if self.excel else []
        return plain_name(self.kind.value, str(self.period), *of, *excel) + f".{self.format}"


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """Progress of an export: rows written, entries of the month done, and entries of the month in all."""

    rows: int
    entries: int
    total_entries: int


class MonthExport:
    """A running export. One thread at a time may take chunks or close it; any thread may interrupt it."""

    def __init__(
        self,
        *,
        engine: Engine,
        request: ExportRequest,
        issuer: str,
        now: datetime,
        timeout: timedelta = _LONGEST,
        on_progress: Callable[[ExportProgress], None] | None = None,
    ) -> None:
        """`issuer` is the company that sells and bills.

        The database cancels a query after `timeout`, in which the file's reader also has to take its rows.
        """
        self._engine = engine
        self._request = request
        self._issuer = issuer
        self._now = now
        self._timeout = timeout
        self._on_progress = on_progress
        self._lock = Lock()
        self._stopped = False
        # Guards the connection: an interrupt must not reach one that is already back in the pool.
        self._guard = Lock()
        self._connection: Connection | None = None
        self._chunks = self._write()
        self.rows = 0

    def next_chunk(self) -> bytes | None:
        """The next bytes of the file, possibly empty; None when the file is complete.

        Raises:
            UnknownCustomerError: there is no such customer.
            UnequalExportError: the rows of a closed month do not sum to its invoice.
            UnrepresentableError: the format cannot hold a value exactly.
            DatabaseUnavailableError: the database cannot be reached, took too long, or failed.
            ExportStoppedError: the export was interrupted.
        """
        with self._lock:
            if self._stopped:
                raise ExportStoppedError("the export was stopped")
            try:
                return next(self._chunks, None)
            except (OperationalError, InternalError) as error:
                if self._stopped:
                    raise ExportStoppedError("the export was stopped") from error
                raise DatabaseUnavailableError(f"the export ended early: {why_failed(error)}") from error

    def interrupt(self) -> None:
        """Stop the export and cancel its running query. The caller closes it."""
        self._stopped = True
        with self._guard:
            if self._connection is not None:
                cancel_statement(self._connection)

    def close(self) -> None:
        """End the snapshot and return the connection. Closing again does nothing."""
        with self._lock:
            self._chunks.close()

    def _write(self) -> Generator[bytes]:
        request = self._request
        with read_transaction(self._engine) as connection:
            self._connection = connection
            try:
                limit_export(connection, timeout=self._timeout)
                if request.customer_id is not None:
                    require_customer(connection, customer_id=request.customer_id)
                file = self._file()
                yield file.head()
                yield from self._rows(connection, file)
                yield file.end()
            finally:
                with self._guard:
                    self._connection = None

    def _rows(self, connection: Connection, file: ExportFile) -> Iterator[bytes]:
        period, customer_id = self._request.period, self._request.customer_id
        report = self._on_progress
        total = count_entries(connection, period=period, customer_id=customer_id) if report else 0
        done = 0
        for months in _batches(iterate_months(connection, period=period, customer_id=customer_id)):
            entries, begin = sum(month.entry_count for month in months), self.rows
            with closing(self._lines_of(connection, months)) as found:
                for lines in found:
                    self.rows += len(lines)
                    yield file.lines(lines)
                    if report:
                        report(ExportProgress(self.rows, done + min(self.rows - begin, entries), total))
            done += entries
        if report:
            report(ExportProgress(self.rows, total, total))

    def _lines_of(self, connection: Connection, months: Sequence[ExportMonth]) -> Generator[Sequence[bytes]]:
        match self._request.kind:
            case ExportKind.CHARGES:
                return charge_rows(connection, months)
            case ExportKind.INVOICE_LINES:
                return line_rows(connection, months)
            case ExportKind.FOCUS:
                return focus_rows(connection, months, issuer=self._issuer)

    def _file(self) -> ExportFile:
        request, columns = self._request, COLUMNS[self._request.kind]
        if request.format is ExportFormat.CSV:
            return CsvFile(columns, excel=request.excel)
        facts = {"export": request.kind.value, "period": str(request.period), "as_of": self._now.isoformat()}
        return ParquetFile(columns, facts={f"metering.{name}": fact for name, fact in facts.items()})


def _batches(months: Iterable[ExportMonth]) -> Iterator[list[ExportMonth]]:
    batch: list[ExportMonth] = []
    entries = 0
    for month in months:
        batch.append(month)
        entries += month.entry_count
        if len(batch) == _CUSTOMERS or entries >= _ENTRIES:
            yield batch
            batch, entries = [], 0
    if batch:
        yield batch
