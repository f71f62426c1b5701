"""The usage of months summed by day, price and dimensions, and manual adjustments: the rows of a FOCUS export.

A charge contributes its lines. An adjustment contributes the lines of its new bill, minus the lines of the bill
before. Bills that were replaced within the month therefore cancel out, and the lines of the newest bills remain.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection, text

from metering.db.rows import copied_lines
from metering.events.usage import COUNTERS
from metering.exports.csv_lines import parsed
from metering.exports.queries.charges import BILL_BEFORE, CHARGE, STREAM, TAGS, TAGS_OF_ADJUSTMENT
from metering.exports.queries.months import (
    ADJUSTMENTS_OF_MONTHS,
    CHARGES_OF_MONTHS,
    MANUAL_OF_MONTHS,
    ExportMonth,
    month_parameters,
)
from metering.months.queries.entries import LINE_KIND, LINE_MONTH


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
)
_FREE_CUSTOMERS = text(
    """
    SELECT DISTINCT customer_id FROM markups
    WHERE percent = -100 AND customer_id = ANY(CAST(:customer_ids AS text[]))
    """
)
_CARDS_OF_CUSTOMERS = text(
    """
    SELECT DISTINCT rate_card_id FROM entries
    WHERE customer_id = ANY(CAST(:customer_ids AS text[])) AND rate_card_id IS NOT NULL
    """
)


# PostgreSQL takes each bill for a hundred lines, and would sort them all to sum them.
_HASHED = text("SELECT set_config('enable_sort', 'off', true), set_config('hash_mem_multiplier', '4', true)")


def cards_of_free_bills(connection: Connection, months: Sequence[ExportMonth]) -> list[str]:
    """The rate cards of customers of these months who have, or had, a discount of 100 %."""
    asked = {"customer_ids": [month.customer_id for month in months]}
    free = connection.execute(_FREE_CUSTOMERS, asked).scalars().all()
    if not free:
        return []
    return list(connection.execute(_CARDS_OF_CUSTOMERS, {"customer_ids": free}).scalars())


def copy_usage(connection: Connection, months: Sequence[ExportMonth]) -> Generator[list[UsageSum]]:
    """The sums of these months in batches of about a thousand, read while iterating; close it."""
    connection.execute(_HASHED)
    with closing(copied_lines(connection, _USAGE, month_parameters(months))) as found:
        for lines in found:
            yield [_read(cells) for cells in parsed(b"\n".join([*lines, b""]).decode())]


def _read(cells: list[str]) -> UsageSum:
    values: list[object] = [cell or None for cell in cells]
    for place, read in _READ:
        if cell := cells[place]:
            values[place] = read(cell)
    return UsageSum._make(values)


# Values that many rows share are read once.
_shared_decimal = lru_cache(maxsize=10_000)(Decimal)
_READERS: Mapping[str, Callable[[str], object]] = {
    "n": int,
    "day": lru_cache(maxsize=1_000)(date.fromisoformat),
    "usd_per_million": _shared_decimal,
    "markup_percent": _shared_decimal,
    "retry": "t".__eq__,
    "quantity": Decimal,
    "usd_cents": Decimal,
    "stream_count": int,
    "corrects_stream": "t".__eq__,
    "list_usd_per_million": _shared_decimal,
}
_READ = tuple((UsageSum._fields.index(name), read) for name, read in _READERS.items())
