"""Views for finance's own tools, which are all that a reader may see; and what operators' metrics follow from."""

from alembic import op

revision = "2026_12_04_reporting"
down_revision = "2026_12_03_stripe"
branch_labels = None
depends_on = None

COUNTERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
SUMS = ("stream_count", *COUNTERS, "usd_cents")
KEY = ("customer_id", "day", "provider", "model", "api_key_id", "outcome", "usage_source", "retry")
DOLLARS = "* 0.01"  # exact, which a division is not

# Sums of which nothing is pending as they are, those that are pending with what is rolled up of them. Two branches and
# no common GROUP BY, so that a month's million sums are read once and sorted by nobody.
SAME_KEY = " AND ".join(f"d.{name} = p.{name}" for name in KEY)
DAILY_USAGE = f"""
CREATE VIEW reporting.daily_usage AS
WITH pending AS NOT MATERIALIZED (
    SELECT customer_id, date_trunc('day', hour, 'UTC') AS day, {", ".join(KEY[2:])},
           sum(stream_count)::bigint AS stream_count, {", ".join(f"sum({name}) AS {name}" for name in SUMS[1:])}
    FROM public.totals_pending GROUP BY {", ".join(str(place + 1) for place in range(len(KEY)))}
)
SELECT u.day, u.customer_id, c.name AS customer_name, nullif(u.provider, '') AS provider,
       nullif(u.model, '') AS model, nullif(u.api_key_id, '') AS api_key_id, nullif(u.outcome, '') AS outcome,
       nullif(u.usage_source, '') AS usage_source, u.retry = 'true' AS retry,
       {", ".join(f"u.{name}" for name in SUMS)}, u.usd_cents {DOLLARS} AS usd
FROM (
    SELECT {", ".join(f"d.{name}" for name in (*KEY, *SUMS))} FROM public.totals_daily d
    WHERE NOT EXISTS (SELECT FROM pending p WHERE {SAME_KEY})
    UNION ALL
    SELECT {", ".join(f"p.{name}" for name in KEY)},
           {", ".join(f"p.{name} + coalesce(d.{name}, 0) AS {name}" for name in SUMS)}
    FROM pending p LEFT JOIN public.totals_daily d ON {SAME_KEY}
) AS u LEFT JOIN public.customers c ON c.customer_id = u.customer_id
WHERE u.stream_count <> 0 OR u.usd_cents <> 0
"""

# Where the newest bill has each column: in the charge, or in the document of the newest adjustment.
TEXTS = ("outcome", "provider", "model", "response_model", "rated_model", "model_rule", "service_tier", "api_key_id")
TERMS = ("usage_source", "cancel_policy", "rate_card_id", "retry_of", "resolution")
BILL = (
    "started_at",
    "ended_at",
    *TEXTS,
    *COUNTERS,
    *TERMS,
    "input_unknown",
    "cancel_policy_version",
    "markup_percent",
    "lines",
)
BOOKED = "c.customer_id, c.stream_id, c.charge_id, c.period, c.booked_at, c.usd_cents AS charged_usd_cents"
ADJUSTED = """a.revision, (
        SELECT sum(x.usd_cents) FROM public.adjustments x
        WHERE x.customer_id = a.customer_id AND x.stream_id = a.stream_id) AS adjusted_usd_cents"""
NEWEST = """public.adjustments a
    JOIN public.charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id
    WHERE NOT EXISTS (SELECT FROM public.adjustments newer WHERE newer.customer_id = a.customer_id
                      AND newer.stream_id = a.stream_id AND newer.revision > a.revision)"""


def of_charge(name: str) -> str:
    return "c.lines::jsonb AS lines" if name == "lines" else f"c.{name}"


