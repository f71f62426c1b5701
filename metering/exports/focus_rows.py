"""The rows of a FOCUS export: usage by day, price and dimensions, and all other amounts of an invoice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from metering.core.money import EXACT, ZERO, cents_of_time, cents_text
from metering.core.period import day_bounds
from metering.events.usage import TIMED_KINDS, UsageKind
from metering.exports.columns import Row, column_index
from metering.exports.csv_lines import moment_text, number_text, rendered, rendered_columns, text_cell
from metering.exports.focus_columns import FOCUS_COLUMNS, PRICING_SCALE
from metering.exports.month_rows import REMAINDER, line_key, usd
from metering.exports.queries.months import ExportMonth
from metering.exports.queries.usage import UsageSum
from metering.months.invoice import LineKind

_NAMES = tuple(column.name for column in FOCUS_COLUMNS)
# The columns that differ among rows of the same price and dimensions.
(_BILLED, _CONTRACTED, _EFFECTIVE, _LIST, _STARTS, _ENDS, _CONSUMED, _PRICING, _TAGS, _KEY, _STREAMS) = (
    column_index(FOCUS_COLUMNS, name)
    for name in (
        *("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "ChargePeriodStart", "ChargePeriodEnd"),
        *("ConsumedQuantity", "PricingQuantity", "Tags", "x_ApiKeyId", "x_StreamCount"),
    )
)
# What the others follow from.
_DIFFERS = ("n", "day", "tags", "api_key_id", "rated_by", "quantity", "usd_cents", "stream_count")
_priced_by = itemgetter(*(place for place, name in enumerate(UsageSum._fields) if name not in _DIFFERS))
_SERVICE = {
    "ServiceCategory": "AI and Machine Learning",
    "ServiceSubcategory": "Generative AI",
    "ServiceName": "Model Completions",
    "BillingCurrency": "USD",
}
_METERS = {
    UsageKind.INPUT: "Input Tokens",
    UsageKind.CACHE_READ: "Cache Read Tokens",
    UsageKind.CACHE_WRITE: "Cache Write Tokens",
    UsageKind.INPUT_AUDIO: "Input Audio Tokens",
    UsageKind.OUTPUT: "Output Tokens",
    UsageKind.REASONING: "Reasoning Tokens",
    UsageKind.OUTPUT_AUDIO: "Output Audio Tokens",
    UsageKind.CACHE_READ_AUDIO: "Cache Read Audio Tokens",
    UsageKind.CACHE_READ_IMAGE: "Cache Read Image Tokens",
    UsageKind.CACHE_WRITE_1H: "Cache Write 1 Hour Tokens",
    UsageKind.INPUT_IMAGE: "Input Image Tokens",
    UsageKind.INPUT_VIDEO: "Input Video Tokens",
    UsageKind.CITATION: "Citation Tokens",
    UsageKind.OUTPUT_IMAGE: "Output Image Tokens",
    UsageKind.OUTPUT_VIDEO: "Output Video Tokens",
    UsageKind.AUDIO_SECONDS: "Audio Seconds",
    UsageKind.INPUT_AUDIO_SECONDS: "Input Audio Seconds",
    UsageKind.INPUT_CHARACTERS: "Input Characters",
    UsageKind.INPUT_DOCUMENT_PAGES: "Document Pages",
    UsageKind.INPUT_ANNOTATED_DOCUMENT_PAGES: "Annotated Document Pages",
    UsageKind.INPUT_TEXT_MESSAGES: "Text Messages",
    UsageKind.WEB_SEARCHES: "Web Searches",
    UsageKind.STORAGE_SEARCHES: "Storage Searches",
    UsageKind.REQUEST: "Requests",
    UsageKind.UPSTREAM_COST: "Completions Priced By The Upstream",
}
_UNITS = {kind: meter.split()[-1] for kind, meter in _METERS.items()} | {UsageKind.UPSTREAM_COST: "Completions"}
_HUNDRED = Decimal(100)
_SECONDS_PER_HOUR = Decimal(3600)
_LAST_PRICED_DIGIT = EXACT.scaleb(Decimal(1), -PRICING_SCALE)
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN)


# Each takes four kilobytes.
_MOST_PRICED = 5_000
# The sale of grants; it is billed apart from the month's invoice.
PURCHASE = "purchase"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priced:
    """The cells of rows that share all but their day, key, tags, quantity and amounts."""

    kind: UsageKind
    price: Decimal
    list_price: Decimal
    cells: Sequence[str]

    def line(self, found: UsageSum, day: tuple[str, str]) -> bytes:
        quantity, cost = found.quantity, usd(found.usd_cents)
        assert quantity is not None
        list_cost = _list_cost(self.kind, quantity, self.list_price, cost=cost, price=self.price)
        timed = self.kind in TIMED_KINDS
        billed = number_text(cost)
        cells = [*self.cells]
        cells[_BILLED] = cells[_CONTRACTED] = cells[_EFFECTIVE] = billed
        cells[_LIST] = number_text(list_cost)
        cells[_STARTS], cells[_ENDS] = day
        cells[_CONSUMED] = number_text(quantity)
        cells[_PRICING] = number_text(_hours(quantity) if timed else EXACT.scaleb(quantity, -6))
        cells[_TAGS] = text_cell(found.tags)
        cells[_KEY] = text_cell(found.api_key_id)
        cells[_STREAMS] = str(found.stream_count)
        return f"{found.n},{billed},{','.join(cells)}".encode()


class FocusRows:
    """The rows of a customer's month; what rows of the same price and dimensions share is made once."""

    def __init__(self, month: ExportMonth, issuer: str) -> None:
        self._month = month
        self._period = str(month.period)
        self._issuer = issuer
        self._priced: dict[tuple[Any, ...], _Priced] = {}
        invoice = month.invoice
        self._shared = {
            **_SERVICE,
            "BillingAccountId": month.customer_id,
            "BillingAccountName": month.customer_name or month.customer_id,
            "BillingPeriodStart": month.starts_at.astimezone(UTC),
            "BillingPeriodEnd": month.ends_at.astimezone(UTC),
            "InvoiceId": invoice.invoice_id if invoice else None,
            "x_InvoiceNumber": invoice.number if invoice else None,
            "x_StripeInvoiceNumber": invoice.stripe_number if invoice else None,
            "InvoiceIssuerName": issuer,
            "ProviderName": issuer,
            "ServiceProviderName": issuer,
        }

    def line(self, found: UsageSum) -> bytes:
        """A row as `month_lines` takes it: the number of the month, BilledCost, and the line."""
        if found.kind is None:
            row = self._row(found, self._manual(found))
            return f"{found.n},{number_text(row[_BILLED])},".encode() + rendered([row], FOCUS_COLUMNS)[0]
        key = _priced_by(found)
        priced = self._priced.get(key)
        if priced is None:
            if len(self._priced) >= _MOST_PRICED:
                self._priced.clear()
            priced = self._priced[key] = self._price(found)
        return priced.line(found, _day(found.day, self._month.time_zone))

    def _price(self, found: UsageSum) -> _Priced:
        price, markup_percent = found.usd_per_million, found.markup_percent
        assert price is not None, "only manual amounts have no price"
        assert markup_percent is not None
        list_price = _list_price(price, markup_percent, found.list_usd_per_million)
        row = self._row(found, self._usage(found, list_price))
        return _Priced(
            kind=UsageKind(found.kind or ""),
            price=price,
            list_price=list_price,
            cells=[cells[0] for cells in rendered_columns([row], FOCUS_COLUMNS)],
        )

    def _row(self, found: UsageSum, more: Mapping[str, Any]) -> Row:
        starts, ends = day_bounds(found.day, time_zone=self._month.time_zone)
        provider = found.provider or self._issuer
        values = {
            **self._shared,
            "ChargePeriodStart": starts,
            "ChargePeriodEnd": ends,
            "HostProviderName": provider,
            "PublisherName": provider,
            "Tags": found.tags,
            "x_ApiKeyId": found.api_key_id,
            "x_LineKind": found.line_kind,
            "x_Model": found.model,
            "x_Outcome": found.outcome,
            "x_Provider": found.provider,
            "x_Retry": found.retry,
            "x_StreamCount": found.stream_count,
            "x_UsageSource": found.usage_source,
            **more,
        }
        return tuple(map(values.get, _NAMES))

    def last_rows(self) -> list[Row]:
        """What grants paid and cost, the previous invoice's remainder, and the remainder of this one."""
        invoice = self._month.invoice
        grants = self._grants()
        if invoice is None:
            return grants
        carried = invoice.carried_in_usd_cents
        left = EXACT.minus(invoice.remainder_usd_cents)
        key = line_key(LineKind.CARRIED_IN.value, invoice.carried_from)
        why = "Rounded down to whole cents" if invoice.billed_cents else "Below the minimum to bill"
        rows = [
            (LineKind.CARRIED_IN.value, key, f"Carried over from {invoice.carried_from}", carried),
            (REMAINDER, REMAINDER, f"{why}; carried over to the next invoice", left),
        ]
        return grants + [self._last_row(*row) for row in rows if row[-1]]

    def _grants(self) -> list[Row]:
        """The sale of grants, which is billed apart; and what they paid, with what that earned of their price."""
        grants, rows = self._month.grants, []
        if grants.sold_cents:
            sold = usd(Decimal(grants.sold_cents))
            elsewhere = dict.fromkeys(("InvoiceId", "InvoiceDetailId", "x_InvoiceNumber", "x_StripeInvoiceNumber"))
            values = {**elsewhere, **_costs(sold), "EffectiveCost": ZERO, "ChargeCategory": "Purchase"}
            rows.append(self._last_row(PURCHASE, PURCHASE, "Prepaid credit", ZERO, values))
        if grants.drawn_usd_cents:
            paid = usd(EXACT.minus(grants.drawn_usd_cents))
            values = {"EffectiveCost": EXACT.add(paid, usd(Decimal(grants.recognised_cents)))}
            kind = LineKind.PREPAID.value
            text = "Paid from prepaid credit"
            rows.append(self._last_row(kind, kind, text, EXACT.minus(grants.drawn_usd_cents), values))
        return rows

    def _usage(self, found: UsageSum, list_price: Decimal) -> dict[str, Any]:
        """All but quantities and amounts."""
        kind = UsageKind(found.kind or "")
        unit = _UNITS[kind]
        line = (found.line_kind, found.line_month, found.line_provider, found.line_model)
        corrects = found.line_kind == LineKind.ADJUSTMENT and (found.line_month or "") < self._period
        sku = _sku(found.card_provider or found.provider, found.card_model or found.rated_model, found.kind)
        return {
            "ListUnitPrice": list_price,
            "ContractedUnitPrice": found.usd_per_million,
            "ChargeCategory": "Usage",
            "ChargeClass": "Correction" if corrects else None,
            "ChargeDescription": _description(*line[:2], found.kind, found.model, found.provider),
            "ChargeFrequency": "Usage-Based",
            "ConsumedUnit": unit,
            "InvoiceDetailId": self._detail_id(line_key(*line)),
            "PricingCategory": "Standard",
            "PricingUnit": "Hours" if kind in TIMED_KINDS else f"1000000 {unit}",
            **sku,
            "SkuPriceId": f"{found.rate_card_id}/{found.kind}/{cents_text(list_price)}",
            "x_RatedModel": found.rated_model,
            "x_UsageKind": found.kind,
        }

    def _manual(self, found: UsageSum) -> dict[str, Any]:
        credit = found.line_kind == LineKind.CREDIT
        key = line_key(found.line_kind, adjustment_id=found.adjustment_id)
        return {
            **_costs(usd(found.usd_cents)),
            "ChargeCategory": "Credit" if credit else "Adjustment",
            "ChargeClass": "Correction" if found.corrects_stream else None,
            "ChargeDescription": f"{'Credit' if credit else 'Correction'}: {found.reason}",
            "ChargeFrequency": "One-Time",
            "InvoiceDetailId": self._detail_id(key),
        }

    def _last_row(
        self,
        kind: str,
        key: str,
        description: str,
        usd_cents: Decimal,
        changes: Mapping[str, Any] = MappingProxyType({}),
    ) -> Row:
        values = {
            **self._shared,
            **_costs(usd(usd_cents)),
            "ChargeCategory": "Adjustment",
            "ChargeDescription": description,
            "ChargeFrequency": "One-Time",
            "ChargePeriodStart": self._shared["BillingPeriodStart"],
            "ChargePeriodEnd": self._shared["BillingPeriodEnd"],
            "HostProviderName": self._issuer,
            "PublisherName": self._issuer,
            "InvoiceDetailId": self._detail_id(key),
            "x_LineKind": kind,
            "x_StreamCount": 0,
            **changes,
        }
        return tuple(map(values.get, _NAMES))

    def _detail_id(self, line_key: str) -> str | None:
        return f"{self._month.invoice.invoice_id}/{line_key}" if self._month.invoice else None


