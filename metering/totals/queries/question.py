"""What totals are asked for, and what is answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from metering.core.period import BillingPeriod
from metering.customers.queries.month_bounds import BillingMonths
from metering.events.usage import Quantity
from metering.totals.queries.orders import Order
from metering.totals.ranges import Granularity, Range


class Group(StrEnum):
    """Dimensions that totals can be grouped by."""

    CUSTOMER_ID = "customer_id"
    PROVIDER = "provider"
    MODEL = "model"
    API_KEY_ID = "api_key_id"
    OUTCOME = "outcome"
    USAGE_SOURCE = "usage_source"
    RETRY = "retry"
    INLET = "inlet"


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsQuestion:
    """The range, grouping and filters of totals. `from_` and `to` are half-open.

    `after` is the position of the last row of the previous page: its `position`, or with another order than GROUP
    what `position_in` says. Other orders begin with the largest, or with the smallest if `smallest_first`.

    Days and months are those of `time_zone`; hours are always UTC. `compared` is another range whose final amounts
    are returned beside each group, with `Granularity.NONE` only. `only` filters groups by one value each; an
    unknown value is "".

    With `months`, the range is that month in UTC or some of its days, and each customer counts by the bounds of
    its own month: days stay those of UTC, and the first and the last have the hours beyond them.
    `compared_months` is the same for the compared range. `invoiced` leaves only customers that have an invoice of
    that month. Without `counters`, only streams and amounts are summed, which takes a fifth of the time.
    """

    from_: datetime
    to: datetime
    granularity: Granularity = Granularity.NONE
    group_by: Sequence[Group] = ()
    customer_id: str | None = None
    only: Mapping[Group, str] = field(default_factory=dict)
    after: Sequence[str] | None = None
    limit: int = 1000
    time_zone: ZoneInfo | None = None
    compared: Range | None = None
    order: Order = Order.GROUP
    smallest_first: bool = False
    months: BillingMonths | None = None
    compared_months: BillingMonths | None = None
    invoiced: BillingPeriod | None = None
    counters: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalRow:
    """Totals of one group: counts and `usd_cents` of final streams, `accrued_usd_cents` of streams not final yet.

    `upstream_usd_cents` is what the upstreams say that final streams cost, where they say so. Without counters in
    the question, `counters` is empty and this is zero.

    `compared_…` are of final streams in the compared range, and zero without one.
    """

    start: datetime | None
    group: dict[str, str | bool | None]
    stream_count: int
    counters: dict[str, Quantity]
    usd_cents: Decimal
    upstream_usd_cents: Decimal
    accrued_usd_cents: Decimal
    accruing_stream_count: int
    compared_stream_count: int
    compared_usd_cents: Decimal
    position: tuple[str, ...]
