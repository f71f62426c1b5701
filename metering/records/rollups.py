"""The tables of summed bookings: what each is by, and what it sums."""

from dataclasses import dataclass

from metering.domain.usage import COUNTERS

DIMENSIONS = ("customer_id", "provider", "model", "api_key_id", "outcome", "usage_source")
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


HOURLY = Rollup("totals_hourly", "hour", DIMENSIONS)
# From the narrowest to the one that has all: a question is answered by the first that knows its dimensions.
DAILY = (
    Rollup("totals_daily_by_model", "day", ("provider", "model", "outcome", "usage_source")),
    Rollup("totals_daily_by_customer", "day", ("customer_id", "outcome", "usage_source")),
    Rollup("totals_daily", "day", DIMENSIONS),
)
