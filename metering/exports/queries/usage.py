"""The usage of months summed by day, price and dimensions: the rows of a FOCUS export, and what else was booked.

A charge counts with its lines; an adjustment with those of the bill that it brought, less those of the bill
before. What was replaced within the month so cancels out, and what is left are the lines of the newest bills.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Connection, text

from metering.exports.queries.charges import ADJUSTED_LINE, BILL_BEFORE, STREAM, TAGS, USAGE_LINE
from metering.exports.queries.months import ExportMonth, month_parameters, of_months

_CHUNK = 1_000


class UsageSum(NamedTuple):
    """A row. Up to `quantity` it is what is summed by; `n` is the place of the month.

    `line_…` are of the invoice line, `day` is the customer's, `kind` and `usd_per_million` are of a charge line,
    and `retry` is whether the streams look like retries. An amount by hand has an `adjustment_id` and no kind;
    `corrects_stream` says that it is for a stream of an earlier month.
    """

    n: int
    line_kind: str
    line_month: str | None
    day: date
    provider: str | None
    model: str | None
    kind: str | None
    usd_per_million: Decimal | None
    rate_card_id: str | None
    rated_model: str | None
    markup_percent: Decimal | None
    outcome: str | None
    usage_source: str | None
    retry: bool | None
    api_key_id: str | None
    tags: str | None
    line_provider: str | None
    line_model: str | None
    quantity: Decimal | None
    usd_cents: Decimal
    stream_count: int
    adjustment_id: str | None
    reason: str | None
    corrects_stream: bool | None
    card_provider: str | None
    card_model: str | None
    base_usd_per_million: Decimal | None


_DIMENSIONS = UsageSum._fields[1 : UsageSum._fields.index("quantity")]

_DAY = "CAST({at} AT TIME ZONE m.time_zone AS date)"
_LINE = "(kind text, quantity numeric, usd_per_million numeric, usd_cents numeric)"
_CHARGED_LINES = f"""
    SELECT m.n, {USAGE_LINE}, {_DAY.format(at="c.ended_at")}, c.provider, c.model, l.kind, l.usd_per_million,
           c.rate_card_id, c.rated_model, c.markup_percent, c.outcome, c.usage_source, c.retry_of IS NOT NULL,
           c.api_key_id, {TAGS}, c.provider, c.model, l.quantity, l.usd_cents, 1
    FROM {of_months("charges", "c")} {STREAM}
    CROSS JOIN LATERAL json_to_recordset(c.lines) AS l {_LINE}
"""
_CHARGED_BILL = """
    jsonb_build_object('ended_at', c.ended_at, 'provider', c.provider, 'model', c.model, 'outcome', c.outcome,
        'rate_card_id', c.rate_card_id, 'rated_model', c.rated_model, 'markup_percent', c.markup_percent,
        'usage_source', c.usage_source, 'retry_of', c.retry_of, 'api_key_id', c.api_key_id, 'lines', c.lines)
"""
_ADJUSTED_LINES = f"""
    SELECT m.n, {ADJUSTED_LINE}, {_DAY.format(at="CAST(d.bill ->> 'ended_at' AS timestamptz)")},
           d.bill ->> 'provider', d.bill ->> 'model', l.kind, l.usd_per_million, d.bill ->> 'rate_card_id',
           d.bill ->> 'rated_model', CAST(d.bill ->> 'markup_percent' AS numeric), d.bill ->> 'outcome',
           d.bill ->> 'usage_source', d.bill ->> 'retry_of' IS NOT NULL, d.bill ->> 'api_key_id', {TAGS},
           c.provider, c.model, d.sign * l.quantity, d.sign * l.usd_cents, d.sign
    FROM {of_months("adjustments", "a")}
    JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id {STREAM} {BILL_BEFORE}
    CROSS JOIN LATERAL (
        VALUES (1, a.bill), (-1, CASE WHEN before.revision IS NULL THEN {_CHARGED_BILL} ELSE before.bill END)
    ) AS d (sign, bill)
    CROSS JOIN LATERAL jsonb_to_recordset(d.bill -> 'lines') AS l {_LINE}
"""
# An amount by hand is a row of its own, on the day of its stream or of its booking.
_BY_HAND = f"""
    SELECT m.n, h.kind, NULL, {_DAY.format(at="h.filed_at")}, c.provider, c.model, NULL, NULL, NULL, NULL, NULL,
           c.outcome, c.usage_source, CASE WHEN c.stream_id IS NOT NULL THEN c.retry_of IS NOT NULL END,
           c.api_key_id, {TAGS}, NULL, NULL, NULL, h.usd_cents, 0, h.adjustment_id, h.reason, c.period < :period
    FROM {of_months("manual_adjustments", "h")}
    LEFT JOIN charges c ON c.customer_id = h.customer_id AND c.stream_id = h.stream_id {STREAM}
"""
_SUMMED = f"n, {', '.join(_DIMENSIONS)}"
_NO_TEXT = ("n", "day", "retry", "usd_per_million", "markup_percent")
_IN_ORDER = ", ".join(
    f"summed.{name}" if name in _NO_TEXT else f'summed.{name} COLLATE "C"'
    for name in dict.fromkeys(("n", "day", *_DIMENSIONS, "adjustment_id"))
)
_USAGE = text(
    f"""
    WITH lines ({_SUMMED}, quantity, usd_cents, sign) AS ({_CHARGED_LINES} UNION ALL {_ADJUSTED_LINES}),
    summed AS (
        SELECT {_SUMMED}, sum(quantity) AS quantity, sum(usd_cents) AS usd_cents, sum(sign) AS stream_count,
               NULL AS adjustment_id, NULL AS reason, false AS corrects_stream
        FROM lines GROUP BY {_SUMMED} HAVING sum(quantity) <> 0 OR sum(usd_cents) <> 0
        UNION ALL {_BY_HAND}
    )
    SELECT summed.*, k.provider AS card_provider, k.model AS card_model,
           CASE WHEN markup_percent = -100 THEN (
               SELECT r.usd_per_million FROM rates r WHERE r.rate_card_id = summed.rate_card_id
               AND r.kind = summed.kind ORDER BY r.above_input_tokens, r.service_tier, r.daily_start LIMIT 1
           ) END AS base_usd_per_million
    FROM summed LEFT JOIN rate_cards k ON k.rate_card_id = summed.rate_card_id
    ORDER BY {_IN_ORDER}
    """
).execution_options(yield_per=_CHUNK)


def iterate_usage(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[Sequence[UsageSum]]:
    """The sums of these months, some thousand at a time; read as they are asked for."""
    found = connection.execute(_USAGE, month_parameters(months))
    for rows in found.partitions(_CHUNK):
        yield [UsageSum._make(row) for row in rows]
