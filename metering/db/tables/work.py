"""What workers tell of themselves: that they live, what they did, when totals were rolled up."""

from sqlalchemy import BigInteger, Boolean, Column, Interval, Table

from metering.db.tables.columns import metadata, moment_column, text_column

worker_signs = Table(
    "worker_signs",
    metadata,
    text_column("worker_id", primary_key=True),
    text_column("host"),
    moment_column("started_at"),
    moment_column("seen_at"),
    Column("batches", BigInteger, nullable=False),
    Column("streams", BigInteger, nullable=False),
    Column("batch_time", Interval, nullable=False),
)

totals_rolled_up = Table(
    "totals_rolled_up",
    metadata,
    Column("is_last", Boolean, primary_key=True),
    moment_column("rolled_up_at"),
)
