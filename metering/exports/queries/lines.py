"""The lines of the invoices of months, as lines of CSV."""

from collections.abc import Generator, Mapping, Sequence

from sqlalchemy import Connection, text

from metering.db.rows import copied_lines
from metering.events.usage import COUNTERS, TIMED_COUNTERS
from metering.exports.columns import Kind
from metering.exports.line_columns import LINE_COLUMNS
from metering.exports.queries.months import INVOICES_OF_MONTHS, ExportMonth, as_copied, month_parameters
from metering.months.invoice import LineKind


def _counter(name: str) -> str:
    kind = "numeric" if name in TIMED_COUNTERS else "bigint"
    return f"coalesce(CAST(l.usage ->> '{name}' AS {kind}), 0)"


# Where each column comes from: a column of its name in the line, unless it is listed.
_FROM: Mapping[str, str] = {
    "invoice_number": "i.number",
    "invoice_id": "i.invoice_id",
    "customer_id": "i.customer_id",
    "customer_name": "m.customer_name",
    "period": "i.period",
    "period_starts_at": "m.starts_at",
    "period_ends_at": "m.ends_at",
    **{name: _counter(name) for name in COUNTERS},
    "exact_usd_cents": "l.usd_cents",
    "invoice_exact_usd_cents": "i.exact_usd_cents",
    "invoice_carried_in_usd_cents": "i.carried_in_usd_cents",
    "invoice_billed_cents": "i.billed_cents",
    "invoice_remainder_usd_cents": "i.remainder_usd_cents",
    "state": "s.state",
    "stripe_invoice_id": "s.stripe_invoice_id",
    "stripe_number": "s.stripe_number",
    "exact_usd": "l.usd_cents * 0.01",
    "billed_usd": "l.billed_cents * 0.01",
    "invoice_billed_usd": "i.billed_cents * 0.01",
    "invoice_prepaid_usd_cents": "i.prepaid_usd_cents",
}
_INVOICE_LINES = text(
    f"""
    SELECT m.n, {as_copied("l.usd_cents", Kind.NUMBER)}, l.billed_cents,
           {", ".join(as_copied(_FROM.get(each.name, f"l.{each.name}"), each.kind) for each in LINE_COLUMNS)}
    FROM {INVOICES_OF_MONTHS}
    JOIN invoice_lines l ON l.customer_id = i.customer_id AND l.invoice_id = i.invoice_id
    LEFT JOIN invoice_pushes s ON s.customer_id = i.customer_id AND s.invoice_id = i.invoice_id
    ORDER BY m.n, array_position(CAST(:line_kinds AS text[]), l.kind), l.usd_cents DESC, l.line_key COLLATE "C"
    """
)


def copy_lines(connection: Connection, months: Sequence[ExportMonth]) -> Generator[list[bytes]]:
    """The lines of the invoices of these months in batches of about a thousand, read while iterating; close it.

    Each begins with the number of its month, and its exact and billed cents. An open month has none.
    """
    parameters = {**month_parameters(months), "line_kinds": [kind.value for kind in LineKind]}
    return copied_lines(connection, _INVOICE_LINES, parameters)