def of_adjustment(name: str) -> str:
    if name in COUNTERS:
        return f"(a.bill -> 'usage' ->> '{name}')::bigint AS {name}"
    others = {
        "started_at": "(a.bill ->> 'started_at')::timestamptz AS started_at",
        "ended_at": "a.ended_at",
        "input_unknown": "(a.bill ->> 'input_unknown')::boolean AS input_unknown",
        "cancel_policy_version": "coalesce((a.bill ->> 'cancel_policy_version')::integer, 0) AS cancel_policy_version",
        "markup_percent": "coalesce((a.bill ->> 'markup_percent')::numeric, 0) AS markup_percent",
        "lines": "a.bill -> 'lines' AS lines",
    }
    return others.get(name, f"a.bill ->> '{name}' AS {name}")


def of_nothing(name: str) -> str:
    """What was booked is taken back: the stream is known from its charge, and nothing is billed."""
    others = {"lines": "'[]'::jsonb AS lines", **{name: f"NULL::bigint AS {name}" for name in COUNTERS}}
    return others.get(name, f"c.{name}")


# By branch, so that a range of ends is found in an index whichever table has the newest bill.
CHARGES = f"""
CREATE VIEW reporting.charges AS
SELECT b.customer_id, k.name AS customer_name, b.stream_id, b.charge_id, b.period, b.booked_at, b.revision,
       b.started_at, b.ended_at, {", ".join(f"b.{name}" for name in TEXTS)},
       {", ".join(f"b.{name}" for name in COUNTERS)}, b.usage_source, b.input_unknown, b.cancel_policy,
       b.cancel_policy_version, b.rate_card_id, b.markup_percent, b.retry_of IS NOT NULL AS retry, b.retry_of,
       b.resolution, b.lines, b.charged_usd_cents, b.adjusted_usd_cents,
       coalesce(m.usd_cents, 0) AS by_hand_usd_cents,
       b.charged_usd_cents + b.adjusted_usd_cents + coalesce(m.usd_cents, 0) AS usd_cents,
       (b.charged_usd_cents + b.adjusted_usd_cents + coalesce(m.usd_cents, 0)) {DOLLARS} AS usd
FROM (
    SELECT {BOOKED}, 0 AS revision, 0::numeric AS adjusted_usd_cents, {", ".join(map(of_charge, BILL))}
    FROM public.charges c WHERE NOT EXISTS (
        SELECT FROM public.adjustments a WHERE a.customer_id = c.customer_id AND a.stream_id = c.stream_id)
    UNION ALL
    SELECT {BOOKED}, {ADJUSTED}, {", ".join(map(of_adjustment, BILL))}
    FROM {NEWEST} AND a.bill IS NOT NULL
    UNION ALL
    SELECT {BOOKED}, {ADJUSTED}, {", ".join(map(of_nothing, BILL))}
    FROM {NEWEST} AND a.bill IS NULL
) AS b
LEFT JOIN (
    SELECT customer_id, stream_id, sum(usd_cents) AS usd_cents FROM public.manual_adjustments
    WHERE stream_id IS NOT NULL GROUP BY customer_id, stream_id
) AS m ON m.customer_id = b.customer_id AND m.stream_id = b.stream_id
LEFT JOIN public.customers k ON k.customer_id = b.customer_id
"""

INVOICE_LINES = f"""
CREATE VIEW reporting.invoice_lines AS
SELECT i.period, i.number, l.customer_id, c.name AS customer_name, l.invoice_id, i.created_at, p.state AS push_state,
       p.stripe_invoice_id, p.stripe_number, l.line_key, l.kind, l.provider, l.model, l.month, l.adjustment_id,
       l.reason, l.starts_at, l.ends_at, l.stream_count,
       {", ".join(f"coalesce((l.usage ->> '{name}')::numeric, 0) AS {name}" for name in COUNTERS)},
       l.usd_cents, l.usd_cents {DOLLARS} AS usd, l.billed_cents, l.billed_cents {DOLLARS} AS billed_usd
FROM public.invoice_lines l
JOIN public.invoices i ON i.customer_id = l.customer_id AND i.invoice_id = l.invoice_id
LEFT JOIN public.invoice_pushes p ON p.customer_id = l.customer_id AND p.invoice_id = l.invoice_id
LEFT JOIN public.customers c ON c.customer_id = l.customer_id
"""

