"""The month that a page shows: its bounds, days and forecast, and what it is compared with.

A month of all customers has the bounds of each one's invoice, so that it has one figure on every page. Its days
are those of UTC. A month by UTC is a choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.core.money import EXACT, ZERO, sum_cents
from metering.core.period import BillingPeriod, day_bounds
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.customers.queries.customers import get_customer
from metering.customers.queries.month_bounds import BillingMonths, month_bounds
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.links import key_filter, link, range_filters, streams_of
from metering.dashboard.page_request import PageRequest
from metering.totals.ranges import Range

# A forecast uses the mean of at most this many whole days.
_FORECAST_DAYS = 7
NO_FILTERS: Mapping[str, str | None] = {}
# The first customers' months begin this long before those of UTC.
_EARLIEST = timedelta(hours=14)
# The value of the filter `calendar` for a month by UTC.
_BY_UTC = "utc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """`range_` is all of it; `compared` is the month before, up to the same hour while this month is running.

    `billing` and `compared_billing` are set where each customer has the bounds of its own month. Then the ranges
    are those of customers in UTC. `customer_id` is the one customer that the month is of. `is_by_utc` if UTC was
    chosen.
    """

    period: BillingPeriod
    zone: ZoneInfo
    range_: Range
    compared: Range
    now: datetime
    customer_id: str | None = None
    is_by_utc: bool = False
    billing: BillingMonths | None = None
    compared_billing: BillingMonths | None = None

    @property
    def is_current(self) -> bool:
        """Whether `now` is in it."""
        return self.range_[0] <= self.now < self.range_[1]

    @property
    def is_over(self) -> bool:
        """Whether the next month has begun."""
        return self.range_[1] <= self.now

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
    def calendar(self) -> str:
        """A sentence on the bounds of the month and of its days."""
        if self.billing is not None:
            return (
                "Months are billing months: each customer's begins and ends in its time zone, as on its invoice."
                " Days are in UTC; the first and the last have the hours beyond them."
            )
        if self.is_by_utc:
            return "Months and days are in UTC, whatever the time zone of the invoices."
        return "" if str(self.zone) == "UTC" else f"Days and months are in {self.zone}."

    def date(self, day: datetime) -> str:
        """A day as tables and files have it, e.g. `2026-11-01`."""
        return f"{day.astimezone(self.zone):%Y-%m-%d}"

    def streams(
        self, *, customer_id: str | None, day: Range | None = None, filters: Mapping[str, str | None] = NO_FILTERS
    ) -> str:
        """The address of the month's final streams, or of those of one of its days; "" as a filter is unknown."""
        if self.billing is None:
            return streams_of(customer_id=customer_id, within=day or self.range_, **filters)
        range_ = {} if day is None else range_filters(*day)
        return link("streams", month=str(self.period), **range_, customer_id=customer_id, **key_filter(filters))

    @property
    def title(self) -> str:
        """The month as text, e.g. `November 2026`."""
        return f"{self.period.start(time_zone=self.zone):%B %Y}"

    @property
    def compared_title(self) -> str:
        """The range that it is compared with, as text."""
        before = self.before
        return f"the same days of {before:%B}" if self.is_current else f"{before:%B %Y}"

    @property
    def compared_short(self) -> str:
        """The same as a column heading."""
        return f"{self.before:%B}, same days" if self.is_current else f"{self.before:%B}"

    @property
    def before(self) -> datetime:
        """The start of the month before."""
        return self.period.previous.start(time_zone=self.zone)

    @property
    def whole_before(self) -> Range:
        """All of the month before."""
        return self.compared[0], self.range_[0]


def requested_month(request: PageRequest, *, customer_id: str | None = None) -> Month:
    """The month in the filter `month`, or the current one: of a customer, or of all customers.

    Raises:
        InvalidPeriodError: the filter is not a month.
        InvalidFilterError: the month has not begun, or the filter `calendar` is neither billing nor utc.
    """
    customer_id = customer_id or request.viewer.customer_id
    by_utc = request.one_of("calendar", ("billing", _BY_UTC)) == _BY_UTC
    zone = UTC_ZONE if customer_id is None or by_utc else _zone_of(request, customer_id)
    given = request.text("month")
    period = BillingPeriod.parse(given) if given else BillingPeriod.containing(at=request.now, time_zone=zone)
    with_bounds_of = None if by_utc else customer_id
    start, end = _bounds(request, period, zone, with_bounds_of)
    if start - _EARLIEST > request.now:
        raise InvalidFilterError(f"month: {period} has not begun")
    before, _ = _bounds(request, period.previous, zone, with_bounds_of)
    compared, so_far = (before, start), None
    if start <= request.now < end:
        # To the hour, as roll-ups are by hour; at most to the end of the month before.
        so_far = max(request.now.replace(minute=0, second=0, microsecond=0) - start, timedelta(hours=1))
        compared = (before, min(before + so_far, start))
    in_own_months = customer_id is None and not by_utc
    return Month(
        period=period,
        zone=zone,
        range_=(start, end),
        compared=compared,
        now=request.now,
        customer_id=customer_id,
        is_by_utc=by_utc,
        billing=BillingMonths(period=period) if in_own_months else None,
        compared_billing=BillingMonths(period=period.previous, so_far=so_far) if in_own_months else None,
    )


def _zone_of(request: PageRequest, customer_id: str) -> ZoneInfo:
    view = get_customer(request.connection, customer_id=customer_id, now=request.now)
    return shown_zone(view.time_zone) if view else UTC_ZONE


def _bounds(request: PageRequest, period: BillingPeriod, zone: ZoneInfo, customer_id: str | None) -> Range:
    found = month_bounds(request.connection, {customer_id: period}) if customer_id is not None else {}
    if customer_id is not None and customer_id in found:
        return found[customer_id]
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
