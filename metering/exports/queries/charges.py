"""The entries of months as lines of CSV, one each: charges, adjustments and manual adjustments.

They are by month, and within a month charges come first.
"""

from collections.abc import Generator, Sequence

from sqlalchemy import Connection, text

from metering.db.rows import copied_lines
from metering.events.usage import COUNTERS
from metering.exports.charge_columns import CHARGE_COLUMNS
from metering.exports.columns import Kind
from metering.exports.queries.months import (
    ADJUSTMENTS_OF_MONTHS,
    CHARGES_OF_MONTHS,
    MANUAL_OF_MONTHS,
    ExportMonth,
    as_copied,
    month_parameters,
)
from metering.months.queries.entries import LINE_KEY

# The columns of the export before they are texts; `n` is the number of the month. Dollars are derived from cents.
ENTRY_COLUMNS = ("n", *(column.name for column in CHARGE_COLUMNS if column.name != "cost_usd"))
_PLACE = {name: place for place, name in enumerate(ENTRY_COLUMNS)}
_BILL = ENTRY_COLUMNS[_PLACE["started_at"] : _PLACE["tags"]]
# The tags of the stream's start event, as merged by now, or as they were when the stream was archived.
TAGS = "CAST(coalesce(s.start_data -> 'tags', archived.tags) AS text)"
STREAM = """
    LEFT JOIN streams s ON s.customer_id = e.customer_id AND s.stream_id = e.stream_id
    LEFT JOIN archived_streams archived
        ON archived.customer_id = e.customer_id AND archived.stream_id = e.stream_id
"""
# The same looked up for each row. With it, Citus joins an adjustment on its node with the bill that it replaced.
TAGS_OF_ADJUSTMENT = """
    CAST(coalesce(
        (SELECT s.start_data -> 'tags' FROM streams s
         WHERE s.customer_id = e.customer_id AND s.stream_id = e.stream_id),
        (SELECT a.tags FROM archived_streams a WHERE a.customer_id = e.customer_id AND a.stream_id = e.stream_id)
    ) AS text)
"""
# The bill that an adjustment replaced. Where there is a LIMIT, Citus looks nothing up on the nodes.
BILL_BEFORE = """
    JOIN LATERAL (
        SELECT DISTINCT ON (b.customer_id, b.stream_id) * FROM entries b
        WHERE b.customer_id = e.customer_id AND b.stream_id = e.stream_id AND b.revision < e.revision
        ORDER BY b.customer_id, b.stream_id, b.revision DESC
    ) AS before ON true
"""
# The charge of the stream to which a manual adjustment belongs.
CHARGE = "LEFT JOIN charges c ON c.customer_id = e.customer_id AND c.stream_id = e.stream_id"
_OF_CHARGE = ("started_at", "ended_at", "outcome", "provider", "model", "api_key_id")


_SUMMED = frozenset({*COUNTERS, "upstream_usd_cents"})


def _value(table: str, name: str) -> str:
    return f"array_to_string({table}.flags, ' ')" if name == "flags" else f"{table}.{name}"


def _change(name: str) -> str:
    """The column of an adjustment's row: the change of what is summed, else the new bill's value."""
    if name not in _SUMMED:
        return _value("e", name)
    either = f"coalesce(e.{name}, before.{name})"
    return f"CASE WHEN {either} IS NOT NULL THEN coalesce(e.{name}, 0) - coalesce(before.{name}, 0) END"


_OF_MONTH = "CAST(:period AS text), e.customer_id, m.customer_name, m.invoice_id, m.invoice_number"
_CHARGES = f"""
    SELECT m.n, e.kind, {_OF_MONTH}, {LINE_KEY}, e.charge_id, e.stream_id, NULL, NULL::integer, NULL, NULL,
           e.booked_at, {", ".join(_value("e", name) for name in _BILL)}, {TAGS}, CAST(e.lines AS text),
           e.usd_cents
    FROM {CHARGES_OF_MONTHS} {STREAM}
"""
_ADJUSTMENTS = f"""
    SELECT m.n, e.kind, {_OF_MONTH}, {LINE_KEY}, e.charge_id, e.stream_id, e.entry_id, e.revision, e.reason, NULL,
           e.booked_at, {", ".join(map(_change, _BILL))}, {TAGS_OF_ADJUSTMENT},
           CASE WHEN NOT e.taken_back THEN CAST(e.lines AS text) END, e.usd_cents
    FROM {ADJUSTMENTS_OF_MONTHS} {BILL_BEFORE}
"""
# A credit or correction has an invoice line of its own.
_MANUAL = f"""
    SELECT m.n, e.kind, {_OF_MONTH}, concat_ws('/', e.kind, e.entry_id), c.charge_id, e.stream_id, e.entry_id,
           NULL, e.reason, e.booked_by, e.booked_at,
           {", ".join(f"c.{name}" if name in _OF_CHARGE else "NULL" for name in _BILL)}, {TAGS}, NULL, e.usd_cents
    FROM {MANUAL_OF_MONTHS} {CHARGE} {STREAM}
"""
_DERIVED = {"cost_usd": "cost_usd_cents * 0.01"}
# What rows are ordered by comes first: PostgreSQL would read it behind fifty columns in each comparison.
_ORDER = "of_month, is_change, at, of_stream, of_adjustment"
_IN_ORDER = f"""
    SELECT n AS of_month, adjustment_id IS NOT NULL AS is_change,
           CASE WHEN adjustment_id IS NULL THEN ended_at ELSE booked_at END AS at,
           stream_id COLLATE "C" AS of_stream, adjustment_id COLLATE "C" AS of_adjustment, entries.*
    FROM ({_CHARGES} UNION ALL {_ADJUSTMENTS} UNION ALL {_MANUAL}) AS entries ({", ".join(ENTRY_COLUMNS)})
    ORDER BY {_ORDER}
"""
# PostgreSQL sorts once; Citus, which asks its nodes for the inner rows, by the outer order.
_ENTRIES = text(
    f"""
    SELECT n, {as_copied("cost_usd_cents", Kind.NUMBER)},
           {", ".join(as_copied(_DERIVED.get(each.name, each.name), each.kind) for each in CHARGE_COLUMNS)}
    FROM ({_IN_ORDER}) AS entries ORDER BY {_ORDER}
    """
)


def copy_entries(connection: Connection, months: Sequence[ExportMonth]) -> Generator[Sequence[bytes]]:
    """The entries of these months in batches of about a thousand lines, read while iterating; close it.

    A line has the number of its month and its cost in cents before the columns of the export.
    """
    return copied_lines(connection, _ENTRIES, month_parameters(months))