def _costs(cost: Decimal) -> dict[str, Decimal]:
    """The four costs, which are equal where there is no price or no markup."""
    return {"BilledCost": cost, "ContractedCost": cost, "EffectiveCost": cost, "ListCost": cost}


def _list_price(price: Decimal, markup_percent: Decimal, looked_up: Decimal | None) -> Decimal:
    """The rate before the markup, which is exact because the markup was multiplied exactly.

    After a discount of 100 % it cannot be computed; it was looked up in the rate card.
    """
    if looked_up is not None:
        return looked_up
    if not markup_percent:
        return price
    return EXACT.divide(EXACT.multiply(price, _HUNDRED), EXACT.add(_HUNDRED, markup_percent))


def _list_cost(
    kind: UsageKind, quantity: Decimal, list_price: Decimal, *, cost: Decimal, price: Decimal
) -> Decimal:
    """Exact, except for time, whose amounts are rounded for each charge; without a markup it equals the cost."""
    if kind not in TIMED_KINDS:
        return EXACT.multiply(list_price, EXACT.scaleb(quantity, -6))
    if list_price == price:
        return cost
    return usd(cents_of_time(seconds=quantity, usd_per_hour=list_price))


def _hours(seconds: Decimal) -> Decimal:
    return _ROUNDING.divide(seconds, _SECONDS_PER_HOUR).quantize(_LAST_PRICED_DIGIT, context=_ROUNDING)


@lru_cache(maxsize=1_000)
def _day(day: date, time_zone: ZoneInfo) -> tuple[str, str]:
    starts, ends = day_bounds(day, time_zone=time_zone)
    return moment_text(starts), moment_text(ends)


@lru_cache(maxsize=10_000)
def _sku(provider: str, model: str, kind: str) -> dict[str, str]:
    return {
        "SkuId": f"{provider}/{model}/{kind}",
        "SkuMeter": _METERS[UsageKind(kind)],
        "SkuPriceDetails": json.dumps({"x_Provider": provider, "x_Model": model, "x_UsageKind": kind}),
    }


@lru_cache(maxsize=10_000)
def _description(line_kind: str, month: str | None, kind: str, model: str, provider: str) -> str:
    what = f"{_METERS[UsageKind(kind)]} of {model} ({provider})"
    if line_kind == LineKind.LATE_USAGE:
        return f"Late usage of {month}: {what}"
    return f"Adjustment to {month}: {what}" if line_kind == LineKind.ADJUSTMENT else what
