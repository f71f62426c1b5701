"""The entries of months, one row each: charges, adjustments and manual adjustments.

Rows are tuples in the order of ENTRY_COLUMNS, by month, and within a month charges first.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.events.usage import COUNTERS
from metering.exports.queries.months import (
    ADJUSTMENTS_OF_MONTHS,
    CHARGES_OF_MONTHS,
    MANUAL_OF_MONTHS,
    ExportMonth,
    month_parameters,
)
from metering.months.queries.entries import LINE_KIND, LINE_MONTH

_CHUNK = 1_000

# `n` is the number of the month; line_… belong to the invoice line that includes the entry.
ENTRY_COLUMNS = (
    "n",
    "line_kind",
    "line_month",
    "line_provider",
    "line_model",
    "row_kind",
    "charge_id",
    "stream_id",
    "adjustment_id",
    "revision",
    "reason",
    "booked_by",
    "booked_at",
    "started_at",
    "ended_at",
    "outcome",
    "provider",
    "model",
    "response_model",
    "rated_model",
    "model_rule",
    "service_tier",
    "api_key_id",
    *COUNTERS,
    "usage_source",
    "input_unknown",
    "cancel_policy",
    "cancel_policy_version",
    "rate_card_id",
    "markup_percent",
    "retry_of",
    "resolution",
    "response_provider",
    "price_source",
    "upstream_usd_cents",
    "flags",
    "inlet",
    "tags",
    "lines",
    "usd_cents",
)
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


_LINE = f"SELECT m.n, {LINE_KIND}, {LINE_MONTH}, e.charged_provider, e.charged_model, e.kind"
_CHARGES = f"""
    {_LINE}, e.charge_id, e.stream_id, NULL, NULL::integer, NULL, NULL, e.booked_at,
           {", ".join(_value("e", name) for name in _BILL)}, {TAGS}, CAST(e.lines AS text), e.usd_cents
    FROM {CHARGES_OF_MONTHS} {STREAM}
"""
_ADJUSTMENTS = f"""
    {_LINE}, e.charge_id, e.stream_id, e.entry_id, e.revision, e.reason, NULL, e.booked_at,
           {", ".join(map(_change, _BILL))}, {TAGS_OF_ADJUSTMENT},
           CASE WHEN NOT e.taken_back THEN CAST(e.lines AS text) END, e.usd_cents
    FROM {ADJUSTMENTS_OF_MONTHS} {BILL_BEFORE}
"""
_MANUAL = f"""
    {_LINE}, c.charge_id, e.stream_id, e.entry_id, NULL, e.reason, e.booked_by, e.booked_at,
           {", ".join(f"c.{name}" if name in _OF_CHARGE else "NULL" for name in _BILL)}, {TAGS}, NULL, e.usd_cents
    FROM {MANUAL_OF_MONTHS} {CHARGE} {STREAM}
"""
_ENTRIES = text(
    f"""
    SELECT * FROM ({_CHARGES} UNION ALL {_ADJUSTMENTS} UNION ALL {_MANUAL})
        AS entries ({", ".join(ENTRY_COLUMNS)})
    ORDER BY n, adjustment_id IS NOT NULL, CASE WHEN adjustment_id IS NULL THEN ended_at ELSE booked_at END,
             stream_id COLLATE "C", adjustment_id COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)


def iterate_entries(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[Sequence[Any]]:
    """The entries of these months in batches of about a thousand rows, read while iterating."""
    found = connection.execute(_ENTRIES, month_parameters(months))
    yield from found.partitions(_CHUNK)
