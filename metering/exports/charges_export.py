"""The export of charges: every entry of a month, to be drilled into, and summing to the invoices."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.events.usage import COUNTERS
from metering.exports.columns import Column, Kind, Row, column_index
from metering.exports.month_rows import CENTS_SCALE, REMAINDER, Sum, billed, line_key, month_rows
from metering.exports.queries.charges import iterate_entries
from metering.exports.queries.months import ExportMonth
from metering.ledger.entries import ManualKind
from metering.months.invoice import LineKind

CHARGE_COLUMNS = (
    Column(
        "row_kind",
        Kind.TEXT,
        "`charge`, `adjustment`, `credit`, `correction`; of an invoice also `carried_in` (what the one before left"
        " over) and `remainder` (what this one leaves over, taken away)",
    ),
    Column("period", Kind.TEXT, "the month that the entry counts for, in the customer's time zone"),
    Column("customer_id", Kind.TEXT, "who pays"),
    Column("customer_name", Kind.TEXT, "its name today"),
    Column("invoice_id", Kind.TEXT, "the invoice that bills it; empty while the month is open"),
    Column("invoice_number", Kind.TEXT, "its number"),
    Column("line_key", Kind.TEXT, "the invoice line that sums it, as in invoice-lines; `remainder` is on none"),
    Column("charge_id", Kind.TEXT, "the charge, or the one that is adjusted", distinct=True),
    Column("stream_id", Kind.TEXT, "the completion: `GET /v1/streams/{customer_id}/{stream_id}`", distinct=True),
    Column("adjustment_id", Kind.TEXT, "of an adjustment, a credit or a correction", distinct=True),
    Column("revision", Kind.COUNT, "the place of an adjustment in its stream's history, from 1"),
    Column("reason", Kind.TEXT, "why: `late_facts`, `rerate`, or what the admin wrote"),
    Column("booked_by", Kind.TEXT, "who booked a credit or a correction"),
    Column("booked_at", Kind.MOMENT, "when it was booked", distinct=True),
    Column("started_at", Kind.MOMENT, "when the stream started", distinct=True),
    Column("ended_at", Kind.MOMENT, "when it ended", distinct=True),
    Column("outcome", Kind.TEXT, "completed, cancelled, failed, timed_out or abandoned"),
    Column("provider", Kind.TEXT, "the upstream"),
    Column("model", Kind.TEXT, "the model that was asked for"),
    Column("response_model", Kind.TEXT, "the model that answered, where the upstream said so"),
    Column("rated_model", Kind.TEXT, "the model whose rates apply"),
    Column("model_rule", Kind.TEXT, "how its name led to them"),
    Column("service_tier", Kind.TEXT, "the upstream's class of service"),
    Column("api_key_id", Kind.TEXT, "the gateway's key that was used"),
    *(Column(name, Kind.COUNT, "tokens; of an adjustment, by how many they changed") for name in COUNTERS),
    Column("usage_source", Kind.TEXT, "who counted: provider, gateway_count or estimate"),
    Column("input_unknown", Kind.FLAG, "nobody reported the input, which counts as 0"),
    Column("cancel_policy", Kind.TEXT, "what a stream that did not complete is billed for"),
    Column("cancel_policy_version", Kind.COUNT, "and which version of that; 0 is the default"),
    Column("rate_card_id", Kind.TEXT, "the rate card that priced it"),
    Column(
        "markup_percent", Kind.NUMBER, "the customer's markup, which is in the rates; below 0 a discount", scale=10
    ),
    Column("retry_of", Kind.TEXT, "the stream of which it looks like a retry", distinct=True),
    Column("resolution", Kind.TEXT, "what an admin decided of it"),
    Column("tags", Kind.JSON, "the stream's tags, as an object"),
    Column(
        "lines",
        Kind.JSON,
        "kind, quantity, rate in USD per million, and amount in cents of each part; of an adjustment, those of the"
        " bill that it brought",
        distinct=True,
    ),
    Column(
        "cost_usd_cents",
        Kind.NUMBER,
        "the exact amount in cents; negative when it is given back",
        scale=CENTS_SCALE,
    ),
)

_BY_HAND = frozenset(kind.value for kind in ManualKind)
_KEY_AT = column_index(CHARGE_COLUMNS, "line_key")
_COST_AT = column_index(CHARGE_COLUMNS, "cost_usd_cents")
_NOTHING = (None,) * (_COST_AT - _KEY_AT - 1)


def charge_rows(connection: Connection, months: Sequence[ExportMonth]) -> Iterator[list[Row]]:
    """The rows of these months, some thousand at a time.

    Raises:
        UnequalExportError: those of a closed month do not sum to what it was billed.
    """
    sums = [Sum(place=_COST_AT, name="cost_usd_cents", of=billed)]
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
        # An amount by hand has a line of its own.
        adjustment_id = values[2] if row_kind in _BY_HAND else None
        return (row_kind, *self._head, line_key(line_kind, line_month, provider, model, adjustment_id), *values)

    def closing(self) -> list[Row]:
        """What the invoice before left over, and what this one does."""
        invoice = self._invoice
        if invoice is None:
            return []
        carried_in = LineKind.CARRIED_IN.value
        rows = [
            (carried_in, line_key(carried_in, invoice.carried_from), invoice.carried_in_usd_cents),
            (REMAINDER, REMAINDER, EXACT.minus(invoice.remainder_usd_cents)),
        ]
        return [(row_kind, *self._head, key, *_NOTHING, cents) for row_kind, key, cents in rows if cents]
