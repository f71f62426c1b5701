"""Sums of what is booked."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Numeric, Table

from metering.db.tables.columns import metadata, moment_column, text_column
from metering.events.usage import COUNTERS


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
        *(text_column(dimension, primary_key=True) for dimension in dimensions if dimension == "customer_id"),
        Column(bucket, DateTime(timezone=True), primary_key=True),
        *(text_column(dimension, primary_key=True) for dimension in dimensions if dimension != "customer_id"),
        *_sums(),
        *([Index(f"{name}_by_{bucket}", bucket)] if by_bucket else []),
    )


_DETAIL = ("provider", "model", "api_key_id", "outcome", "usage_source", "retry")

totals_pending = Table(
    "totals_pending",
    metadata,
    text_column("customer_id"),
    moment_column("hour"),
    *(text_column(name) for name in _DETAIL),
    *_sums(),
)
totals_hourly = _rollup("totals_hourly", "hour", "customer_id", *_DETAIL)
totals_hourly_by_customer = _rollup("totals_hourly_by_customer", "hour", "customer_id")
totals_hourly_by_model = _rollup(
    "totals_hourly_by_model", "hour", "provider", "model", "outcome", "usage_source", by_bucket=False
)
totals_daily = _rollup("totals_daily", "day", "customer_id", *_DETAIL)
totals_daily_by_customer = _rollup("totals_daily_by_customer", "day", "customer_id")
totals_daily_by_model = _rollup(
    "totals_daily_by_model", "day", "provider", "model", "outcome", "usage_source", by_bucket=False
)
totals_monthly = _rollup("totals_monthly", "month", "customer_id", *_DETAIL)
totals_monthly_by_customer = _rollup(
    "totals_monthly_by_customer", "month", "customer_id", "outcome", "usage_source", "retry"
)
