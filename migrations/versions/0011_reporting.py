"""Views for external reporting tools; readers may see only these."""

from alembic import op

from migrations.reporting_comments import COMMENTS

revision = "0011_reporting"
down_revision = "0010_server"
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
DOLLARS = "* 0.01"  # exact, unlike a division

# Rolled up sums without pending ones, and pending sums plus their rolled up ones. Two branches instead of a common
# GROUP BY, so that a month's million sums are read once and never sorted.
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

TEXTS = ("outcome", "provider", "model", "response_model", "rated_model", "model_rule", "service_tier", "api_key_id")

TERMS = ("usage_source", "input_unknown", "cancel_policy", "cancel_policy_version", "rate_card_id", "markup_percent")

CHARGES = f"""
CREATE VIEW reporting.charges AS
SELECT b.customer_id, k.name AS customer_name, b.stream_id, b.charge_id, b.charged_period AS period,
       b.charged_at AS booked_at, b.revision, b.started_at, b.ended_at, {", ".join(f"b.{name}" for name in TEXTS)},
       {", ".join(f"CASE WHEN NOT b.taken_back THEN b.{name} END AS {name}" for name in COUNTERS)},
       {", ".join(f"b.{name}" for name in TERMS)}, b.retry_of IS NOT NULL AS retry, b.retry_of, b.resolution,
       b.lines::jsonb AS lines, b.charged_usd_cents, b.bill_usd_cents - b.charged_usd_cents AS adjusted_usd_cents,
       coalesce(m.usd_cents, 0) AS by_hand_usd_cents, b.bill_usd_cents + coalesce(m.usd_cents, 0) AS usd_cents,
       (b.bill_usd_cents + coalesce(m.usd_cents, 0)) {DOLLARS} AS usd
FROM public.newest_bills b
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

# Every month up to the last closed one has its invoice, and the database refuses entries to it. So the amount that is
# booked and not invoiced is all totals minus all invoices, without reading a charge. Adjustments, manual adjustments
# and (unless closing is long overdue) charges after the first open month are few, so they are read. The rest are the
# charges of the first open month.
def by_customer(amount: str, table: str) -> str:
    return f"(SELECT customer_id, sum({amount}) AS usd_cents FROM public.{table} GROUP BY customer_id)"


def streams(kind: str, condition: str) -> str:
    """Unbilled streams by customer and month: the month of their last event, or the first open one if that is later."""
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
    CROSS JOIN LATERAL (
        SELECT min(e.period) AS period FROM public.entries e
        WHERE e.customer_id = c.customer_id AND e.period > closed
    ) AS first_open
    CROSS JOIN LATERAL (
        WITH beside AS (
            SELECT e.period, e.kind, sum(e.usd_cents) AS usd_cents FROM public.entries e
            WHERE e.customer_id = c.customer_id AND e.period > c.closed
              AND (e.kind <> 'charge' OR e.period > first_open.period)
            GROUP BY 1, 2
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

# Readers get no tables: these hold more than reporting needs (Stripe's parameters, who decided what, tags), and can
# change.
PRIVILEGES = """
GRANT USAGE ON SCHEMA reporting TO metering_reader;
GRANT SELECT ON reporting.daily_usage, reporting.charges, reporting.invoice_lines, reporting.unbilled,
    reporting.drift, reporting.rates TO metering_reader;
"""

# An administrator may have created it for a login that may not.
SCHEMA = """
DO $$ BEGIN
    IF to_regnamespace('reporting') IS NULL THEN CREATE SCHEMA reporting; END IF;
END $$
"""


def upgrade() -> None:
    op.execute(SCHEMA)
    for view in (DAILY_USAGE, CHARGES, INVOICE_LINES, UNBILLED, DRIFT, RATES):
        op.execute(view.replace(":", r"\:"))
    for view, (meaning, columns) in COMMENTS.items():
        comment("VIEW", view, meaning)
        for name, says in columns.items():
            comment("COLUMN", f"{view}.{name}", says)
    op.execute(PRIVILEGES)


def comment(kind: str, name: str, says: str) -> None:
    quoted = says.replace("'", "''")
    op.execute(f"COMMENT ON {kind} reporting.{name} IS '{quoted}'".replace(":", r"\:"))
