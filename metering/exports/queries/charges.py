"""The entries of months, one row each: charges, adjustments, and what was booked by hand.

Rows are tuples in the order of ENTRY_COLUMNS, by month, and within one charges first.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from metering.events.usage import COUNTERS
from metering.exports.queries.months import ExportMonth, month_parameters, of_months

_CHUNK = 1_000

# `n` is the place of the month; the line_… are of the invoice line in which the entry is summed.
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
    "tags",
    "lines",
    "usd_cents",
)
_PLACE = {name: place for place, name in enumerate(ENTRY_COLUMNS)}
_BILL = ENTRY_COLUMNS[_PLACE["started_at"] : _PLACE["tags"]]
# How a bill, which is JSON, has what is no text.
_TYPES = {
    "started_at": "timestamptz",
    "ended_at": "timestamptz",
    "input_unknown": "boolean",
    "cancel_policy_version": "integer",
    "markup_percent": "numeric",
}

LATE_MONTH = "CASE WHEN c.ended_at < m.starts_at THEN to_char(c.ended_at AT TIME ZONE m.time_zone, 'YYYY-MM') END"
USAGE_LINE = f"CASE WHEN c.ended_at < m.starts_at THEN 'late_usage' ELSE 'usage' END, {LATE_MONTH}"
# An adjustment of what another invoice has is a line of its own; one of the same month changes that line.
ADJUSTED_LINE = f"""
    CASE WHEN c.period <> :period THEN 'adjustment' WHEN c.ended_at < m.starts_at THEN 'late_usage'
         ELSE 'usage' END,
    CASE WHEN c.period <> :period THEN c.period ELSE {LATE_MONTH} END
"""
# What the gateway called it by; the start that counts now.
TAGS = "CAST(s.start_data -> 'tags' AS text)"
STREAM = "LEFT JOIN streams s ON s.customer_id = c.customer_id AND s.stream_id = c.stream_id"


def _after(name: str) -> str:
    """A value of the bill that an adjustment brought; of the charge when it took the bill back."""
    if name in COUNTERS:
        after, before = (f"CAST({bill} -> 'usage' ->> '{name}' AS bigint)" for bill in ("a.bill", "before.bill"))
        was = f"CASE WHEN before.revision IS NULL THEN c.{name} ELSE {before} END"
        return f"CASE WHEN coalesce({after}, {was}) IS NOT NULL THEN coalesce({after}, 0) - coalesce({was}, 0) END"
    value = f"a.bill ->> '{name}'"
    if name in _TYPES:
        value = f"CAST({value} AS {_TYPES[name]})"
    return f"CASE WHEN a.bill IS NULL THEN c.{name} ELSE {value} END"


_CHARGES = f"""
    SELECT m.n, {USAGE_LINE}, c.provider, c.model, 'charge', c.charge_id, c.stream_id, NULL, NULL, NULL, NULL,
           c.booked_at, {", ".join(f"c.{name}" for name in _BILL)}, {TAGS}, CAST(c.lines AS text), c.usd_cents
    FROM {of_months("charges", "c")} {STREAM}
"""
# What a stream owed before an adjustment: by the adjustment before it, or else (no row) by its charge.
BILL_BEFORE = """
    LEFT JOIN LATERAL (SELECT b.revision, b.bill FROM adjustments b WHERE b.customer_id = a.customer_id
                       AND b.stream_id = a.stream_id AND b.revision < a.revision
                       ORDER BY b.revision DESC LIMIT 1) AS before ON true
"""
_ADJUSTMENTS = f"""
    SELECT m.n, {ADJUSTED_LINE}, c.provider, c.model, 'adjustment', a.charge_id, a.stream_id, a.adjustment_id,
           a.revision, a.reason, NULL, a.booked_at, {", ".join(map(_after, _BILL))}, {TAGS},
           CAST(a.bill -> 'lines' AS text), a.usd_cents
    FROM {of_months("adjustments", "a")}
    JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id {STREAM} {BILL_BEFORE}
"""
_BY_HAND_BILL = ", ".join(
    f"c.{name}" if name in ("started_at", "ended_at", "outcome", "provider", "model", "api_key_id") else "NULL"
    for name in _BILL
)
_BY_HAND = f"""
    SELECT m.n, h.kind, NULL, NULL, NULL, h.kind, c.charge_id, h.stream_id, h.adjustment_id, NULL, h.reason,
           h.booked_by, h.booked_at, {_BY_HAND_BILL}, {TAGS}, NULL, h.usd_cents
    FROM {of_months("manual_adjustments", "h")}
    LEFT JOIN charges c ON c.customer_id = h.customer_id AND c.stream_id = h.stream_id {STREAM}
"""
_ENTRIES = text(
    f"""
    SELECT * FROM ({_CHARGES} UNION ALL {_ADJUSTMENTS} UNION ALL {_BY_HAND})
        AS entries ({", ".join(ENTRY_COLUMNS)})
    ORDER BY n, adjustment_id IS NOT NULL, CASE WHEN adjustment_id IS NULL THEN ended_at ELSE booked_at END,
             stream_id COLLATE "C", adjustment_id COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)


def iterate_entries(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[Sequence[Any]]:
    """The entries of these months, some thousand rows at a time; read as they are asked for."""
    found = connection.execute(_ENTRIES, month_parameters(months))
    yield from found.partitions(_CHUNK)
