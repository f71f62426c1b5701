"""Time zones that the database knows, ids that look alike, and the Stripe customer of each pushed invoice."""

from alembic import op

revision = "0014_money"
down_revision = "0013_prices_by_weekday"
branch_labels = None
depends_on = None

# `AT TIME ZONE` fails for a name that PostgreSQL does not know, and `AT TIME ZONE NULL` is NULL: one customer's zone
# must not fail a query about all customers.
TIME_ZONES = """
CREATE FUNCTION known_time_zone(name text) RETURNS text LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    PERFORM now() AT TIME ZONE name;
    RETURN name;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION known_time_zone IS 'The name of a time zone, or NULL when PostgreSQL does not know it.';

CREATE INDEX customers_by_time_zone ON customers (time_zone);

-- `time_zone`: the customer's time zone is unusable, so nobody can say when its month ends.
ALTER TABLE invoice_run_refusals DROP CONSTRAINT invoice_run_refusals_result_check;
ALTER TABLE invoice_run_refusals ADD CONSTRAINT invoice_run_refusals_result_check
    CHECK (result IN ('unsettled', 'failed', 'time_zone'));
"""

LIKENESS = """
CREATE FUNCTION likeness(id text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT lower(regexp_replace(normalize(id, NFKC), '\\s+', '', 'g'))
$$;
COMMENT ON FUNCTION likeness IS 'Equal for ids that differ only in case, Unicode form or spaces.';
CREATE INDEX customers_by_likeness ON customers (likeness(customer_id));
"""

PUSHES = """
-- `stripe_customer_id`: the Stripe customer that the invoice was written to, which its customer may no longer be
-- linked to. `relinked_to`: the later link for which a reconciliation has reported that.
ALTER TABLE invoice_pushes ADD COLUMN stripe_customer_id text, ADD COLUMN relinked_to text;

-- What was sent says who it was sent for; a later creation replaced the draft of an earlier one.
UPDATE invoice_pushes p SET stripe_customer_id = sent.stripe_customer_id FROM (
    SELECT DISTINCT ON (customer_id, invoice_id) customer_id, invoice_id,
           parameters ->> 'customer' AS stripe_customer_id
    FROM stripe_operations WHERE operation = 'create' AND (outcome = 'done' OR outcome IS NULL)
    ORDER BY customer_id, invoice_id, version DESC, generation DESC
) AS sent
WHERE p.customer_id = sent.customer_id AND p.invoice_id = sent.invoice_id
  AND (p.stripe_invoice_id IS NOT NULL OR p.state NOT IN ('pending', 'unlinked', 'deferred'));
"""

BACKLOG = "s.state IN ('orphaned', 'unpriced', 'conflicting', 'unmeasured', 'misdated')"
DOLLARS = "* 0.01"  # exact, unlike a division


def by_customer(amount: str, table: str) -> str:
    return f"(SELECT customer_id, sum({amount}) AS usd_cents FROM public.{table} GROUP BY customer_id)"


def streams(kind: str, condition: str) -> str:
    """As before, but the month is NULL while PostgreSQL does not know the customer's time zone."""
    return f"""
    SELECT s.customer_id, CASE WHEN z.known IS NOT NULL THEN greatest(
               to_char(coalesce(s.end_received_at, s.ended_at, s.last_event_at) AT TIME ZONE z.known,
                       'YYYY-MM'),
               to_char(to_date(nullif(c.closed_through, ''), 'YYYY-MM') + interval '1 month', 'YYYY-MM'))
               END AS period,
           '{kind}' AS kind, count(*) AS stream_count, NULL::numeric AS usd_cents
    FROM public.streams s JOIN public.customers c ON c.customer_id = s.customer_id
    JOIN zones z ON z.time_zone = c.time_zone
    WHERE {condition} GROUP BY 1, 2"""


UNBILLED = f"""
CREATE OR REPLACE VIEW reporting.unbilled AS
WITH zones AS MATERIALIZED (
    SELECT time_zone, public.known_time_zone(time_zone) AS known
    FROM (SELECT DISTINCT time_zone FROM public.customers) AS used
)
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
    UNION ALL {streams("backlog", BACKLOG)}
    UNION ALL {streams("open", "s.due_at IS NOT NULL AND s.state IN ('open', 'ended')")}
) AS u JOIN public.customers k ON k.customer_id = u.customer_id
"""


def upgrade() -> None:
    for statements in (TIME_ZONES, LIKENESS, PUSHES, UNBILLED):
        op.execute(statements.replace(":", r"\:"))
    says = (
        "The month that it counts for; for a remainder, the month of the invoice that left it; NULL for backlog and"
        " open while PostgreSQL does not know the time zone of the customer."
    )
    op.execute(f"COMMENT ON COLUMN reporting.unbilled.period IS '{says}'".replace(":", r"\:"))
