"""The invoice lines of months, one row each, in the order in which an invoice shows them."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.events.usage import COUNTERS
from metering.exports.queries.months import ExportMonth, month_parameters, of_months
from metering.months.invoice import LineKind

_CHUNK = 1_000

LINE_COLUMNS = (
    "n",
    "line_key",
    "kind",
    "provider",
    "model",
    "month",
    "adjustment_id",
    "reason",
    "starts_at",
    "ends_at",
    "stream_count",
    *COUNTERS,
    "usd_cents",
    "billed_cents",
    "push_state",
    "stripe_invoice_id",
    "stripe_number",
)
_KINDS = ", ".join(f"'{kind.value}'" for kind in LineKind)
_OF_LINE = ", ".join(f"l.{name}" for name in LINE_COLUMNS[1 : LINE_COLUMNS.index("stream_count") + 1])
_LINES = text(
    f"""
    SELECT m.n, {_OF_LINE}, {", ".join(f"coalesce(CAST(l.usage ->> '{name}' AS bigint), 0)" for name in COUNTERS)},
           l.usd_cents, l.billed_cents, s.state, s.stripe_invoice_id, s.stripe_number
    FROM {of_months("invoices", "i")}
    JOIN invoice_lines l ON l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id
    LEFT JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
    ORDER BY m.n, array_position(ARRAY[{_KINDS}], l.kind), l.usd_cents DESC, l.line_key COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)


def iterate_lines(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[Sequence[Any]]:
    """The lines of these months' invoices as rows of LINE_COLUMNS; a month without an invoice has none."""
    found = connection.execute(_LINES, month_parameters(months))
    yield from found.partitions(_CHUNK)
