"""A month's summary, shared by the overview and the customer page: tiles, and the cost by day as a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from metering.core.money import EXACT, ZERO, sum_cents
from metering.dashboard.charts import Chart, stacked_by_day
from metering.dashboard.links import link
from metering.dashboard.month_totals import (
    accruals,
    before_by_day,
    cost,
    cost_where,
    previous_cost,
    totals_by,
    totals_by_day,
)
from metering.dashboard.months import Month, forecast
from metering.dashboard.page_request import PageRequest
from metering.dashboard.rankings import CREDITS
from metering.dashboard.values import counted, dollars_text, exact_money, money, percent, percent_of, share
from metering.events.events import Outcome, UsageSource
from metering.months.queries.invoices import invoiced
from metering.streams.retries import RETRY
from metering.totals.queries.question import Group, TotalRow

_STOPPED = (Outcome.CANCELLED, Outcome.ABANDONED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure with a title and details; `flag` marks a figure to look at.

    Of an amount, `exact` has all digits, and `dollars` is the same as plain text.
    """

    title: str
    value: str
    detail: str
    href: str | None = None
    exact: str | None = None
    dollars: str | None = None
    flag: str | None = None


def money_tile(
    title: str, usd_cents: Decimal, detail: str, *, href: str | None = None, flag: str | None = None
) -> Tile:
    """An amount as a tile."""
    return Tile(
        title=title,
        value=money(usd_cents),
        exact=exact_money(usd_cents),
        dollars=dollars_text(usd_cents),
        detail=detail,
        href=href,
        flag=flag,
    )


def cost_by_day(request: PageRequest, month: Month, *, customer_id: str | None, empty: str) -> Chart:
    """A month's cost by day of its calendar, stacked by model."""
    rows = totals_by_day(request, month, Group.MODEL, customer_id=customer_id)
    amounts = [
        (row.start, str(row.group["model"] or CREDITS), row.usd_cents) for row in rows if row.start is not None
    ]
    # A gateway whose clock is ahead ends streams tomorrow.
    days = sorted({*month.days, *(day for day, _, _ in amounts)})
    before = before_by_day(request, month, customer_id=customer_id)[: len(days)]
    return stacked_by_day(
        amounts,
        days=days,
        name="cost-by-day",
        title="Cost by day and model",
        by="model",
        labels=[month.label(day) for day in days],
        dates=[month.date(day) for day in days],
        hrefs=[month.streams(customer_id=customer_id, day=month.day(day)) for day in days],
        empty=empty,
        partial=len(month.days) - 1 if month.is_current else None,
        compared=(month.compared_short if month.picked else f"{month.before:%B}", before) if any(before) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What the month costs: the final amount, large, with its change; and what stands beside it.

    `parts` are the shares of a bar, in percent of the largest figure: final, in progress, still to come.
    """

    title: str
    final: Tile
    up: bool | None
    beside: Sequence[Tile]
    parts: Sequence[tuple[str, str]]


def headline(
    request: PageRequest, month: Month, *, customer_id: str | None, outcomes: Sequence[TotalRow], chart: Chart
) -> Headline:
    """The final, the accrued and the expected cost of a month; `outcomes` is it by outcome and usage source."""
    final, before = cost(outcomes), previous_cost(outcomes)
    open_streams = accruals(request, month, customer_id=customer_id)
    accrued = sum_cents(each.usd_cents for each in open_streams)
    so_far = EXACT.add(final, accrued)
    expected = forecast(month, by_day=chart.sums, spent=so_far)
    beside = [
        money_tile("In progress", accrued, f"{counted(len(open_streams), 'stream')} not final",
                   href=link("streams", state="open", customer_id=customer_id)),
    ]  # fmt: skip
    if expected is not None:
        beside.append(money_tile("Forecast", expected, "at month end, if costs go on as in the last week"))
    if not month.picked:
        beside.append(_invoiced(request, month, customer_id=customer_id))
    whole = max(so_far, expected or ZERO)
    change = f"{percent(final, before)} from {month.compared_title}: {money(before)}"
    return Headline(
        title="Month to date" if month.is_current and not month.picked else month.title,
        final=money_tile(
            "Final",
            final,
            change if month.compared else "",
            href=month.streams(customer_id=customer_id),
        ),
        up=None if final == before or month.compared is None else final > before,
        beside=beside,
        parts=_parts(final, accrued, whole) if whole > 0 else (),
    )


def _invoiced(request: PageRequest, month: Month, *, customer_id: str | None) -> Tile:
    bills = invoiced(request.connection, period=str(month.period), customer_id=customer_id)
    detail = counted(bills.count, "invoice") if bills.count else "after the end of the month"
    href = link("invoices", month=str(month.period), customer_id=customer_id)
    return money_tile("Invoiced", Decimal(bills.billed_cents), detail, href=href)


def _parts(final: Decimal, accrued: Decimal, whole: Decimal) -> Sequence[tuple[str, str]]:
    """Where each part of the bar begins, and how wide it is, in percent."""
    first, second = percent_of(final, whole), percent_of(accrued, whole)
    return ("0", first), (first, second)


def quality_tiles(
    request: PageRequest, month: Month, *, customer_id: str | None, outcomes: Sequence[TotalRow]
) -> list[Tile]:
    """How much of the month's cost is of cancelled or abandoned streams, estimated, or of retries."""
    final = cost(outcomes)
    stopped = [row for row in outcomes if row.group["outcome"] in _STOPPED]
    estimated, stopped_estimated = (
        cost_where(rows, Group.USAGE_SOURCE, UsageSource.ESTIMATE) for rows in (outcomes, stopped)
    )
    retries = cost(
        totals_by(request, month, [], customer_id=customer_id, compared=False, only={Group.RETRY: RETRY})
    )
    streams = partial(month.streams, customer_id=customer_id)
    return [
        money_tile("Cancelled and abandoned", cost(stopped),
                   f"{share(cost(stopped), final)} of cost; {share(stopped_estimated, cost(stopped))} of it"
                   " estimated",
                   href=streams(filters={"outcome": ",".join(_STOPPED)})),
        money_tile("Estimated usage", estimated, f"{share(estimated, final)} of cost, without a provider's count",
                   href=streams(filters={"usage_source": UsageSource.ESTIMATE.value})),
        money_tile("Retried requests", retries, f"{share(retries, final)} of cost, repeated after an early end",
                   href=streams(filters={"retry": "true"})),
    ]  # fmt: skip
