"""Closed months, their invoices, and the runs that close them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from metering.db.tables.columns import metadata, moment_column, text_column

billing_periods = Table(
    "billing_periods",
    metadata,
    Column("customer_id", Text, ForeignKey("customers.customer_id"), primary_key=True),
    text_column("period", primary_key=True),
    text_column("time_zone"),
    moment_column("starts_at"),
    moment_column("ends_at"),
    moment_column("closed_at"),
    text_column("closed_by"),
    text_column("force_reason", nullable=True),
    Column("entry_count", BigInteger, nullable=False),
    Column("seal", LargeBinary, nullable=False),
)

invoices = Table(
    "invoices",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("invoice_id", primary_key=True),
    text_column("period"),
    text_column("number"),
    text_column("previous_invoice_id", nullable=True),
    Column("exact_usd_cents", Numeric, nullable=False),
    Column("carried_in_usd_cents", Numeric, nullable=False),
    Column("billed_cents", BigInteger, nullable=False),
    Column("remainder_usd_cents", Numeric, nullable=False),
    Column("minimum_cents", Integer, nullable=False),
    moment_column("created_at"),
    UniqueConstraint("customer_id", "period"),
    UniqueConstraint("customer_id", "invoice_id", "remainder_usd_cents"),
    UniqueConstraint("customer_id", "previous_invoice_id", postgresql_nulls_not_distinct=True),
    ForeignKeyConstraint(
        ["customer_id", "previous_invoice_id", "carried_in_usd_cents"],
        ["invoices.customer_id", "invoices.invoice_id", "invoices.remainder_usd_cents"],
    ),
    ForeignKeyConstraint(["customer_id", "period"], ["billing_periods.customer_id", "billing_periods.period"]),
    Index("invoices_by_period", "period", "customer_id"),
    Index("invoices_by_id", "invoice_id"),
    Index("invoices_by_number", "number"),
)

invoice_lines = Table(
    "invoice_lines",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("invoice_id", primary_key=True),
    text_column("line_key", primary_key=True),
    text_column("kind"),
    *(text_column(name, nullable=True) for name in ("provider", "model", "month", "adjustment_id", "reason")),
    moment_column("starts_at"),
    moment_column("ends_at"),
    Column("stream_count", BigInteger, nullable=False),
    Column("usage", JSON, nullable=False),
    Column("usd_cents", Numeric, nullable=False),
    Column("billed_cents", BigInteger, nullable=False),
    ForeignKeyConstraint(["customer_id", "invoice_id"], ["invoices.customer_id", "invoices.invoice_id"]),
)

invoice_numbers = Table(
    "invoice_numbers",
    metadata,
    text_column("period", primary_key=True),
    Column("last", Integer, nullable=False),
)

invoice_runs = Table(
    "invoice_runs",
    metadata,
    text_column("run_id", primary_key=True),
    text_column("period"),
    text_column("customer_id", nullable=True),
    text_column("force_reason", nullable=True),
    text_column("requested_by"),
    moment_column("as_of", nullable=True),
    moment_column("started_at"),
    moment_column("finished_at", nullable=True),
    Index("invoice_runs_open", "started_at", postgresql_where=text("finished_at IS NULL")),
)

invoice_run_refusals = Table(
    "invoice_run_refusals",
    metadata,
    text_column("customer_id", primary_key=True),
    Column("run_id", Text, ForeignKey("invoice_runs.run_id"), primary_key=True),
    text_column("result"),
    text_column("detail"),
    moment_column("refused_at"),
    Index("invoice_run_refusals_by_run", "run_id", "customer_id"),
)
