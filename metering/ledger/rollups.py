"""The tables of summed bookings: what each is by, and what it sums."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from metering.events.usage import COUNTERS

DIMENSIONS = ("customer_id", "provider", "model", "api_key_id", "outcome", "usage_source", "retry")
SUMS = ("stream_count", *COUNTERS, "usd_cents")


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of sums by `bucket`, a stretch of time, and `dimensions`."""

    table: str
    bucket: str
    dimensions: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Its primary key."""
        before = tuple(name for name in self.dimensions if name == "customer_id")
        return (*before, self.bucket, *(name for name in self.dimensions if name != "customer_id"))


# Of a bucket, from narrow to the one that has all: a question is answered by the first that knows its dimensions.
HOURLY = (
    Rollup("totals_hourly_by_model", "hour", ("provider", "model", "outcome", "usage_source")),
    Rollup("totals_hourly_by_customer", "hour", ("customer_id",)),
    Rollup("totals_hourly", "hour", DIMENSIONS),
)
DAILY = (
    Rollup("totals_daily_by_model", "day", ("provider", "model", "outcome", "usage_source")),
    Rollup("totals_daily_by_customer", "day", ("customer_id",)),
    Rollup("totals_daily", "day", DIMENSIONS),
)
MONTHLY = (
    Rollup("totals_monthly_by_customer", "month", ("customer_id", "outcome", "usage_source", "retry")),
    Rollup("totals_monthly", "month", DIMENSIONS),
)
ROLLUPS = (*HOURLY, *DAILY, *MONTHLY)
# What every other one can be summed from.
DETAILED = HOURLY[-1]


def narrowest(rollups: Sequence[Rollup], *, dimensions: Collection[str]) -> Rollup:
    """The first of these that knows all the dimensions; the last of each bucket knows any."""
    return next(rollup for rollup in rollups if set(dimensions) <= set(rollup.dimensions))