# Every month up to the last closed one has its invoice: the database refuses entries to those. So what is booked and
# not invoiced is the difference of all totals and all invoices, without reading a charge. Adjustments and what is
# booked by hand are few, and charges of later months than the first open one are, unless closing is long overdue:
# those are read, and what is left are the charges of the first open month.
def by_customer(amount: str, table: str) -> str:
    return f"(SELECT customer_id, sum({amount}) AS usd_cents FROM public.{table} GROUP BY customer_id)"


def first_month(table: str) -> str:
    return f"SELECT min(e.period) AS period FROM public.{table} e WHERE e.customer_id = c.customer_id AND e.period > closed"


def by_month(kind: str, table: str, after: str) -> str:
    return f"""SELECT e.period, {kind} AS kind, sum(e.usd_cents) AS usd_cents FROM public.{table} e
        WHERE e.customer_id = c.customer_id AND e.period > {after} GROUP BY 1, 2"""


def streams(kind: str, condition: str) -> str:
    """Their month is that of their last event, or the first open one."""
    return f"""
    SELECT c.customer_id, greatest(
               to_char(coalesce(s.ended_at, s.last_event_at) AT TIME ZONE c.time_zone, 'YYYY-MM'),
               to_char(to_date(nullif(c.closed_through, ''), 'YYYY-MM') + interval '1 month', 'YYYY-MM')) AS period,
           '{kind}' AS kind, count(*) AS stream_count, NULL::numeric AS usd_cents
    FROM public.streams s JOIN public.customers c ON c.customer_id = s.customer_id
    WHERE {condition} GROUP BY 1, 2"""


UNBILLED = f"""
CREATE VIEW reporting.unbilled AS
SELECT u.customer_id, k.name AS customer_name, u.period, u.kind, u.stream_count, u.usd_cents,
       u.usd_cents {DOLLARS} AS usd
FROM (
    SELECT c.customer_id, booked.period, booked.kind, NULL::bigint AS stream_count, booked.usd_cents
    FROM (
        SELECT c.customer_id, coalesce(p.period, '') AS closed,
               coalesce(t.usd_cents, 0) + coalesce(n.usd_cents, 0) - coalesce(i.usd_cents, 0) AS usd_cents
        FROM public.customers c
        LEFT JOIN (SELECT customer_id, max(period) AS period FROM public.billing_periods GROUP BY customer_id) AS p
             ON p.customer_id = c.customer_id
        LEFT JOIN {by_customer("usd_cents", "totals_monthly_by_customer")} AS t ON t.customer_id = c.customer_id
        LEFT JOIN {by_customer("usd_cents", "totals_pending")} AS n ON n.customer_id = c.customer_id
        LEFT JOIN {by_customer("exact_usd_cents", "invoices")} AS i ON i.customer_id = c.customer_id
    ) AS c
    CROSS JOIN LATERAL (SELECT min(period) AS period FROM (
        {first_month("charges")}
        UNION ALL {first_month("adjustments")}
        UNION ALL {first_month("manual_adjustments")}) AS months) AS first_open
    CROSS JOIN LATERAL (
        WITH beside AS (
            {by_month("'charge'", "charges", "first_open.period")}
            UNION ALL {by_month("'adjustment'", "adjustments", "c.closed")}
            UNION ALL {by_month("e.kind", "manual_adjustments", "c.closed")}
        )
        SELECT period, kind, usd_cents FROM beside
        UNION ALL
        SELECT first_open.period, 'charge', c.usd_cents - coalesce((SELECT sum(usd_cents) FROM beside), 0)
    ) AS booked
    WHERE booked.usd_cents <> 0
    UNION ALL
    SELECT i.customer_id, i.period, 'remainder', NULL, i.remainder_usd_cents FROM public.invoices i
    WHERE i.remainder_usd_cents <> 0 AND NOT EXISTS (
        SELECT FROM public.invoices n
        WHERE n.customer_id = i.customer_id AND n.previous_invoice_id = i.invoice_id)
    UNION ALL {streams("backlog", "s.state IN ('orphaned', 'unpriced', 'conflicting')")}
    UNION ALL {streams("open", "s.due_at IS NOT NULL AND s.state IN ('open', 'ended')")}
) AS u JOIN public.customers k ON k.customer_id = u.customer_id
"""

