"""What is booked: charges, adjustments; and what goes with it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
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
from sqlalchemy.dialects.postgresql import JSON, JSONB

from metering.db.tables.columns import metadata, moment_column, text_column
from metering.events.usage import COUNTERS

charges = Table(
    "charges",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("stream_id", primary_key=True),
    text_column("charge_id"),
    moment_column("booked_at"),
    text_column("period"),
    text_column("outcome"),
    text_column("provider"),
    text_column("model"),
    text_column("response_model", nullable=True),
    text_column("api_key_id", nullable=True),
    moment_column("started_at"),
    moment_column("ended_at"),
    *(Column(counter, BigInteger) for counter in COUNTERS),
    text_column("usage_source"),
    Column("input_unknown", Boolean, nullable=False),
    text_column("cancel_policy"),
    text_column("rate_card_id", nullable=True),
    text_column("rated_model", nullable=True),
    Column("lines", JSON, nullable=False),
    Column("usd_cents", Numeric, nullable=False),
    text_column("service_tier", nullable=True),
    Column("cancel_policy_version", Integer, nullable=False, server_default=text("0")),
    text_column("model_rule", nullable=True),
    Column("markup_percent", Numeric, nullable=False, server_default=text("0")),
    text_column("retry_of", nullable=True),
    Column("request_key", BigInteger),
    text_column("resolution", nullable=True),
    CheckConstraint("rate_card_id IS NOT NULL OR usd_cents = 0"),
    Index("charges_by_end", "ended_at", "customer_id", "stream_id"),
    Index("charges_by_period", "customer_id", "period"),
    Index("charges_by_request", "request_key", "started_at", postgresql_where=text("request_key IS NOT NULL")),
)

interrupted_streams = Table(
    "interrupted_streams",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("stream_id", primary_key=True),
    Column("request_key", BigInteger, nullable=False),
    moment_column("ended_at"),
    Column("interrupted", Boolean, nullable=False),
    moment_column("retry_from"),
    moment_column("retry_until"),
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    Column("barrier", BigInteger),
    Index("interrupted_streams_by_request", "request_key", "ended_at", postgresql_where=text("interrupted")),
    Index("interrupted_streams_unsettled", "customer_id", "stream_id", postgresql_where=text("NOT settled")),
)

resolutions = Table(
    "resolutions",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("stream_id", primary_key=True),
    moment_column("resolved_at", primary_key=True),
    text_column("action"),
    text_column("reason"),
    text_column("resolved_by"),
    Column("start_fingerprint", BigInteger),
    Column("end_fingerprint", BigInteger),
)

adjustments = Table(
    "adjustments",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("adjustment_id", primary_key=True),
    text_column("stream_id"),
    text_column("charge_id"),
    Column("revision", Integer, nullable=False),
    moment_column("booked_at"),
    text_column("period"),
    text_column("reason"),
    Column("usd_cents", Numeric, nullable=False),
    moment_column("ended_at", nullable=True),
    Column("bill", JSONB),
    UniqueConstraint("customer_id", "stream_id", "revision"),
    ForeignKeyConstraint(["customer_id", "stream_id"], ["charges.customer_id", "charges.stream_id"]),
    Index("adjustments_by_end", "ended_at"),
    Index("adjustments_by_period", "customer_id", "period"),
)


manual_adjustments = Table(
    "manual_adjustments",
    metadata,
    Column("customer_id", Text, ForeignKey("customers.customer_id"), primary_key=True),
    text_column("adjustment_id", primary_key=True),
    text_column("stream_id", nullable=True),
    text_column("kind"),
    Column("usd_cents", Numeric, nullable=False),
    text_column("reason"),
    text_column("booked_by"),
    moment_column("booked_at"),
    text_column("period"),
    moment_column("filed_at"),
    *(text_column(name) for name in ("provider", "model", "api_key_id", "outcome", "usage_source", "retry")),
    ForeignKeyConstraint(["customer_id", "stream_id"], ["charges.customer_id", "charges.stream_id"]),
    Index(
        "manual_adjustments_by_stream",
        "customer_id",
        "stream_id",
        postgresql_where=text("stream_id IS NOT NULL"),
    ),
    Index("manual_adjustments_by_filing", "filed_at"),
    Index("manual_adjustments_by_period", "customer_id", "period"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    text_column("idempotency_key", primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    text_column("result_id"),
    moment_column("created_at"),
)
