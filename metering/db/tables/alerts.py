"""Alerts, when they occurred, and the webhooks that tell of it."""

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from metering.db.tables.columns import metadata, moment_column, text_column

alerts = Table(
    "alerts",
    metadata,
    text_column("alert_id", primary_key=True),
    text_column("kind"),
    text_column("scope"),
    Column("customer_id", Text, ForeignKey("customers.customer_id")),
    text_column("name"),
    Column("version", Integer, nullable=False),
    Column("thresholds", ARRAY(Numeric), nullable=False),
    Column("budget_usd_cents", Numeric),
    Column("floor_usd_cents", Numeric),
    Column("trailing_days", Integer),
    Column("enabled", Boolean, nullable=False),
    text_column("created_by"),
    moment_column("created_at"),
    moment_column("changed_at"),
    moment_column("deleted_at", nullable=True),
    Index("alerts_by_customer", "customer_id", "kind", postgresql_where=text("deleted_at IS NULL")),
)

alert_evaluations = Table(
    "alert_evaluations",
    metadata,
    text_column("kind", primary_key=True),
    moment_column("due_at"),
    moment_column("evaluated_at", nullable=True),
)

alert_occurrences = Table(
    "alert_occurrences",
    metadata,
    text_column("customer_id", primary_key=True),
    Column("alert_id", Text, ForeignKey("alerts.alert_id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    text_column("alert_window", primary_key=True),
    Column("threshold", Numeric, primary_key=True),
    text_column("occurrence_id"),
    text_column("message_id"),
    text_column("kind"),
    moment_column("occurred_at"),
    Column("data", JSON, nullable=False),
    UniqueConstraint("occurrence_id"),
    Index("alert_occurrences_by_time", "occurred_at", "occurrence_id"),
    Index("alert_occurrences_by_alert", "alert_id", "occurred_at"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    text_column("endpoint_id", primary_key=True),
    text_column("url"),
    text_column("description"),
    Column("types", ARRAY(Text)),
    text_column("created_by"),
    moment_column("created_at"),
    moment_column("changed_at"),
    moment_column("disabled_at", nullable=True),
    text_column("disabled_reason", nullable=True),
    moment_column("failing_since", nullable=True),
    text_column("last_problem", nullable=True),
    moment_column("delivered_at", nullable=True),
    moment_column("deleted_at", nullable=True),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("endpoint_id", Text, ForeignKey("webhook_endpoints.endpoint_id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    text_column("secret"),
    moment_column("created_at"),
    moment_column("ends_at", nullable=True),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("endpoint_id", Text, ForeignKey("webhook_endpoints.endpoint_id"), primary_key=True),
    text_column("message_id", primary_key=True),
    Column("replay", Integer, primary_key=True),
    text_column("delivery_id"),
    text_column("customer_id"),
    text_column("type"),
    text_column("body"),
    text_column("state"),
    Column("attempts", Integer, nullable=False),
    moment_column("due_at", nullable=True),
    moment_column("lease_until", nullable=True),
    Column("fence", BigInteger, nullable=False),
    Column("response_status", Integer),
    text_column("problem", nullable=True),
    moment_column("created_at"),
    moment_column("attempted_at", nullable=True),
    UniqueConstraint("delivery_id"),
    Index("webhook_deliveries_due", "endpoint_id", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("webhook_deliveries_by_time", "created_at", "delivery_id"),
    Index("webhook_deliveries_by_state", "state", "created_at", "delivery_id"),
)
