"""The journal, and the joined facts of each stream."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, JSON

from metering.db.tables.columns import metadata, moment_column, text_column

_MEDIA_TYPES = (
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/json",
    "application/x-ndjson",
)

journal = Table(
    "journal",
    metadata,
    text_column("ingest_key_id", primary_key=True),
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
    text_column("customer_id", primary_key=True),
    text_column("stream_id", primary_key=True),
    moment_column("started_at", nullable=True),
    Column("start_fingerprint", BigInteger),
    Column("start_data", JSON),
    Column("start_conflicting", Boolean, nullable=False, server_default=text("false")),
    Column("delivered_seq", BigInteger),
    Column("delivered_output_tokens", BigInteger),
    Column("delivered_reasoning_tokens", BigInteger),
    moment_column("last_event_at"),
    Column("end_rank", SmallInteger),
    moment_column("ended_at", nullable=True),
    Column("end_fingerprint", BigInteger),
    Column("end_data", JSON),
    Column("end_conflicting", Boolean, nullable=False, server_default=text("false")),
    moment_column("last_received_at"),
    text_column("state"),
    text_column("state_reason", nullable=True),
    moment_column("due_at", nullable=True),
    Column("revision", Integer),
    moment_column("first_received_at"),
    Index("streams_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index(
        "streams_backlog",
        "customer_id",
        "state",
        postgresql_where=text("state IN ('orphaned', 'unpriced', 'conflicting')"),
    ),
)
