"""Queries for the rates of invoice lines: summed from entries when a month closes, and read as kept."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, text

from metering.core.money import EXACT, ZERO
from metering.events.usage import TIMED_KINDS, Quantity, UsageKind
from metering.months.invoice import LineKind, line_key_of
from metering.months.line_rates import UNCHARGED, LineRate, RatesOfLines, in_order
from metering.months.queries.entries import (
    LINE_OF_ENTRY,
    MONTHS_WITH_ADJUSTMENTS,
    MONTHS_WITH_ENTRIES,
    MonthKey,
    OpenMonth,
    months_parameter,
)

# What its upstream says that a stream cost is another price for each, so that these are one row.
_RATE = """
    l.kind AS usage_kind, CASE WHEN l.kind <> 'upstream_cost' THEN l.usd_per_million END AS usd_per_million,
    l.usd_per_hour
"""

_CHARGES = text(
    f"""
SELECT {LINE_OF_ENTRY}, {_RATE}, sum(coalesce(l.quantity, 1)) AS quantity,
       sum(coalesce(l.usd_cents, 0)) AS usd_cents
FROM {MONTHS_WITH_ENTRIES}
LEFT JOIN LATERAL bill_lines(e.lines) AS l ON true
WHERE e.kind = 'charge' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""
)

# A bill without lines has one row, without a kind.
# An adjustment sums the lines of its bill, less those of the bill before: of the adjustment or charge before it.
_ADJUSTMENTS = text(
    f"""
SELECT {LINE_OF_ENTRY}, {_RATE}, sum(bill.sign * coalesce(l.quantity, 1)) AS quantity,
       sum(bill.sign * coalesce(l.usd_cents, 0)) AS usd_cents
FROM {MONTHS_WITH_ADJUSTMENTS}
JOIN charges c ON c.customer_id = e.customer_id AND c.stream_id = e.stream_id
LEFT JOIN adjustments a
    ON a.customer_id = e.customer_id AND a.stream_id = e.stream_id AND a.revision = e.revision - 1
CROSS JOIN (VALUES (1), (-1)) AS bill (sign)
LEFT JOIN LATERAL bill_lines(
    CASE WHEN bill.sign = 1 THEN e.lines WHEN e.revision = 1 THEN c.lines ELSE a.lines END) AS l ON true
WHERE (l.kind IS NOT NULL OR NOT CASE WHEN bill.sign = 1 THEN e.taken_back ELSE coalesce(a.taken_back, false) END)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""
)


# PostgreSQL expects many lines in each bill, and would sort the lines of all bills on disk.
_HASHED, _AS_PLANNED = text("SET LOCAL enable_sort = off"), text("SET LOCAL enable_sort = DEFAULT")

# A kind, USD per million, and USD per hour; and a quantity and exact cents.
_Rate = tuple[str | None, Decimal | None, Decimal | None]
_Sum = tuple[Decimal, Decimal]


def sum_line_rates(connection: Connection, months: Sequence[OpenMonth]) -> Mapping[MonthKey, RatesOfLines]:
    """The rates of these months' entries by the key of their line. It reads the lines of every bill.

    Lines that an invoice leaves out, because their adjustments sum to 0, have rates as well.
    """
    parameters = months_parameter(months)
    connection.execute(_HASHED)
    sums: dict[MonthKey, dict[str, dict[_Rate, _Sum]]] = defaultdict(dict)
    for query in (_CHARGES, _ADJUSTMENTS):
        for row in connection.execute(query, parameters):
            key = line_key_of(
                kind=LineKind(row.kind),
                month=row.month,
                provider=row.provider,
                model=row.model,
                adjustment_id=None,
            )
            # An adjustment of an earlier month changes no completion of this one.
            if row.usage_kind is None and row.kind == LineKind.ADJUSTMENT:
                continue
            rates = sums[row.customer_id, row.period].setdefault(key, {})
            rate = (row.usage_kind, row.usd_per_million, row.usd_per_hour)
            quantity, usd_cents = rates.get(rate, (ZERO, ZERO))
            rates[rate] = (EXACT.add(quantity, row.quantity), EXACT.add(usd_cents, row.usd_cents))
    connection.execute(_AS_PLANNED)
    return {month: {key: _rates(found) for key, found in lines.items()} for month, lines in sums.items()}


def _rates(sums: Mapping[_Rate, _Sum]) -> list[LineRate]:
    return in_order(
        _rate(kind, usd_per_million, usd_per_hour, quantity, usd_cents)
        for (kind, usd_per_million, usd_per_hour), (quantity, usd_cents) in sums.items()
        if quantity or usd_cents
    )


def _rate(
    kind: str | None,
    usd_per_million: Decimal | None,
    usd_per_hour: Decimal | None,
    quantity: Decimal,
    usd_cents: Decimal,
) -> LineRate:
    usage_kind = None if kind in (None, UNCHARGED) else UsageKind(kind)
    return LineRate(
        kind=usage_kind,
        quantity=_counted(usage_kind, quantity),
        usd_per_million=usd_per_million,
        usd_per_hour=usd_per_hour,
        usd_cents=usd_cents,
    )


def _counted(kind: UsageKind | None, quantity: Decimal) -> Quantity:
    return quantity if kind in TIMED_KINDS else int(quantity)


_KEPT = text(
    """
    SELECT r.invoice_id, r.line_key, r.kind, r.quantity, r.usd_per_million, r.usd_per_hour, r.usd_cents
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:invoice_ids AS text[])) AS wanted (customer_id, invoice_id)
    JOIN invoice_line_rates r USING (customer_id, invoice_id)
    ORDER BY r.customer_id, r.invoice_id, r.line_key, r.place
    """
)


def kept_line_rates(connection: Connection, keys: Sequence[tuple[str, str]]) -> Mapping[str, RatesOfLines]:
    """The kept rates of these (customer_id, invoice_id), by invoice id.

    Invoices that older code made have none until a worker adds them.
    """
    parameters = {
        "customer_ids": [customer_id for customer_id, _ in keys],
        "invoice_ids": [invoice_id for _, invoice_id in keys],
    }
    kept: dict[str, dict[str, list[LineRate]]] = {invoice_id: {} for _, invoice_id in keys}
    for row in connection.execute(_KEPT, parameters) if keys else ():
        rate = _rate(row.kind, row.usd_per_million, row.usd_per_hour, row.quantity, row.usd_cents)
        kept[row.invoice_id].setdefault(row.line_key, []).append(rate)
    return kept


_WITHOUT = text(
    """
    SELECT i.customer_id, i.invoice_id, i.period, p.time_zone, p.starts_at, p.ends_at
    FROM invoices i JOIN billing_periods p ON p.customer_id = i.customer_id AND p.period = i.period
    WHERE NOT i.rates_kept AND (i.customer_id, i.invoice_id) > (:customer_id, :invoice_id)
    ORDER BY i.customer_id, i.invoice_id LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutRates:
    """An invoice whose rates are not kept yet, with its month."""

    invoice_id: str
    month: OpenMonth


def invoices_without_rates(
    connection: Connection, *, after: tuple[str, str], limit: int
) -> Sequence[WithoutRates]:
    """Up to `limit` invoices without rates that come after this (customer_id, invoice_id)."""
    rows = connection.execute(_WITHOUT, {"customer_id": after[0], "invoice_id": after[1], "limit": limit})
    names = OpenMonth.__struct_fields__
    return [
        WithoutRates(invoice_id=row.invoice_id, month=OpenMonth(**{name: getattr(row, name) for name in names}))
        for row in rows
    ]
