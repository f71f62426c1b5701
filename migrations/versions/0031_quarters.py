"""Sums by the quarter of an hour, for days of zones that are offset by half an hour."""

from alembic import op

revision = "0031_quarters"
down_revision = "0030_archives"
branch_labels = None
depends_on = None

# Sums of older code have no quarters: where a day begins within their hour, it is read from the bills.
OLDEST_CODE = "0017_compatible"

PENDING = "ALTER TABLE totals_pending ADD COLUMN quarter smallint CHECK (quarter BETWEEN 0 AND 3)"

# As `totals_hourly_by_model`, whose rows are a microsecond after the hour if their quarters are here.
QUARTERLY = """
CREATE TABLE totals_quarterly_by_model (LIKE totals_hourly_by_model INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    WITH (fillfactor = 80);
ALTER TABLE totals_quarterly_by_model RENAME COLUMN hour TO quarter;
ALTER TABLE totals_quarterly_by_model ADD PRIMARY KEY (quarter, provider, model, outcome, usage_source);
GRANT SELECT, INSERT, UPDATE ON totals_quarterly_by_model TO metering_service;
"""


def upgrade() -> None:
    for statements in (PENDING, QUARTERLY):
        op.execute(statements)
