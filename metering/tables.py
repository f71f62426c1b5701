"""Every table as SQLAlchemy Core sees it. The migrations make them; a test holds the two together."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Time,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, JSON, JSONB

from metering.domain.usage import COUNTERS

metadata = MetaData()


def _time(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, primary_key=primary_key)


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable, primary_key=primary_key)


customers = Table(
    "customers",
    metadata,
    _text("customer_id", primary_key=True),
    _text("name", nullable=True),
    _text("stripe_customer_id", nullable=True),
    Column("time_zone", Text, nullable=False, server_default=text("'UTC'")),
    _time("created_at"),
    UniqueConstraint("stripe_customer_id"),
)

keys = Table(
    "keys",
    metadata,
    _text("key_id", primary_key=True),
    Column("secret_hash", LargeBinary, nullable=False),
    _text("role"),
    _text("customer_id", nullable=True),
    _text("name"),
    _time("created_at"),
    _time("revoked_at", nullable=True),
)

rate_cards = Table(
    "rate_cards",
    metadata,
    _text("rate_card_id", primary_key=True),
    _text("provider"),
    _text("model"),
    _time("effective_from"),
    Column("names", JSONB, nullable=False),
    Column("position", Integer),
    _text("provenance"),
    _time("created_at"),
    Column("customer_id", Text, ForeignKey("customers.customer_id")),
    UniqueConstraint("customer_id", "provider", "model", "effective_from", postgresql_nulls_not_distinct=True),
)

rates = Table(
    "rates",
    metadata,
    Column("rate_card_id", Text, ForeignKey("rate_cards.rate_card_id"), primary_key=True),
    _text("kind", primary_key=True),
    Column("above_input_tokens", BigInteger, primary_key=True, server_default=text("0")),
    Column("usd_per_million", Numeric, nullable=False),
    _text("provenance"),
    Column("service_tier", Text, primary_key=True, server_default=""),
    Column("daily_start", Time, primary_key=True, server_default="00:00"),
    Column("daily_end", Time, primary_key=True, server_default="00:00"),
)

rate_providers = Table(
    "rate_providers",
    metadata,
    _text("provider", primary_key=True),
    Column("names", JSONB),
    Column("serves_models_of", ARRAY(Text), nullable=False),
    Column("position", Integer, nullable=False),
    _text("provenance"),
    _time("created_at", primary_key=True),
)

cancel_policies = Table(
    "cancel_policies",
    metadata,
    _text("provider", primary_key=True),
    Column("version", Integer, primary_key=True),
    _text("policy"),
    _time("effective_from"),
    _text("provenance"),
    _time("created_at"),
    UniqueConstraint("provider", "effective_from"),
)

markups = Table(
    "markups",
    metadata,
    Column("customer_id", Text, ForeignKey("customers.customer_id"), primary_key=True),
    _time("effective_from", primary_key=True),
    Column("percent", Numeric, nullable=False),
    _text("provenance"),
    _time("created_at"),
)

_MEDIA_TYPES = (
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/json",
    "application/x-ndjson",
)

journal = Table(
    "journal",
    metadata,
    _text("ingest_key_id", primary_key=True),
    Column("received_at", DateTime(timezone=True), primary_key=True),
    Column("journal_id", BigInteger, Identity(always=True), primary_key=True),
    Column("media_type", ENUM(*_MEDIA_TYPES, name="events_media_type"), nullable=False),
    Column("event_count", Integer, nullable=False),
    Column("rejected", ARRAY(Integer)),
    Column("body", LargeBinary, nullable=False),
    Column("stream_hashes", ARRAY(Integer)),
    Index("journal_by_arrival", "received_at", "journal_id"),
    postgresql_partition_by="RANGE (received_at)",
)

streams = Table(
    "streams",
    metadata,
    _text("customer_id", primary_key=True),
    _text("stream_id", primary_key=True),
    _time("started_at", nullable=True),
    Column("start_fingerprint", BigInteger),
    Column("start_data", JSON),
    Column("start_conflicting", Boolean, nullable=False, server_default=text("false")),
    Column("delivered_seq", BigInteger),
    Column("delivered_output_tokens", BigInteger),
    Column("delivered_reasoning_tokens", BigInteger),
    _time("last_event_at"),
    Column("end_rank", SmallInteger),
    _time("ended_at", nullable=True),
    Column("end_fingerprint", BigInteger),
    Column("end_data", JSON),
    Column("end_conflicting", Boolean, nullable=False, server_default=text("false")),
    _time("last_received_at"),
    _text("state"),
    _text("state_reason", nullable=True),
    _time("due_at", nullable=True),
    Column("revision", Integer),
    _time("first_received_at"),
    Index("streams_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index(
        "streams_backlog",
        "customer_id",
        "state",
        postgresql_where=text("state IN ('orphaned', 'unpriced', 'conflicting')"),
    ),
)

charges = Table(
    "charges",
    metadata,
    _text("customer_id", primary_key=True),
    _text("stream_id", primary_key=True),
    _text("charge_id"),
    _time("booked_at"),
    _text("period"),
    _text("outcome"),
    _text("provider"),
    _text("model"),
    _text("response_model", nullable=True),
    _text("api_key_id", nullable=True),
    _time("started_at"),
    _time("ended_at"),
    *(Column(counter, BigInteger) for counter in COUNTERS),
    _text("usage_source"),
    Column("input_unknown", Boolean, nullable=False),
    _text("cancel_policy"),
    _text("rate_card_id", nullable=True),
    _text("rated_model", nullable=True),
    Column("lines", JSON, nullable=False),
    Column("usd_cents", Numeric, nullable=False),
    _text("service_tier", nullable=True),
    Column("cancel_policy_version", Integer, nullable=False, server_default=text("0")),
    _text("model_rule", nullable=True),
    Column("markup_percent", Numeric, nullable=False, server_default=text("0")),
    _text("retry_of", nullable=True),
    Column("request_key", BigInteger),
    _text("resolution", nullable=True),
    CheckConstraint("rate_card_id IS NOT NULL OR usd_cents = 0"),
    Index("charges_by_end", "ended_at", "customer_id", "stream_id"),
    Index("charges_by_request", "request_key", "started_at", postgresql_where=text("request_key IS NOT NULL")),
)

interrupted_streams = Table(
    "interrupted_streams",
    metadata,
    _text("customer_id", primary_key=True),
    _text("stream_id", primary_key=True),
    Column("request_key", BigInteger, nullable=False),
    _time("ended_at"),
    Column("interrupted", Boolean, nullable=False),
    _time("retry_from"),
    _time("retry_until"),
    Column("settled", Boolean, nullable=False, server_default=text("false")),
    Column("barrier", BigInteger),
    Index("interrupted_streams_by_request", "request_key", "ended_at", postgresql_where=text("interrupted")),
    Index("interrupted_streams_unsettled", "customer_id", "stream_id", postgresql_where=text("NOT settled")),
)

resolutions = Table(
    "resolutions",
    metadata,
    _text("customer_id", primary_key=True),
    _text("stream_id", primary_key=True),
    _time("resolved_at", primary_key=True),
    _text("action"),
    _text("reason"),
    _text("resolved_by"),
    Column("start_fingerprint", BigInteger),
    Column("end_fingerprint", BigInteger),
)

adjustments = Table(
    "adjustments",
    metadata,
    _text("customer_id", primary_key=True),
    _text("adjustment_id", primary_key=True),
    _text("stream_id"),
    _text("charge_id"),
    Column("revision", Integer, nullable=False),
    _time("booked_at"),
    _text("period"),
    _text("reason"),
    Column("usd_cents", Numeric, nullable=False),
    _time("ended_at", nullable=True),
    Column("bill", JSONB),
    UniqueConstraint("customer_id", "stream_id", "revision"),
    ForeignKeyConstraint(["customer_id", "stream_id"], ["charges.customer_id", "charges.stream_id"]),
    Index("adjustments_by_end", "ended_at"),
)


manual_adjustments = Table(
    "manual_adjustments",
    metadata,
    Column("customer_id", Text, ForeignKey("customers.customer_id"), primary_key=True),
    _text("adjustment_id", primary_key=True),
    _text("stream_id", nullable=True),
    _text("kind"),
    Column("usd_cents", Numeric, nullable=False),
    _text("reason"),
    _text("booked_by"),
    _time("booked_at"),
    _text("period"),
    _time("filed_at"),
    *(_text(name) for name in ("provider", "model", "api_key_id", "outcome", "usage_source", "retry")),
    ForeignKeyConstraint(["customer_id", "stream_id"], ["charges.customer_id", "charges.stream_id"]),
    Index(
        "manual_adjustments_by_stream",
        "customer_id",
        "stream_id",
        postgresql_where=text("stream_id IS NOT NULL"),
    ),
    Index("manual_adjustments_by_filing", "filed_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _text("idempotency_key", primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    _text("result_id"),
    _time("created_at"),
)


def _sums() -> list[Column[object]]:
    return [
        Column("stream_count", BigInteger, nullable=False),
        *(Column(counter, Numeric, nullable=False) for counter in COUNTERS),
        Column("usd_cents", Numeric, nullable=False),
    ]


def _rollup(name: str, bucket: str, *dimensions: str, by_bucket: bool = True) -> Table:
    """Sums by a stretch of time and dimensions; the customer, where there is one, leads the key."""
    return Table(
        name,
        metadata,
        *(_text(dimension, primary_key=True) for dimension in dimensions if dimension == "customer_id"),
        Column(bucket, DateTime(timezone=True), primary_key=True),
        *(_text(dimension, primary_key=True) for dimension in dimensions if dimension != "customer_id"),
        *_sums(),
        *([Index(f"{name}_by_{bucket}", bucket)] if by_bucket else []),
    )


_DETAIL = ("provider", "model", "api_key_id", "outcome", "usage_source", "retry")

totals_pending = Table(
    "totals_pending", metadata, _text("customer_id"), _time("hour"), *(_text(name) for name in _DETAIL), *_sums()
)
totals_hourly = _rollup("totals_hourly", "hour", "customer_id", *_DETAIL)
totals_daily = _rollup("totals_daily", "day", "customer_id", *_DETAIL)
totals_daily_by_customer = _rollup("totals_daily_by_customer", "day", "customer_id")
totals_daily_by_model = _rollup(
    "totals_daily_by_model", "day", "provider", "model", "outcome", "usage_source", by_bucket=False
)
totals_monthly = _rollup("totals_monthly", "month", "customer_id", *_DETAIL)
totals_monthly_by_customer = _rollup(
    "totals_monthly_by_customer", "month", "customer_id", "outcome", "usage_source", "retry"
)
