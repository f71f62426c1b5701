"""The usage of months summed by day, price and dimensions, and manual adjustments: the rows of a FOCUS export.

A charge contributes its lines. An adjustment contributes the lines of its new bill, minus the lines of the bill
before. Bills that were replaced within the month therefore cancel out, and the lines of the newest bills remain.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Connection, text

from metering.events.usage import COUNTERS
from metering.exports.queries.charges import BILL_BEFORE, CHARGE, STREAM, TAGS, TAGS_OF_ADJUSTMENT
from metering.exports.queries.months import (
    ADJUSTMENTS_OF_MONTHS,
    CHARGES_OF_MONTHS,
    MANUAL_OF_MONTHS,
    ExportMonth,
    month_parameters,
)
from metering.months.queries.entries import LINE_KIND, LINE_MONTH

_CHUNK = 1_000


class UsageSum(NamedTuple):
    """A row. The fields before `quantity` are the grouping; `n` is the number of the month.

    `line_…` belong to the invoice line, `day` is a day in the customer's time zone, `kind` and `usd_per_million`
    belong to a charge line, and `retry` says whether the streams are linked as retries. A manual adjustment has an
    `adjustment_id` and no kind; `corrects_stream` says whether it is for a stream of an earlier month. After a
    discount of 100 %, `rated_by` has what selected the rates, as JSON, and `list_prices.py` adds the list price.
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
    rated_by: str | None
    quantity: Decimal | None
    usd_cents: Decimal
    stream_count: int
    adjustment_id: str | None
    reason: str | None
    corrects_stream: bool | None
    card_provider: str | None
    card_model: str | None
    list_usd_per_million: Decimal | None


_DIMENSIONS = UsageSum._fields[1 : UsageSum._fields.index("quantity")]

_DAY = "CAST({at} AT TIME ZONE m.time_zone AS date)"
# A discount of 100 % leaves nothing of the rate on the line, so what selected the rate is read instead.
_RATED_BY = f"""
    CASE WHEN {{bill}}.markup_percent = -100 THEN CAST(json_build_object(
        'at', {{bill}}.started_at, 'service_tier', {{bill}}.service_tier,
        'usage', json_build_object({", ".join(f"'{name}', {{bill}}.{name}" for name in COUNTERS)})) AS text) END
"""
_RATE = "coalesce(l.usd_per_million, l.usd_per_hour)"
_CHARGED_LINES = f"""
    SELECT m.n, {LINE_KIND}, {LINE_MONTH}, {_DAY.format(at="e.ended_at")}, e.provider, e.model, l.kind,
           {_RATE}, e.rate_card_id, e.rated_model, e.markup_percent, e.outcome, e.usage_source,
           e.retry_of IS NOT NULL, e.api_key_id, {TAGS}, e.provider, e.model, {_RATED_BY.format(bill="e")},
           l.quantity, l.usd_cents, 1
    FROM {CHARGES_OF_MONTHS} {STREAM} CROSS JOIN LATERAL bill_lines(e.lines) AS l
"""
_BILL = (
    "started_at",
    "ended_at",
    "service_tier",
    *COUNTERS,
    "provider",
    "model",
    "rate_card_id",
    "rated_model",
    "markup_percent",
    "outcome",
    "usage_source",
    "retry_of",
    "api_key_id",
    "lines",
)
_ADJUSTED_LINES = f"""
    SELECT m.n, {LINE_KIND}, {LINE_MONTH}, {_DAY.format(at="d.ended_at")}, d.provider, d.model, l.kind,
           {_RATE}, d.rate_card_id, d.rated_model, d.markup_percent, d.outcome, d.usage_source,
           d.retry_of IS NOT NULL, d.api_key_id, {TAGS_OF_ADJUSTMENT}, e.charged_provider, e.charged_model,
           {_RATED_BY.format(bill="d")}, d.sign * l.quantity, d.sign * l.usd_cents, d.sign
    FROM {ADJUSTMENTS_OF_MONTHS} {BILL_BEFORE}
    CROSS JOIN LATERAL (
        VALUES (1, {", ".join(f"e.{name}" for name in _BILL)}),
               (-1, {", ".join(f"before.{name}" for name in _BILL)})
    ) AS d (sign, {", ".join(_BILL)})
    CROSS JOIN LATERAL bill_lines(d.lines) AS l
"""
# A manual adjustment is a row of its own, on the day that its stream ended or that it was booked.
_MANUAL = f"""
    SELECT m.n, e.kind, NULL, {_DAY.format(at="e.filed_at")}, c.provider, c.model, NULL, NULL, NULL, NULL, NULL,
           c.outcome, c.usage_source, CASE WHEN c.stream_id IS NOT NULL THEN c.retry_of IS NOT NULL END,
           c.api_key_id, {TAGS}, NULL, NULL, NULL, NULL, e.usd_cents, 0, e.entry_id, e.reason, c.period < :period
    FROM {MANUAL_OF_MONTHS} {CHARGE} {STREAM}
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
        UNION ALL {_MANUAL}
    )
    SELECT summed.*, k.provider AS card_provider, k.model AS card_model,
           CAST(NULL AS numeric) AS list_usd_per_million
    FROM summed LEFT JOIN rate_cards k ON k.rate_card_id = summed.rate_card_id
    ORDER BY {_IN_ORDER}
    """
).execution_options(yield_per=_CHUNK)


def iterate_usage(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[Sequence[UsageSum]]:
    """The sums of these months in batches of about a thousand, read while iterating."""
    found = connection.execute(_USAGE, month_parameters(months))
    for rows in found.partitions(_CHUNK):
        yield [UsageSum._make(row) for row in rows]
