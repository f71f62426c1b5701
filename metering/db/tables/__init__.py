"""Every table as SQLAlchemy Core sees it. The migrations make them; a test holds the two together."""

from metering.db.tables.alerts import (
    alert_evaluations,
    alert_occurrences,
    alerts,
    webhook_deliveries,
    webhook_endpoints,
    webhook_secrets,
)
from metering.db.tables.columns import metadata
from metering.db.tables.invoices import (
    billing_periods,
    invoice_lines,
    invoice_numbers,
    invoice_run_refusals,
    invoice_runs,
    invoices,
)
from metering.db.tables.ledger import (
    adjustments,
    charges,
    idempotency_keys,
    interrupted_streams,
    manual_adjustments,
    resolutions,
)
from metering.db.tables.reference import (
    cancel_policies,
    customers,
    dashboard_sessions,
    keys,
    markups,
    rate_cards,
    rate_providers,
    rates,
)
from metering.db.tables.streams import journal, streams
from metering.db.tables.stripe import (
    drift_findings,
    invoice_pushes,
    reconciliations,
    stripe_events,
    stripe_operations,
    stripe_statements,
)
from metering.db.tables.totals import (
    totals_daily,
    totals_daily_by_customer,
    totals_daily_by_model,
    totals_hourly,
    totals_monthly,
    totals_monthly_by_customer,
    totals_pending,
)
from metering.db.tables.work import totals_rolled_up, worker_signs

__all__ = [
    "adjustments",
    "alert_evaluations",
    "alert_occurrences",
    "alerts",
    "billing_periods",
    "cancel_policies",
    "charges",
    "customers",
    "dashboard_sessions",
    "drift_findings",
    "idempotency_keys",
    "interrupted_streams",
    "invoice_lines",
    "invoice_numbers",
    "invoice_pushes",
    "invoice_run_refusals",
    "invoice_runs",
    "invoices",
    "journal",
    "keys",
    "manual_adjustments",
    "markups",
    "metadata",
    "rate_cards",
    "rate_providers",
    "rates",
    "reconciliations",
    "resolutions",
    "streams",
    "stripe_events",
    "stripe_operations",
    "stripe_statements",
    "totals_daily",
    "totals_daily_by_customer",
    "totals_daily_by_model",
    "totals_hourly",
    "totals_monthly",
    "totals_monthly_by_customer",
    "totals_pending",
    "totals_rolled_up",
    "webhook_deliveries",
    "webhook_endpoints",
    "webhook_secrets",
    "worker_signs",
]
