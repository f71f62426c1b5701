"""The columns of a FOCUS export: FOCUS 1.2's Cost and Usage, and the names that 1.3 and 1.4 added.

https://focus.finops.org/focus-specification/v1-2/. Its columns come first, by name, then ours (`x_…`).
What needs a construct that is not sold here is left out, as the specification wants it: commitment discounts,
capacity reservations, regions, resources, sub accounts, other currencies.
"""

from metering.exports.columns import Column, Kind

# Dollars have two decimals more than cents.
USD_SCALE = 22
PRICE_SCALE = 18
# PricingQuantity counts millions.
MILLIONS_SCALE = 6

FOCUS_COLUMNS = (
    Column("BilledCost", Kind.NUMBER, "US dollars, exact; sums to the invoice by `InvoiceId`", scale=USD_SCALE),
    Column("BillingAccountId", Kind.TEXT, "the customer's id"),
    Column("BillingAccountName", Kind.TEXT, "its name today, or its id where it has none"),
    Column("BillingCurrency", Kind.TEXT, "`USD`"),
    Column("BillingPeriodEnd", Kind.MOMENT, "when the month ends for the customer, exclusive"),
    Column("BillingPeriodStart", Kind.MOMENT, "when it begins"),
    Column(
        "ChargeCategory",
        Kind.TEXT,
        "`Usage`; `Credit`, booked by hand; `Adjustment`: corrections by hand, what was carried in, the remainder",
    ),
    Column("ChargeClass", Kind.TEXT, "`Correction` of what an earlier invoice has, or nothing"),
    Column("ChargeDescription", Kind.TEXT, "a row in words"),
    Column("ChargeFrequency", Kind.TEXT, "`Usage-Based`, or `One-Time` where nothing was used"),
    Column("ChargePeriodEnd", Kind.MOMENT, "the end of the day in the customer's time zone, exclusive"),
    Column("ChargePeriodStart", Kind.MOMENT, "its beginning; of carried amounts and the remainder, the month's"),
    Column("ConsumedQuantity", Kind.NUMBER, "tokens, or requests"),
    Column("ConsumedUnit", Kind.TEXT, "`Tokens` or `Requests`"),
    Column("ContractedCost", Kind.NUMBER, "at the customer's own prices: as BilledCost", scale=USD_SCALE),
    Column("ContractedUnitPrice", Kind.NUMBER, "US dollars per PricingUnit, the markup in it", scale=PRICE_SCALE),
    Column("EffectiveCost", Kind.NUMBER, "as BilledCost: nothing is paid ahead", scale=USD_SCALE),
    Column("HostProviderName", Kind.TEXT, "FOCUS 1.3: the upstream; where there is none, the issuer"),
    Column("InvoiceDetailId", Kind.TEXT, "FOCUS 1.4: the invoice line, `invoice_id/line_key` of invoice-lines"),
    Column("InvoiceId", Kind.TEXT, "our invoice; empty while the month is open"),
    Column("InvoiceIssuerName", Kind.TEXT, "`METERING_ISSUER_NAME`"),
    Column("ListCost", Kind.NUMBER, "at the rate card, before the customer's markup", scale=USD_SCALE),
    Column("ListUnitPrice", Kind.NUMBER, "US dollars per PricingUnit, before the markup", scale=PRICE_SCALE),
    Column("PricingCategory", Kind.TEXT, "`Standard`"),
    Column("PricingQuantity", Kind.NUMBER, "ConsumedQuantity in millions", scale=MILLIONS_SCALE),
    Column("PricingUnit", Kind.TEXT, "`1000000 Tokens` or `1000000 Requests`"),
    Column("ProviderName", Kind.TEXT, "who sells it: the issuer"),
    Column("PublisherName", Kind.TEXT, "who made it: the upstream; where there is none, the issuer"),
    Column("ServiceCategory", Kind.TEXT, "`AI and Machine Learning`"),
    Column("ServiceName", Kind.TEXT, "`Model Completions`"),
    Column("ServiceProviderName", Kind.TEXT, "FOCUS 1.3: as ProviderName"),
    Column("ServiceSubcategory", Kind.TEXT, "`Generative AI`"),
    Column("SkuId", Kind.TEXT, "provider, model and usage kind of the rate card"),
    Column("SkuMeter", Kind.TEXT, "what is counted, such as `Output Tokens`"),
    Column("SkuPriceDetails", Kind.JSON, "what the SKU is, as an object"),
    Column("SkuPriceId", Kind.TEXT, "rate card, usage kind and list price: `GET /v1/rates` has the card"),
    Column("Tags", Kind.JSON, "the streams' tags, as an object"),
    Column("x_ApiKeyId", Kind.TEXT, "the gateway's key that was used"),
    Column("x_InvoiceNumber", Kind.TEXT, "the invoice's number"),
    Column("x_LineKind", Kind.TEXT, "the kind of the invoice line, or `remainder`"),
    Column("x_Model", Kind.TEXT, "the model that was asked for"),
    Column("x_Outcome", Kind.TEXT, "completed, cancelled, failed, timed_out or abandoned"),
    Column("x_Provider", Kind.TEXT, "the upstream, as the gateway names it"),
    Column("x_RatedModel", Kind.TEXT, "the model whose rates apply"),
    Column("x_Retry", Kind.FLAG, "whether the streams look like retries"),
    Column("x_StreamCount", Kind.COUNT, "how many streams a row sums; one has a row for each of its usage kinds"),
    Column("x_UsageKind", Kind.TEXT, "input, output, cache_read, cache_write, reasoning, …, or request"),
    Column("x_UsageSource", Kind.TEXT, "who counted: provider, gateway_count or estimate"),
)
