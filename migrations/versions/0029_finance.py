"""Who an invoice is billed to, and the reporting views of budgets, holds and overruns."""

from alembic import op

revision = "0029_finance"
down_revision = "0028_citus"
branch_labels = None
depends_on = None

# Older code pushes invoices without keeping who they are billed to; the next reconciliation reads it.
OLDEST_CODE = "0017_compatible"

DOLLARS = "* 0.01"  # exact, unlike a division

BILL_TO = """
-- Name, address and tax ids, as the invoice at Stripe had them when it was last read; NULL before.
ALTER TABLE invoice_pushes ADD COLUMN bill_to json;
"""

# A window has a row once something was booked in it. The current one has a row in any case: it may have holds.
BUDGETS = f"""
CREATE VIEW reporting.budgets AS
WITH windows AS (
    SELECT b.customer_id, b.budget_id, w.starts_at, w.ends_at, w.spent_usd_cents,
           w.starts_at <= now() AND w.ends_at > now() AS is_current
    FROM public.budgets b
    JOIN public.budget_windows w ON w.customer_id = b.customer_id AND w.budget_id = b.budget_id
), rows AS (
    SELECT * FROM windows
    UNION ALL
    SELECT b.customer_id, b.budget_id, NULL::timestamptz AS starts_at, NULL::timestamptz AS ends_at,
           0 AS spent_usd_cents, true AS is_current
    FROM public.budgets b
    LEFT JOIN (SELECT customer_id, budget_id FROM windows WHERE is_current) AS w
         ON w.customer_id = b.customer_id AND w.budget_id = b.budget_id
    WHERE w.budget_id IS NULL
)
SELECT b.budget_id, nullif(b.customer_id, '') AS customer_id, c.name AS customer_name, b.scope, b.api_key_id,
       b.tag_name, b.tag_value, b.budget_window AS "window", b.action, b.ended_at, r.is_current,
       r.starts_at, r.ends_at, b.limit_usd_cents, b.limit_usd_cents {DOLLARS} AS limit_usd,
       r.spent_usd_cents, r.spent_usd_cents {DOLLARS} AS spent_usd,
       CASE WHEN r.is_current THEN b.held_usd_cents END AS held_usd_cents,
       CASE WHEN r.is_current THEN b.held_usd_cents {DOLLARS} END AS held_usd,
       CASE WHEN r.is_current THEN b.limit_usd_cents - r.spent_usd_cents - b.held_usd_cents END AS headroom_usd_cents,
       CASE WHEN r.is_current THEN (b.limit_usd_cents - r.spent_usd_cents - b.held_usd_cents) {DOLLARS} END
           AS headroom_usd
FROM rows r
JOIN public.budgets b ON b.customer_id = r.customer_id AND b.budget_id = r.budget_id
LEFT JOIN public.customers c ON c.customer_id = b.customer_id
"""
HOLDS = f"""
CREATE VIEW reporting.holds AS
SELECT h.customer_id, c.name AS customer_name, h.stream_id, h.mode, h.state, h.is_stopped, h.made_at, h.expires_at,
       h.closed_at, h.covers_output_tokens, array_to_string(h.budget_ids, ' ') AS budgets,
       h.held_usd_cents, h.held_usd_cents {DOLLARS} AS held_usd,
       h.settled_usd_cents, h.settled_usd_cents {DOLLARS} AS settled_usd
FROM public.holds h LEFT JOIN public.customers c ON c.customer_id = h.customer_id
"""
OVERRUNS = f"""
CREATE VIEW reporting.overruns AS
SELECT o.customer_id, c.name AS customer_name, o.stream_id, o.entry_id, o.booked_at, o.reason,
       o.held_usd_cents, o.held_usd_cents {DOLLARS} AS held_usd, o.usd_cents, o.usd_cents {DOLLARS} AS usd
FROM public.overruns o LEFT JOIN public.customers c ON c.customer_id = o.customer_id
"""

