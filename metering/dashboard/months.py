"""The month, or the days, that a page shows: bounds, days and forecast, and what it is compared with.

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
from metering.customers.queries.month_bounds import BillingMonths, month_bounds
from metering.customers.queries.time_zones import time_zones_of
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.links import key_filter, link, range_filters, streams_of
from metering.dashboard.page_request import PageRequest
from metering.dashboard.ranges import (
    Compare,
    Days,
    RangeMenu,
    compared_so_far,
    range_menu,
    requested_span,
)
from metering.dashboard.values import counted
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

    With `picked`, it is those days in place of a month: `period` is the month in which they begin, and `compared`
    are as many days before, or a month earlier. `whole_before` is all of what it is compared with. `compared` is
    None if it is compared with nothing.

    `billing` and `compared_billing` are set where each customer has the bounds of its own month. Then the ranges
    are those of customers in UTC. `customer_id` is the one customer that the month is of. `is_by_utc` if UTC was
    chosen.
    """

    period: BillingPeriod
    zone: ZoneInfo
    range_: Range
    compared: Range | None
    whole_before: Range
    now: datetime
    customer_id: str | None = None
    is_by_utc: bool = False
    billing: BillingMonths | None = None
    compared_billing: BillingMonths | None = None
    picked: Days | None = None
    compare: Compare = Compare.BEFORE

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
        return f"Days and months are in {self.zone}."

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
        """The month or the days as text, e.g. `November 2026`."""
        return self.picked.title if self.picked else f"{self.period.start(time_zone=self.zone):%B %Y}"

    @property
    def name(self) -> str:
        """The same for names of files, e.g. `2026-11`."""
        return f"{self.picked.first}-{self.picked.last}" if self.picked else str(self.period)

    @property
    def compared_title(self) -> str:
        """The range that it is compared with, as text."""
        if self.picked is not None:
            return _COMPARED_DAYS[self.compare].format(days=counted(self.picked.count, "day"))
        return f"the same days of {self.before:%B}" if self.is_current else f"{self.before:%B %Y}"

    @property
    def compared_short(self) -> str:
        """The same as a column heading."""
        if self.picked is not None:
            return "A month earlier" if self.compare is Compare.MONTH else "Days before"
        return f"{self.before:%B}, same days" if self.is_current else f"{self.before:%B}"

    @property
    def before(self) -> datetime:
        """The start of the month before."""
        return self.period.previous.start(time_zone=self.zone)


_COMPARED_DAYS = {
    Compare.BEFORE: "the {days} before",
    Compare.MONTH: "the same days a month earlier",
    Compare.NONE: "",
}


def requested_month(request: PageRequest, *, customer_id: str | None = None) -> Month:
    """The month or the days that a request asks for, by default the current month: of a customer, or of all.

    Raises:
        InvalidPeriodError: the month is none.
        InvalidFilterError: the month or the days are none or have not begun, or a filter beside them is invalid.
    """
    customer_id = customer_id or request.viewer.customer_id
    by_utc = request.one_of("calendar", ("billing", _BY_UTC)) == _BY_UTC
    compare = Compare(request.one_of("compare", tuple(Compare)) or Compare.BEFORE)
    zone = UTC_ZONE if customer_id is None or by_utc else _zone_of(request, customer_id)
    span = requested_span(request, zone=zone)
    if isinstance(span, Days):
        return _of_days(request, span, zone, customer_id=customer_id, compare=compare)
    return _of_month(request, span, zone, customer_id=customer_id, by_utc=by_utc, compare=compare)


def _of_days(
    request: PageRequest, days: Days, zone: ZoneInfo, *, customer_id: str | None, compare: Compare
) -> Month:
    shown = days.bounds(zone)
    whole_before = (days.month_earlier if compare is Compare.MONTH else days.before).bounds(zone)
    return Month(
        period=BillingPeriod.containing(at=shown[0], time_zone=zone),
        zone=zone,
        range_=shown,
        compared=None if compare is Compare.NONE else compared_so_far(shown, whole_before, request.now),
        whole_before=whole_before,
        now=request.now,
        customer_id=customer_id,
        picked=days,
        compare=compare,
    )


def _of_month(
    request: PageRequest,
    period: BillingPeriod,
    zone: ZoneInfo,
    *,
    customer_id: str | None,
    by_utc: bool,
    compare: Compare,
) -> Month:
    with_bounds_of = None if by_utc else customer_id
    start, end = _bounds(request, period, zone, with_bounds_of)
    if start - _EARLIEST > request.now:
        raise InvalidFilterError(f"month: {period} has not begun")
    before, _ = _bounds(request, period.previous, zone, with_bounds_of)
    compared = compared_so_far((start, end), (before, start), request.now)
    # To the hour, as roll-ups are by hour; at most to the end of the month before.
    so_far = compared[1] - before if start <= request.now < end else None
    in_own_months = customer_id is None and not by_utc
    return Month(
        period=period,
        zone=zone,
        range_=(start, end),
        compared=None if compare is Compare.NONE else compared,
        whole_before=(before, start),
        now=request.now,
        customer_id=customer_id,
        is_by_utc=by_utc,
        billing=BillingMonths(period=period) if in_own_months else None,
        compared_billing=BillingMonths(period=period.previous, so_far=so_far)
        if in_own_months and compare is not Compare.NONE
        else None,
        compare=compare,
    )


def month_menu(request: PageRequest, month: Month) -> RangeMenu:
    """The range button of a page that shows a month or days, and compares them."""
    return range_menu(
        request,
        shown=month.range_,
        zone=month.zone,
        month=None if month.picked else month.period,
        month_is_over=month.is_over,
        compare=month.compare,
    )


def _zone_of(request: PageRequest, customer_id: str) -> ZoneInfo:
    return shown_zone(time_zones_of(request.connection, [customer_id]).get(customer_id, "UTC"))


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
    if month.picked or not month.is_current or not whole:
        return None
    left = month.range_[1] - month.now
    days_left = Decimal(left // timedelta(seconds=1)) / Decimal(86_400)
    mean = sum_cents(whole) / Decimal(len(whole))
    return EXACT.add(spent or ZERO, (mean * days_left).quantize(Decimal("0.01")))
