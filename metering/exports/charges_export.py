"""The charges export: every entry of a month as a row; the rows sum to the invoices."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.events.usage import COUNTERS
from metering.exports.columns import Column, Kind, Row, column_index, counter_column
from metering.exports.month_rows import CENTS_SCALE, REMAINDER, USD_SCALE, Sum, billed, line_key, month_rows, usd
from metering.exports.queries.charges import iterate_entries
from metering.exports.queries.months import ExportMonth
from metering.ledger.entries import ManualKind
from metering.months.invoice import LineKind

CHARGE_COLUMNS = (
    Column(
        "row_kind",
        Kind.TEXT,
        "`charge`, `adjustment`, `credit` or `correction`; for a closed month also `prepaid` (what grants paid,"
        " subtracted), `carried_in` (the remainder of the previous invoice) and `remainder` (the remainder of this"
        " invoice, subtracted)",
    ),
    Column("period", Kind.TEXT, "the billing month of the entry, in the customer's time zone"),
    Column("customer_id", Kind.TEXT, "the customer that pays"),
    Column("customer_name", Kind.TEXT, "the customer's current name"),
    Column("invoice_id", Kind.TEXT, "the invoice that bills the entry; empty while the month is open"),
    Column("invoice_number", Kind.TEXT, "the invoice's number"),
    Column("line_key", Kind.TEXT, "the invoice line that includes the entry; `remainder` has no invoice line"),
    Column("charge_id", Kind.TEXT, "the charge, or the charge that the entry adjusts", distinct=True),
    Column("stream_id", Kind.TEXT, "the completion: `GET /v1/streams/{customer_id}/{stream_id}`", distinct=True),
    Column("adjustment_id", Kind.TEXT, "the adjustment, credit or correction; empty for charges", distinct=True),
    Column("revision", Kind.COUNT, "the number of the adjustment within its stream, from 1"),
    Column("reason", Kind.TEXT, "the reason: `late_facts`, `rerate`, or the text that the admin wrote"),
    Column("booked_by", Kind.TEXT, "the admin who booked the credit or correction"),
    Column("booked_at", Kind.MOMENT, "when the entry was booked", distinct=True),
    Column("started_at", Kind.MOMENT, "when the stream started", distinct=True),
    Column("ended_at", Kind.MOMENT, "when the stream ended", distinct=True),
    Column("outcome", Kind.TEXT, "completed, cancelled, failed, timed_out or abandoned"),
    Column("provider", Kind.TEXT, "the upstream"),
    Column("model", Kind.TEXT, "the requested model"),
    Column("response_model", Kind.TEXT, "the model that answered, if the upstream reported it"),
    Column("rated_model", Kind.TEXT, "the model whose rates apply"),
    Column("model_rule", Kind.TEXT, "the rule that matched the model's name to these rates"),
    Column("service_tier", Kind.TEXT, "the upstream's service tier"),
    Column("api_key_id", Kind.TEXT, "the gateway's API key"),
    *(counter_column(name, "; for an adjustment, the change") for name in COUNTERS),
    Column("usage_source", Kind.TEXT, "source of the counts: provider, gateway_count or estimate"),
    Column("input_unknown", Kind.FLAG, "whether the input was not reported and counts as 0"),
    Column("cancel_policy", Kind.TEXT, "the policy that billed a stream that did not complete"),
    Column("cancel_policy_version", Kind.COUNT, "the version of that policy; 0 is the default"),
    Column("rate_card_id", Kind.TEXT, "the rate card"),
    Column(
        "markup_percent",
        Kind.NUMBER,
        "the customer's markup, already included in the rates; negative for a discount",
        scale=10,
    ),
    Column("retry_of", Kind.TEXT, "the stream that this one is linked to as a retry", distinct=True),
    Column("resolution", Kind.TEXT, "the admin's decision on the stream"),
    Column("response_provider", Kind.TEXT, "the provider that answered, where it was another one"),
    Column("price_source", Kind.TEXT, "where the price comes from: rate_card, or upstream"),
    Column(
        "upstream_usd_cents",
        Kind.NUMBER,
        "what the upstream says that the stream cost, in cents; for an adjustment, the change",
        scale=CENTS_SCALE,
    ),
    Column("flags", Kind.TEXT, "what a person should know of the bill: clock_skew, inconsistent_usage, …"),
    Column("inlet", Kind.TEXT, "how the usage came in: events, litellm, otlp, openmeter or access_log"),
    Column("tags", Kind.JSON, "the stream's tags, as an object"),
    Column(
        "lines",
        Kind.JSON,
        "kind, quantity, rate in USD per million or per hour and amount in cents of each bill line; for an"
        " adjustment, those of the new bill",
        distinct=True,
    ),
    Column(
        "cost_usd_cents",
        Kind.NUMBER,
        "the exact amount in cents; negative for a credit",
        scale=CENTS_SCALE,
    ),
    Column("cost_usd", Kind.NUMBER, "the same in US dollars", scale=USD_SCALE),
)

_MANUAL = frozenset(kind.value for kind in ManualKind)
_LINE_KEY = column_index(CHARGE_COLUMNS, "line_key")
_COST = column_index(CHARGE_COLUMNS, "cost_usd_cents")
_BETWEEN = (None,) * (_COST - _LINE_KEY - 1)


def charge_rows(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[list[Row]]:
    """The rows of these months, in batches of about a thousand.

    Raises:
        UnequalExportError: the rows of a closed month do not sum to the billed amount.
    """
    sums = [Sum(column=_COST, name="cost_usd_cents", expected=billed)]
    return month_rows(months, iterate_entries(connection, months), _ChargeRows, sums=sums)


class _ChargeRows:
    def __init__(self, month: ExportMonth) -> None:
        invoice = month.invoice
        self._invoice = invoice
        self._head = (
            str(month.period),
            month.customer_id,
            month.customer_name,
            invoice.invoice_id if invoice else None,
            invoice.number if invoice else None,
        )

    def row(self, found: Any) -> Row:
        _, line_kind, line_month, provider, model, row_kind, *values = found
        # A credit or correction has an invoice line of its own.
        adjustment_id = values[2] if row_kind in _MANUAL else None
        return (
            row_kind,
            *self._head,
            line_key(line_kind, line_month, provider, model, adjustment_id),
            *values,
            usd(values[-1]),
        )

    def closing(self) -> list[Row]:
        """What grants paid, the carried-in remainder of the previous invoice, and the remainder of this one."""
        invoice = self._invoice
        if invoice is None:
            return []
        carried_in, prepaid = LineKind.CARRIED_IN.value, LineKind.PREPAID.value
        rows = [
            (prepaid, line_key(prepaid), EXACT.minus(invoice.prepaid_usd_cents)),
            (carried_in, line_key(carried_in, invoice.carried_from), invoice.carried_in_usd_cents),
            (REMAINDER, REMAINDER, EXACT.minus(invoice.remainder_usd_cents)),
        ]
        return [
            (row_kind, *self._head, key, *_BETWEEN, cents, usd(cents)) for row_kind, key, cents in rows if cents
        ]
