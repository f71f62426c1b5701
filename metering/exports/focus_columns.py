"""The columns of a FOCUS export: Cost and Usage of FOCUS 1.2, and column names that 1.3 and 1.4 added.

https://focus.finops.org/focus-specification/v1-2/. Its columns come first, by name, then our own (`x_…`).
As the specification requires, columns for things not sold here are left out: commitment discounts, capacity
reservations, regions, resources, sub accounts, other currencies.
"""

from metering.exports.columns import USD_SCALE, Column, Kind

PRICE_SCALE = 18
# Seconds have three decimals.
CONSUMED_SCALE = 3
# PricingQuantity counts millions, or hours: a number of hours is rounded.
PRICING_SCALE = 12

FOCUS_COLUMNS = (
    Column("BilledCost", Kind.NUMBER, "US dollars, exact; sums to the invoice by `InvoiceId`", scale=USD_SCALE),
    Column("BillingAccountId", Kind.TEXT, "the customer's id"),
    Column("BillingAccountName", Kind.TEXT, "the customer's current name, or its id without a name"),
    Column("BillingCurrency", Kind.TEXT, "`USD`"),
    Column("BillingPeriodEnd", Kind.MOMENT, "the end of the billing month, exclusive"),
    Column("BillingPeriodStart", Kind.MOMENT, "the start of the billing month"),
    Column(
        "ChargeCategory",
        Kind.TEXT,
        "`Usage`; `Credit`: a manual credit; `Adjustment`: a manual correction, carried-in amount or remainder",
    ),
    Column("ChargeClass", Kind.TEXT, "`Correction` when the row corrects an earlier invoice, else empty"),
    Column("ChargeDescription", Kind.TEXT, "a description of the row"),
    Column("ChargeFrequency", Kind.TEXT, "`Usage-Based`, or `One-Time` for rows without usage"),
    Column("ChargePeriodEnd", Kind.MOMENT, "the end of the day in the customer's time zone, exclusive"),
    Column(
        "ChargePeriodStart",
        Kind.MOMENT,
        "the start of the day; for carried amounts and remainders, of the month",
    ),
    Column("ConsumedQuantity", Kind.NUMBER, "tokens, requests or what else is counted", scale=CONSUMED_SCALE),
    Column(
        "ConsumedUnit",
        Kind.TEXT,
        "`Tokens`, `Requests`, `Seconds`, `Characters`, `Pages`, `Messages`, `Searches`, `Completions`",
    ),
    Column("ContractedCost", Kind.NUMBER, "cost at the customer's own prices: equals BilledCost", scale=USD_SCALE),
    Column("ContractedUnitPrice", Kind.NUMBER, "US dollars per PricingUnit, with the markup", scale=PRICE_SCALE),
    Column("EffectiveCost", Kind.NUMBER, "equals BilledCost: there are no prepayments", scale=USD_SCALE),
    Column("HostProviderName", Kind.TEXT, "FOCUS 1.3: the upstream, or the issuer for rows without one"),
    Column("InvoiceDetailId", Kind.TEXT, "FOCUS 1.4: the invoice line, `invoice_id/line_key` of invoice-lines"),
    Column("InvoiceId", Kind.TEXT, "the invoice; empty while the month is open"),
    Column("InvoiceIssuerName", Kind.TEXT, "`METERING_ISSUER_NAME`"),
    Column("ListCost", Kind.NUMBER, "cost at the rate card, before the customer's markup", scale=USD_SCALE),
    Column("ListUnitPrice", Kind.NUMBER, "US dollars per PricingUnit, before the markup", scale=PRICE_SCALE),
    Column("PricingCategory", Kind.TEXT, "`Standard`"),
    Column("PricingQuantity", Kind.NUMBER, "ConsumedQuantity in PricingUnits", scale=PRICING_SCALE),
    Column("PricingUnit", Kind.TEXT, "`1000000 Tokens`, `1000000 Requests`, …; `Hours` for seconds"),
    Column("ProviderName", Kind.TEXT, "the seller: the issuer"),
    Column("PublisherName", Kind.TEXT, "the publisher: the upstream, or the issuer for rows without one"),
    Column("ServiceCategory", Kind.TEXT, "`AI and Machine Learning`"),
    Column("ServiceName", Kind.TEXT, "`Model Completions`"),
    Column("ServiceProviderName", Kind.TEXT, "FOCUS 1.3: same as ProviderName"),
    Column("ServiceSubcategory", Kind.TEXT, "`Generative AI`"),
    Column("SkuId", Kind.TEXT, "provider, model and usage kind of the rate card"),
    Column("SkuMeter", Kind.TEXT, "the unit that is counted, such as `Output Tokens`"),
    Column("SkuPriceDetails", Kind.JSON, "provider, model and usage kind of the SKU, as an object"),
    Column("SkuPriceId", Kind.TEXT, "rate card, usage kind and list price: `GET /v1/rates` has the card"),
    Column("Tags", Kind.JSON, "the streams' tags, as an object"),
    Column("x_ApiKeyId", Kind.TEXT, "the gateway's API key"),
    Column("x_InvoiceNumber", Kind.TEXT, "the invoice's number"),
    Column("x_LineKind", Kind.TEXT, "the kind of the invoice line, `purchase`, or `remainder`"),
    Column("x_Model", Kind.TEXT, "the requested model"),
    Column("x_Outcome", Kind.TEXT, "completed, cancelled, failed, timed_out or abandoned"),
    Column("x_Provider", Kind.TEXT, "the upstream, as the gateway names it"),
    Column("x_RatedModel", Kind.TEXT, "the model whose rates apply"),
    Column("x_Retry", Kind.FLAG, "whether the streams are linked as retries"),
    Column("x_StreamCount", Kind.COUNT, "number of streams; each stream has a row per usage kind"),
    Column("x_StripeInvoiceNumber", Kind.TEXT, "Stripe's number of the invoice; empty until it is there"),
    Column("x_UsageKind", Kind.TEXT, "input, output, cache_read, cache_write, reasoning, …, or request"),
    Column("x_UsageSource", Kind.TEXT, "source of the counts: provider, gateway_count or estimate"),
)
