"""Where each table is on Citus: the one list, which `metering migrate` applies. Unused on plain PostgreSQL."""

from enum import StrEnum


class Placement(StrEnum):
    """How a table is spread over the nodes."""

    BY_CUSTOMER = "distributed by customer_id"
    BY_INGEST_KEY = "distributed by ingest_key_id"
    REFERENCE = "on every node"
    COORDINATOR = "on the coordinator"


# What a table is distributed by, and the table beside whose shards its own lie.
COLUMNS = {Placement.BY_CUSTOMER: "customer_id", Placement.BY_INGEST_KEY: "ingest_key_id"}

# What grows with usage, or is read together with it: the rows of a customer lie on one node.
_BY_CUSTOMER = (
    "streams",
    "resolutions",
    "interrupted_streams",
    "archived_streams",
    "charges",
    "adjustments",
    "manual_adjustments",
    "totals_pending",
    "totals_hourly",
    "totals_hourly_by_customer",
    "totals_daily",
    "totals_daily_by_customer",
    "totals_monthly",
    "totals_monthly_by_customer",
    "billing_periods",
    "invoices",
    "invoice_lines",
    "invoice_line_rates",
    "invoice_pushes",
    "stripe_operations",
    "markups",
    "budgets",
    "budget_versions",
    "budget_windows",
    "budget_postings",
    "holds",
    "overruns",
    "grants",
    "grant_entries",
    "grant_months",
    "prepaid_months",
    "top_ups",
    "grant_invoices",
    "grant_operations",
)
# Small tables that others refer to or are joined with, on every node. The Stripe customer of a customer is unique
# in the deployment, so customers cannot be distributed.
_REFERENCE = ("customers", "rate_cards", "rates")
# Small tables of the service itself, tables with triggers, and sums that no customer owns.
_COORDINATOR = (
    "alembic_version",
    "schema_compatibility",
    "journal_retention",
    "archives",
    "holds_kept",
    "keys",
    "dashboard_sessions",
    "idempotency_keys",
    "audit_log",
    "audit_log_head",
    "totals_hourly_by_model",
    "totals_quarterly_by_model",
    "totals_daily_by_model",
    "totals_daily_by_key",
    "totals_rolled_up",
    "invoice_numbers",
    "invoice_runs",
    "invoice_run_refusals",
    "reconciliations",
    "drift_findings",
    "stripe_snapshots",
    "stripe_events",
    "alerts",
    "alert_evaluations",
    "alert_occurrences",
    "exhausted_budgets",
    "hold_refusals",
    "webhook_endpoints",
    "webhook_secrets",
    "webhook_deliveries",
    "worker_heartbeats",
    "rate_providers",
    "cancel_policies",
    "upstream_prices",
    "rate_comparisons",
    "price_changes",
    "price_change_costs",
    "kept_rates",
)

# In the order in which they are distributed. The partitions of the journal follow it.
PLACEMENTS: tuple[tuple[str, Placement], ...] = (
    *((table, Placement.REFERENCE) for table in _REFERENCE),
    *((table, Placement.BY_CUSTOMER) for table in _BY_CUSTOMER),
    ("journal", Placement.BY_INGEST_KEY),
    *((table, Placement.COORDINATOR) for table in _COORDINATOR),
)
