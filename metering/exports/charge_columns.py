"""The columns of the charges export."""

from metering.events.usage import COUNTERS
from metering.exports.columns import CENTS_SCALE, USD_SCALE, Column, Kind, counter_column

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
