"""The columns of the invoice-lines export."""

from metering.events.usage import COUNTERS
from metering.exports.columns import CENTS_SCALE, USD_SCALE, Column, Kind, counter_column

LINE_COLUMNS = (
    Column("invoice_number", Kind.TEXT, "the invoice's number"),
    Column("invoice_id", Kind.TEXT, "the invoice's id: `GET /v1/invoices/{invoice_id}`"),
    Column("customer_id", Kind.TEXT, "the customer that pays"),
    Column("customer_name", Kind.TEXT, "the customer's current name"),
    Column("period", Kind.TEXT, "the billing month"),
    Column("period_starts_at", Kind.MOMENT, "the start of the month in the customer's time zone"),
    Column("period_ends_at", Kind.MOMENT, "the end of the month, exclusive"),
    Column("line_key", Kind.TEXT, "the line's key, unique in its invoice; `line_key` of the charges export"),
    Column(
        "kind",
        Kind.TEXT,
        "usage, late_usage, adjustment, credit, correction, prepaid or carried_in: [months](months.md)",
    ),
    Column("provider", Kind.TEXT, "the upstream"),
    Column("model", Kind.TEXT, "the requested model"),
    Column(
        "month",
        Kind.TEXT,
        "the earlier month that late usage or an adjustment belongs to, or whose invoice is carried in",
    ),
    Column("adjustment_id", Kind.TEXT, "the credit or correction; empty for other lines"),
    Column("reason", Kind.TEXT, "the reason for the credit or correction"),
    Column("starts_at", Kind.MOMENT, "the start of the line; for late usage, when the first stream ended"),
    Column("ends_at", Kind.MOMENT, "the end of the line; for late usage, when the last stream ended"),
    Column("stream_count", Kind.COUNT, "number of streams"),
    *map(counter_column, COUNTERS),
    Column("exact_usd_cents", Kind.NUMBER, "the exact amount in cents", scale=CENTS_SCALE),
    Column("billed_cents", Kind.COUNT, "the line's share of the billed whole cents"),
    Column("invoice_exact_usd_cents", Kind.NUMBER, "the exact amount of the month's entries", scale=CENTS_SCALE),
    Column("invoice_carried_in_usd_cents", Kind.NUMBER, "the previous invoice's remainder", scale=CENTS_SCALE),
    Column("invoice_billed_cents", Kind.COUNT, "the billed part of both amounts"),
    Column("invoice_remainder_usd_cents", Kind.NUMBER, "the part that is not billed", scale=CENTS_SCALE),
    Column("state", Kind.TEXT, "the state of the push to Stripe: [months](months.md)"),
    Column("stripe_invoice_id", Kind.TEXT, "Stripe's id"),
    Column("stripe_number", Kind.TEXT, "Stripe's number"),
    Column("exact_usd", Kind.NUMBER, "exact_usd_cents in US dollars", scale=USD_SCALE),
    Column("billed_usd", Kind.NUMBER, "billed_cents in US dollars", scale=USD_SCALE),
    Column("invoice_billed_usd", Kind.NUMBER, "invoice_billed_cents in US dollars", scale=USD_SCALE),
    Column("invoice_prepaid_usd_cents", Kind.NUMBER, "what grants paid of the month", scale=CENTS_SCALE),
)