DRIFT = f"""
CREATE VIEW reporting.drift AS
WITH compared AS (
    SELECT period, max(started_at) AS started_at FROM public.reconciliations
    WHERE finished_at IS NOT NULL GROUP BY period
)
SELECT f.reconciliation_id, r.started_at, r.finished_at, f.finding, f.found_at, f.customer_id,
       c.name AS customer_name, f.period, f.invoice_id, i.number, f.stripe_invoice_id, f.drift_class, f.finalized,
       f.detail, f.remedy, f.repaired_at, f.repair,
       f.repaired_at IS NULL AND r.finished_at IS NOT NULL
           AND r.started_at >= greatest(month.started_at, everything.started_at) AS still_there,
       f.drift_cents, f.drift_cents {DOLLARS} AS drift_usd
FROM public.drift_findings f
JOIN public.reconciliations r ON r.reconciliation_id = f.reconciliation_id
LEFT JOIN compared AS month ON month.period = f.period
LEFT JOIN compared AS everything ON everything.period IS NULL
LEFT JOIN public.invoices i ON i.customer_id = f.customer_id AND i.invoice_id = f.invoice_id
LEFT JOIN public.customers c ON c.customer_id = f.customer_id
"""

RATES = """
CREATE VIEW reporting.rates AS
SELECT k.provider, k.model, k.customer_id, k.rate_card_id, k.effective_from, k.effective_to, r.kind,
       nullif(r.service_tier, '') AS service_tier,
       CASE WHEN r.daily_start <> r.daily_end THEN r.daily_start END AS daily_start,
       CASE WHEN r.daily_start <> r.daily_end THEN r.daily_end END AS daily_end,
       r.above_input_tokens, r.usd_per_million, r.provenance, k.created_at
FROM (
    SELECT rate_card_id, provider, model, customer_id, effective_from, created_at,
           lead(effective_from) OVER (PARTITION BY provider, model, customer_id ORDER BY effective_from) AS effective_to
    FROM public.rate_cards
) AS k JOIN public.rates r ON r.rate_card_id = k.rate_card_id
"""

CUSTOMER = {
    "customer_id": "Who pays.",
    "customer_name": "The customer's name, where it has one.",
}
MONEY = {
    "usd_cents": "The exact amount in cents; never rounded.",
    "usd": "The same in dollars, exact.",
}
USAGE = {
    "input_tokens": "Input tokens, cached and audio ones included.",
    "output_tokens": "Output tokens, reasoning and audio ones included.",
    "cache_read_input_tokens": "Input tokens that were read from a cache.",
    "cache_write_input_tokens": "Input tokens that were written to a cache.",
    "reasoning_output_tokens": "Output tokens of reasoning.",
    "input_audio_tokens": "Input tokens of audio.",
    "output_audio_tokens": "Output tokens of audio.",
}
STREAM = {
    "provider": "The provider, as the gateway named it.",
    "model": "The model that was asked for.",
    "api_key_id": "The gateway's key that the customer used; NULL where unknown.",
    "outcome": "How the stream ended: completed, cancelled, failed, timed_out or abandoned.",
    "usage_source": "Who counted: provider, gateway_count or estimate.",
    "retry": "Whether the stream looks like a retry of one that ended early.",
}

COMMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "daily_usage": (
        "Final usage and cost by UTC day, one row a day and combination; exact at any moment. "
        "Filed by the day in which the stream ended.",
        {
            "day": "The UTC day, as its first moment.",
            **CUSTOMER,
            **STREAM,
            "provider": "The provider; NULL for a credit or correction that is of no stream.",
            "model": "The model that was asked for; NULL as provider is.",
            "outcome": f"{STREAM['outcome']} NULL as provider is.",
            "usage_source": f"{STREAM['usage_source']} NULL as provider is.",
            "stream_count": "Streams that are billed.",
            **USAGE,
            **MONEY,
        },
    ),
    "charges": (
        "Every charge with its newest bill: one row a stream that was ever charged.",
        {
            **CUSTOMER,
            "stream_id": "The stream; unique by customer.",
            "charge_id": "The charge's own id.",
            "period": "The month that the charge counts for; what was adjusted later may count for later ones.",
            "booked_at": "When the charge was booked.",
            "revision": "How often the bill has changed since.",
            "started_at": "When the stream started; its rates are those in force then.",
            "ended_at": "When the stream ended.",
            "outcome": STREAM["outcome"],
            "provider": STREAM["provider"],
            "model": STREAM["model"],
            "response_model": "The model that answered, where the upstream said so.",
            "rated_model": "The model whose rates apply.",
            "model_rule": "How the model's name led to the rate card.",
            "service_tier": "The upstream's class of service, where known.",
            "api_key_id": STREAM["api_key_id"],
            **{name: f"{meaning[:-1]}; NULL where unknown." for name, meaning in USAGE.items()},
            "usage_source": STREAM["usage_source"],
            "input_unknown": "Whether nobody reported the input, so that it counts as 0.",
            "cancel_policy": "What a stream that did not complete is billed for: delivered, drain or zero.",
            "cancel_policy_version": "Which version of that policy; 0 is the default before any was set.",
            "rate_card_id": "The rate card, as in rates; NULL when nothing is billed.",
            "markup_percent": "The customer's markup on the rates.",
            "retry": STREAM["retry"],
            "retry_of": "The stream that it looks like a retry of.",
            "resolution": "What an admin decided of it: bill_as_is or write_off.",
            "lines": "The bill's lines as JSON: kind, quantity, usd_per_million, usd_cents.",
            "charged_usd_cents": "What was charged at first.",
            "adjusted_usd_cents": "What adjustments changed since; charged and adjusted are the sum of the lines.",
            "by_hand_usd_cents": "Credits and corrections of this stream.",
            "usd_cents": "What the stream costs in exact cents: charged, adjusted and by hand.",
            "usd": MONEY["usd"],
        },
    ),
    "invoice_lines": (
        "Every line of every invoice; the billed cents of an invoice's lines add up to it.",
        {
            "period": "The month that is invoiced.",
            "number": "The invoice's number.",
            **CUSTOMER,
            "invoice_id": "The invoice's own id.",
            "created_at": "When the invoice was made.",
            "push_state": "How far Stripe has the invoice.",
            "stripe_invoice_id": "The invoice at Stripe, once there is one.",
            "stripe_number": "Its number at Stripe.",
            "line_key": "Unique within the invoice.",
            "kind": "usage, late_usage, adjustment, credit, correction or carried_in.",
            "provider": "The provider of usage.",
            "model": "The model of usage.",
            "month": "The month of the usage, or of what is carried in, where it is another one.",
            "adjustment_id": "The credit or correction.",
            "reason": "Why it was booked.",
            "starts_at": "From when the line counts.",
            "ends_at": "Until when.",
            "stream_count": "Streams in the line.",
            **USAGE,
            "usd_cents": MONEY["usd_cents"],
            "usd": MONEY["usd"],
            "billed_cents": "The line's share of the invoice's whole cents.",
            "billed_usd": "The same in dollars.",
        },
    ),
    "unbilled": (
        "What is on no invoice yet, by customer, month and kind: booked to months without an invoice, left over by "
        "the newest invoice, or not booked yet.",
        {
            **CUSTOMER,
            "period": "The month that it counts for; of a remainder, that of the invoice that left it.",
            "kind": "charge, adjustment, credit, correction, remainder; backlog and open for streams without a bill.",
            "stream_count": "How many streams, for backlog and open.",
            "usd_cents": "The exact amount in cents; NULL for backlog and open, whose cost is not final.",
            "usd": MONEY["usd"],
        },
    ),
    "drift": (
        "What reconciliations found: where Stripe has something else than we do.",
        {
            "reconciliation_id": "The reconciliation that found it.",
            "started_at": "When that began.",
            "finished_at": "When it was done; NULL while it runs, or when it died.",
            "finding": "The finding's number in it.",
            "found_at": "When it was found.",
            **CUSTOMER,
            "customer_id": "Whose invoice it is of; NULL when of none of ours.",
            "period": "The month of the invoice.",
            "invoice_id": "The invoice.",
            "number": "The invoice's number.",
            "stripe_invoice_id": "The invoice at Stripe.",
            "drift_class": "What kind of difference it is.",
            "finalized": "Whether Stripe's invoice is final.",
            "detail": "The difference in words.",
            "remedy": "What a repair does about it; report is left to a person.",
            "repaired_at": "When it was repaired.",
            "repair": "What was done, or why that failed.",
            "still_there": "Not repaired, and from the last reconciliation that compared its month.",
            "drift_cents": "What Stripe has too much, or below zero too little.",
            "drift_usd": "The same in dollars.",
        },
    ),
    "rates": (
        "All rates with the time in which they are in force, half-open. Of a kind's rates the most specific applies.",
        {
            "provider": "The provider.",
            "model": "The model.",
            "customer_id": "Whose own rate it is; NULL for everybody's.",
            "rate_card_id": "The rate card, as on charges.",
            "effective_from": "In force for streams that start from then on.",
            "effective_to": "Until the next card takes over; NULL for the newest.",
            "kind": "The usage kind that it prices.",
            "service_tier": "Only for this class of service; NULL for any.",
            "daily_start": "Only from this time of the UTC day; NULL for the whole day.",
            "daily_end": "Until this time.",
            "above_input_tokens": "For requests with more input tokens than this.",
            "usd_per_million": "USD per million units of the kind.",
            "provenance": "Where the price comes from.",
            "created_at": "When the card was added.",
        },
    ),
}

