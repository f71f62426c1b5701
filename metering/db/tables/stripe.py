"""Pushes to Stripe, the writes they consist of, and what reconciliations found."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
)
from sqlalchemy import text as sql

from metering.db.tables.columns import metadata, moment_column, text_column

_PUSH_KEY = ["invoice_pushes.customer_id", "invoice_pushes.invoice_id"]

invoice_pushes = Table(
    "invoice_pushes",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("invoice_id", primary_key=True),
    text_column("period"),
    text_column("state"),
    Column("version", Integer, nullable=False, server_default=sql("1")),
    *(text_column(name, nullable=True) for name in ("stripe_invoice_id", "stripe_number", "stripe_url")),
    Column("attempts", Integer, nullable=False, server_default=sql("0")),
    Column("failures", Integer, nullable=False, server_default=sql("0")),
    text_column("problem", nullable=True),
    moment_column("due_at", nullable=True),
    moment_column("lease_until", nullable=True),
    Column("fence", BigInteger, nullable=False, server_default=sql("0")),
    moment_column("changed_at"),
    ForeignKeyConstraint(["customer_id", "invoice_id"], ["invoices.customer_id", "invoices.invoice_id"]),
    Index("invoice_pushes_due", "due_at", postgresql_where=sql("due_at IS NOT NULL")),
    Index("invoice_pushes_by_period", "period", "state"),
    Index(
        "invoice_pushes_not_at_end",
        "period",
        "state",
        postgresql_where=sql("state NOT IN ('final', 'settled', 'void', 'uncollectible', 'deferred')"),
    ),
    Index(
        "invoice_pushes_by_stripe_id",
        "stripe_invoice_id",
        postgresql_where=sql("stripe_invoice_id IS NOT NULL"),
    ),
)

stripe_operations = Table(
    "stripe_operations",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("invoice_id", primary_key=True),
    Column("version", Integer, primary_key=True),
    text_column("operation", primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("parameters", JSON, nullable=False),
    moment_column("sent_at"),
    *(
        text_column(name, nullable=True)
        for name in ("outcome", "stripe_object_id", "stripe_request_id", "problem")
    ),
    moment_column("answered_at", nullable=True),
    ForeignKeyConstraint(["customer_id", "invoice_id"], _PUSH_KEY),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    text_column("reconciliation_id", primary_key=True),
    text_column("period", nullable=True),
    Column("repair", Boolean, nullable=False),
    text_column("requested_by"),
    moment_column("started_at"),
    moment_column("finished_at", nullable=True),
    Column("compared", Integer),
    Column("ours_cents", BigInteger),
    Column("theirs_cents", BigInteger),
    text_column("problem", nullable=True),
)

drift_findings = Table(
    "drift_findings",
    metadata,
    Column("reconciliation_id", Text, ForeignKey("reconciliations.reconciliation_id"), primary_key=True),
    Column("finding", Integer, primary_key=True, autoincrement=False),
    *(text_column(name, nullable=True) for name in ("customer_id", "invoice_id", "period", "stripe_invoice_id")),
    text_column("drift_class"),
    Column("finalized", Boolean, nullable=False),
    Column("drift_cents", BigInteger, nullable=False),
    text_column("detail"),
    text_column("remedy"),
    moment_column("found_at"),
    moment_column("repaired_at", nullable=True),
    text_column("repair", nullable=True),
)

stripe_statements = Table(
    "stripe_statements",
    metadata,
    Column("reconciliation_id", Text, ForeignKey("reconciliations.reconciliation_id"), primary_key=True),
    text_column("stripe_invoice_id", primary_key=True),
    text_column("invoice_id"),
    Column("statement", JSON, nullable=False),
    Index("stripe_statements_by_invoice", "reconciliation_id", "invoice_id"),
)

stripe_events = Table(
    "stripe_events",
    metadata,
    text_column("stripe_event_id", primary_key=True),
    text_column("type"),
    text_column("stripe_object_id", nullable=True),
    moment_column("created_at"),
    moment_column("received_at"),
)