CUSTOMER = {"customer_id": "Who pays.", "customer_name": "The name of the customer, if it has one."}
COMMENTS = {
    "budgets": (
        "Budgets by window: headroom = limit - spent - held. Each window in which something was booked has a row,"
        " and the current one.",
        {
            **CUSTOMER,
            "customer_id": "The customer; NULL for a budget of the deployment.",
            "budget_id": "The budget.",
            "scope": "What it limits: customer, api_key, tag or deployment.",
            "api_key_id": "The API key that it limits.",
            "tag_name": "The tag that it limits.",
            "tag_value": "The value of the tag.",
            "window": "day, month, total or prepaid.",
            "action": "What happens to holds that do not fit: refuse, or warn.",
            "ended_at": "When it was ended; NULL while it is in force.",
            "is_current": "Whether the window contains the present.",
            "starts_at": "Start of the window; NULL for a current one in which nothing was booked.",
            "ends_at": "End of the window, exclusive.",
            "limit_usd_cents": "The present limit in exact cents; NULL where a balance of grants is the limit.",
            "limit_usd": "The same in dollars, exact.",
            "spent_usd_cents": "What was booked in the window, in exact cents.",
            "spent_usd": "The same in dollars, exact.",
            "held_usd_cents": "What is held for open streams, in exact cents; NULL for other windows than the current.",
            "held_usd": "The same in dollars, exact.",
            "headroom_usd_cents": "limit - spent - held in exact cents; NULL like limit and held.",
            "headroom_usd": "The same in dollars, exact.",
        },
    ),
    "holds": (
        "Money set aside for streams, with closed holds of the last days. Booking the charge of a stream settles its hold.",
        {
            **CUSTOMER,
            "stream_id": "The stream; unique by customer.",
            "mode": "worst_case or sliding.",
            "state": "open, settled, released or expired.",
            "is_stopped": "Whether the budget had no room for more output, so that the stream had to end.",
            "made_at": "When it was made.",
            "expires_at": "When it expires if its stream does not begin.",
            "closed_at": "When it was settled, released or expired; NULL while it is open.",
            "covers_output_tokens": "The output tokens that it covers.",
            "budgets": "The budgets that it counts against, with spaces between them.",
            "held_usd_cents": "What is held, or was until it closed, in exact cents.",
            "held_usd": "The same in dollars, exact.",
            "settled_usd_cents": "What was booked when it was settled, in exact cents.",
            "settled_usd": "The same in dollars, exact.",
        },
    ),
    "overruns": (
        "What was booked beyond a hold, or without one where a budget applies, with the reason.",
        {
            **CUSTOMER,
            "stream_id": "The stream.",
            "entry_id": "The charge or the adjustment.",
            "booked_at": "When it was booked.",
            "reason": "late_usage, counted_more, hold_expired, no_hold, failed_open or rerated.",
            "held_usd_cents": "What was held for the stream, in exact cents.",
            "held_usd": "The same in dollars, exact.",
            "usd_cents": "By how much the booking went beyond that, in exact cents.",
            "usd": "The same in dollars, exact.",
        },
    ),
}
PRIVILEGES = "GRANT SELECT ON reporting.budgets, reporting.holds, reporting.overruns TO metering_reader"


# Customers name the number that their invoice has at Stripe.
WITHOUT_LONG_LOCKS = (
    "SET lock_timeout = 0",
    "DROP INDEX CONCURRENTLY IF EXISTS invoice_pushes_by_stripe_number",
    "CREATE INDEX CONCURRENTLY invoice_pushes_by_stripe_number ON invoice_pushes (stripe_number)"
    " WHERE stripe_number IS NOT NULL",
    "SET lock_timeout = '1s'",
)


def upgrade() -> None:
    for statements in (BILL_TO, BUDGETS, HOLDS, OVERRUNS, PRIVILEGES):
        op.execute(statements)
    for view, (meaning, columns) in COMMENTS.items():
        op.execute(f"COMMENT ON VIEW reporting.{view} IS '{meaning}'".replace(":", r"\:"))
        for name, says in columns.items():
            op.execute(f"COMMENT ON COLUMN reporting.{view}.\"{name}\" IS '{says}'".replace(":", r"\:"))
    with op.get_context().autocommit_block():
        for statement in WITHOUT_LONG_LOCKS:
            op.execute(statement)