WORK = """
-- Workers tell that they live, and what they did since they told last. Those that are gone are summed up in one row.
CREATE TABLE worker_signs (
    worker_id  text PRIMARY KEY,
    host       text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    batches    bigint NOT NULL,
    streams    bigint NOT NULL,
    batch_time interval NOT NULL
);

-- When totals were rolled up last, written with it. One row.
CREATE TABLE totals_rolled_up (
    is_last      boolean PRIMARY KEY CHECK (is_last),
    rolled_up_at timestamptz NOT NULL
);

-- What is not at its end, whatever the month: little, beside all that ever was.
CREATE INDEX invoice_pushes_not_at_end ON invoice_pushes (period, state)
    WHERE state NOT IN ('final', 'settled', 'void', 'uncollectible', 'deferred');

GRANT SELECT, INSERT, UPDATE, DELETE ON worker_signs TO metering_service;
GRANT SELECT, INSERT, UPDATE ON totals_rolled_up TO metering_service;
"""

# A reader gets these views and nothing else: what tables hold beside them (Stripe's parameters and statements, who
# decided what, start data with tags) is nobody's reporting, and a table's shape is no promise.
PRIVILEGES = """
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM metering_reader;
REVOKE ALL ON SCHEMA public FROM metering_reader;
GRANT USAGE ON SCHEMA reporting TO metering_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO metering_reader;
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA reporting")
    for view in (DAILY_USAGE, CHARGES, INVOICE_LINES, UNBILLED, DRIFT, RATES):
        op.execute(view.replace(":", r"\:"))
    for view, (meaning, columns) in COMMENTS.items():
        comment("VIEW", view, meaning)
        for name, says in columns.items():
            comment("COLUMN", f"{view}.{name}", says)
    op.execute(PRIVILEGES)
    op.execute(WORK)


def comment(kind: str, name: str, says: str) -> None:
    quoted = says.replace("'", "''")
    op.execute(f"COMMENT ON {kind} reporting.{name} IS '{quoted}'".replace(":", r"\:"))
