"""The rollup tables: the dimensions of each, and the sums it holds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from metering.events.usage import COUNTERS, USUAL_COUNTERS

DIMENSIONS = ("customer_id", "provider", "model", "api_key_id", "outcome", "usage_source", "retry", "inlet")
SUMS = ("stream_count", *COUNTERS, "usd_cents", "upstream_usd_cents")
# Sums that most rows lack; NULL stands for 0 in the tables.
SPARSE_SUMS = (*COUNTERS[USUAL_COUNTERS:], "upstream_usd_cents")
PLAIN_SUMS = tuple(name for name in SUMS if name not in SPARSE_SUMS)


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of sums by `bucket` (hour, day or month) and `dimensions`."""

    table: str
    bucket: str
    dimensions: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of its primary key: the customer first if it has one, then the bucket."""
        before = tuple(name for name in self.dimensions if name == "customer_id")
        return (*before, self.bucket, *(name for name in self.dimensions if name != "customer_id"))


# For each bucket, from few dimensions to all: a query reads the first rollup that has its dimensions.
HOURLY = (
    Rollup("totals_hourly_by_model", "hour", ("provider", "model", "outcome", "usage_source")),
    Rollup("totals_hourly_by_customer", "hour", ("customer_id",)),
    Rollup("totals_hourly", "hour", DIMENSIONS),
)
# An earlier release does not write these, so they are read only while they are known to be complete.
DAILY_BY_KEY = Rollup("totals_daily_by_key", "day", ("api_key_id", "inlet"))
DAILY = (
    Rollup("totals_daily_by_model", "day", ("provider", "model", "outcome", "usage_source")),
    Rollup("totals_daily_by_customer", "day", ("customer_id",)),
    DAILY_BY_KEY,
    Rollup("totals_daily", "day", DIMENSIONS),
)
MONTHLY = (
    Rollup("totals_monthly_by_customer", "month", ("customer_id", "outcome", "usage_source", "retry")),
    Rollup("totals_monthly", "month", DIMENSIONS),
)
ROLLUPS = (*HOURLY, *DAILY, *MONTHLY)
# All others can be summed from this one.
DETAILED = HOURLY[-1]
# Days of zones that are offset by half an hour begin at a quarter of an hour, so these sums are kept by quarters,
# too. Rows by the hour are then a microsecond after it: those at its start are of an earlier release.
QUARTERED = HOURLY[0]
QUARTERLY_BY_MODEL = Rollup("totals_quarterly_by_model", "quarter", QUARTERED.dimensions)
QUARTER_MINUTES = 15
START_OF_QUARTER = "hour + quarter * interval '15 minutes'"


def narrowest(rollups: Sequence[Rollup], *, dimensions: Collection[str]) -> Rollup:
    """The first of these rollups that has all the dimensions; the last one of each bucket has every dimension."""
    return next(rollup for rollup in rollups if set(dimensions) <= set(rollup.dimensions))
