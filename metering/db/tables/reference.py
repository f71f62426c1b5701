"""Who pays, who may call, and the price book."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    Time,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from metering.db.tables.columns import metadata, moment_column, text_column

customers = Table(
    "customers",
    metadata,
    text_column("customer_id", primary_key=True),
    text_column("name", nullable=True),
    text_column("stripe_customer_id", nullable=True),
    Column("time_zone", Text, nullable=False, server_default=text("'UTC'")),
    moment_column("created_at"),
    Column("closed_through", Text, nullable=False, server_default=""),
    UniqueConstraint("stripe_customer_id"),
    Index("customers_by_close", "closed_through", "customer_id"),
)

keys = Table(
    "keys",
    metadata,
    text_column("key_id", primary_key=True),
    Column("secret_hash", LargeBinary, nullable=False),
    text_column("role"),
    text_column("customer_id", nullable=True),
    text_column("name"),
    moment_column("created_at"),
    moment_column("revoked_at", nullable=True),
)

dashboard_sessions = Table(
    "dashboard_sessions",
    metadata,
    Column("session_hash", LargeBinary, primary_key=True),
    Column("key_id", Text, ForeignKey("keys.key_id"), nullable=False),
    moment_column("created_at"),
    moment_column("expires_at"),
    Index("dashboard_sessions_by_expiry", "expires_at"),
)

rate_cards = Table(
    "rate_cards",
    metadata,
    text_column("rate_card_id", primary_key=True),
    text_column("provider"),
    text_column("model"),
    moment_column("effective_from"),
    Column("names", JSONB, nullable=False),
    Column("position", Integer),
    text_column("provenance"),
    moment_column("created_at"),
    Column("customer_id", Text, ForeignKey("customers.customer_id")),
    UniqueConstraint("customer_id", "provider", "model", "effective_from", postgresql_nulls_not_distinct=True),
)

rates = Table(
    "rates",
    metadata,
    Column("rate_card_id", Text, ForeignKey("rate_cards.rate_card_id"), primary_key=True),
    text_column("kind", primary_key=True),
    Column("above_input_tokens", BigInteger, primary_key=True, server_default=text("0")),
    Column("usd_per_million", Numeric, nullable=False),
    text_column("provenance"),
    Column("service_tier", Text, primary_key=True, server_default=""),
    Column("daily_start", Time, primary_key=True, server_default="00:00"),
    Column("daily_end", Time, primary_key=True, server_default="00:00"),
)

rate_providers = Table(
    "rate_providers",
    metadata,
    text_column("provider", primary_key=True),
    Column("names", JSONB),
    Column("serves_models_of", ARRAY(Text), nullable=False),
    Column("position", Integer, nullable=False),
    text_column("provenance"),
    moment_column("created_at", primary_key=True),
)

cancel_policies = Table(
    "cancel_policies",
    metadata,
    text_column("provider", primary_key=True),
    Column("version", Integer, primary_key=True),
    text_column("policy"),
    moment_column("effective_from"),
    text_column("provenance"),
    moment_column("created_at"),
    UniqueConstraint("provider", "effective_from"),
)

markups = Table(
    "markups",
    metadata,
    Column("customer_id", Text, ForeignKey("customers.customer_id"), primary_key=True),
    moment_column("effective_from", primary_key=True),
    Column("percent", Numeric, nullable=False),
    text_column("provenance"),
    moment_column("created_at"),
)
