"""The month that a page shows, in a time zone: its range, days and forecast, and what it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.core.money import EXACT, ZERO, sum_cents
from metering.core.period import BillingPeriod, day_bounds
from metering.core.time_zones import UTC_ZONE
from metering.customers.queries.month_bounds import month_bounds
from metering.dashboard.page_request import PageRequest
from metering.totals.ranges import Range

# A forecast uses the mean of at most this many whole days.
_FORECAST_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """`range_` is all of it; `compared` is the month before, up to the same hour while this month is running."""

    period: BillingPeriod
    zone: ZoneInfo
    range_: Range
    compared: Range
    now: datetime

    @property
    def is_current(self) -> bool:
        """Whether `now` is in it."""
        return self.range_[0] <= self.now < self.range_[1]

    @property
    def days(self) -> Sequence[datetime]:
        """The start of each of its days so far. The first may begin before it, after a change of the time zone."""
        first = self.range_[0].astimezone(self.zone).date()
        starts = [day_bounds(first, time_zone=self.zone)[0]]
        until = min(self.range_[1], self.now)
        while (following := self.day(starts[-1])[1]) < until:
            starts.append(following)
        return starts

    def day(self, start: datetime) -> Range:
        """The range of the day that begins at `start`."""
        return start, day_bounds(start.astimezone(self.zone).date(), time_zone=self.zone)[1]

    def label(self, day: datetime) -> str:
        """A day as charts show it, e.g. `1 Nov`."""
        return f"{day.astimezone(self.zone):%-d %b}"

    @property
    def title(self) -> str:
        """The month as text, e.g. `November 2026`."""
        return f"{self.period.start(time_zone=self.zone):%B %Y}"

    @property
    def compared_title(self) -> str:
        """The range that it is compared with, as text."""
        before = self._before
        return f"the same days of {before:%B}" if self.is_current else f"{before:%B %Y}"

    @property
    def compared_short(self) -> str:
        """The same as a column heading."""
        return f"{self._before:%B}, same days" if self.is_current else f"{self._before:%B}"

    @property
    def _before(self) -> datetime:
        return self.period.previous.start(time_zone=self.zone)


def requested_month(request: PageRequest, *, zone: ZoneInfo = UTC_ZONE, customer_id: str | None = None) -> Month:
    """The month in the filter `month`, or the current one; of a customer, with the bounds that its invoice has.

    Raises:
        InvalidPeriodError: the filter is not a month.
    """
    given = request.text("month")
    period = BillingPeriod.parse(given) if given else BillingPeriod.containing(at=request.now, time_zone=zone)
    start, end = _bounds(request, period, zone, customer_id)
    before, _ = _bounds(request, period.previous, zone, customer_id)
    compared = (before, start)
    if start <= request.now < end:
        # To the hour, as roll-ups are by hour; at most to the end of the month before.
        so_far = request.now.replace(minute=0, second=0, microsecond=0) - start
        compared = (before, min(before + max(so_far, timedelta(hours=1)), start))
    return Month(period=period, zone=zone, range_=(start, end), compared=compared, now=request.now)


def _bounds(request: PageRequest, period: BillingPeriod, zone: ZoneInfo, customer_id: str | None) -> Range:
    if customer_id is not None:
        return month_bounds(request.connection, {customer_id: period})[customer_id]
    start, end = (each.start(time_zone=zone).astimezone(UTC) for each in (period, period.next))
    return start, end


def forecast(month: Month, *, by_day: Sequence[Decimal], spent: Decimal) -> Decimal | None:
    """The month's cost in cents if each remaining day costs the mean of the last whole days; None without one.

    `by_day` has the cents of each day from the first on. `spent` includes today; the rest of today is forecast.
    """
    before_today = len(month.days) - 1
    whole = by_day[:before_today][-_FORECAST_DAYS:]
    if not month.is_current or not whole:
        return None
    left = month.range_[1] - month.now
    days_left = Decimal(left // timedelta(seconds=1)) / Decimal(86_400)
    mean = sum_cents(whole) / Decimal(len(whole))
    return EXACT.add(spent or ZERO, (mean * days_left).quantize(Decimal("0.01")))
