"""`metering totals`: what was used and what it costs, by customer, model and time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Connection

from metering.cli.known import customer_or_fail
from metering.cli.options import AsJson, Limit, OnlyCustomer, time_text, utc_or
from metering.cli.periods import month_or_none
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.customers.check_time_zone import check_time_zone
from metering.customers.queries.month_bounds import BillingMonths, month_bounds
from metering.db.engine import transaction
from metering.prices.store.book import PriceBooks
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import say, show
from metering.streams.accrue_streams import Accrual, accrue_streams
from metering.totals.queries.orders import Order
from metering.totals.queries.question import Group, TotalRow, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity

_COUNTED = ("input_tokens", "cache_read_input_tokens", "output_tokens", "reasoning_output_tokens")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC_ZONE)


def totals_command(
    period: Annotated[
        str | None, typer.Option(help="The month, e.g. 2026-10. Default: the current one, unless --from is given.")
    ] = None,
    from_: Annotated[datetime | None, typer.Option("--from", help="Start of a range, in UTC.")] = None,
    to: Annotated[datetime | None, typer.Option(help="End of the range, exclusive, in UTC. Default: now.")] = None,
    by: Annotated[
        list[Group] | None,
        typer.Option("--by", help="A row for each; repeatable. Default: customer_id, or model with --customer."),
    ] = None,
    granularity: Annotated[
        Granularity, typer.Option(help="Also a row for each of these. Days and hours are in UTC.")
    ] = Granularity.NONE,
    customer: OnlyCustomer = None,
    time_zone: Annotated[
        str | None, typer.Option(help="Sum every customer's month in this time zone, e.g. Europe/Berlin.")
    ] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Sum usage and cost by customer, model or another property: final amounts, and accrued ones beside them.

    A month is a billing month, as on the invoice: each customer's begins and ends in its own time zone. Final
    amounts are filed by the time the stream ended.
    """
    is_range = from_ is not None or to is not None
    if is_range and (period is not None or time_zone is not None):
        raise typer.BadParameter("give either --from and --to, or --period with --time-zone", param_hint="--from")
    now = utc_now()
    groups = list(dict.fromkeys(by or ([Group.MODEL] if customer else [Group.CUSTOMER_ID])))
    month = month_or_none(period) or BillingPeriod.containing(at=now, time_zone=UTC_ZONE)
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        if customer is not None:
            customer_or_fail(connection, customer)
        if is_range:
            begin, end = utc_or(from_, _BEGINNING), utc_or(to, now)
            if begin >= end:
                raise typer.BadParameter("must be later than --from", param_hint="--to")
            question = TotalsQuestion(from_=begin, to=end)
        elif time_zone is not None:
            question = _month_of_zone(connection, month, time_zone)
        else:
            months = BillingMonths(period=month)
            question = TotalsQuestion(from_=months.in_utc[0], to=months.in_utc[1], months=months)
        question = replace(
            question,
            granularity=granularity,
            group_by=groups,
            customer_id=customer,
            limit=limit,
            order=Order.COST if granularity is Granularity.NONE else Order.GROUP,
        )
        rows = read_totals(
            connection, question=question, accruals=_accruals(connection, service.price_books, question)
        )
    _show(rows, question, month, as_json=as_json)


def _month_of_zone(connection: Connection, month: BillingPeriod, time_zone: str) -> TotalsQuestion:
    if time_zone != "UTC":
        check_time_zone(connection, time_zone=time_zone)
    zone = shown_zone(time_zone)
    begin, end = month.start(time_zone=zone), month.next.start(time_zone=zone)
    return TotalsQuestion(from_=begin, to=end, time_zone=None if time_zone == "UTC" else zone)


def _accruals(connection: Connection, price_books: PriceBooks, question: TotalsQuestion) -> Sequence[Accrual]:
    """What streams that are not final would cost now, each within the same bounds as the final ones."""
    period = question.months.period if question.months else None
    begin, end = period.in_any_zone if period else (question.from_, question.to)
    found = accrue_streams(
        connection, price_books=price_books, customer_id=question.customer_id, from_=begin, to=end
    )
    if period is None:
        return found
    bounds = month_bounds(connection, {each.customer_id: period for each in found})
    return [each for each in found if bounds[each.customer_id][0] <= each.at < bounds[each.customer_id][1]]


def _show(rows: Sequence[TotalRow], question: TotalsQuestion, month: BillingPeriod, *, as_json: bool) -> None:
    zone = question.time_zone or UTC_ZONE
    span = f"{_text(question.from_, zone)} to {_text(question.to, zone)}, {zone.key}"
    what = f"billing month {month}, of each customer in its own time zone" if question.months else span
    by_time = ["start"] if question.granularity is not Granularity.NONE else []
    show(
        [_row(row) for row in rows],
        as_json=as_json,
        empty=f"nothing was used: {what}",
        important=(*by_time, *(group.value for group in question.group_by), "cost_usd_cents"),
    )
    if rows and not as_json:
        say(what)
    if len(rows) == question.limit:
        say(f"only the first {question.limit:,} rows are shown: --limit shows more")


def _text(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")


def _row(row: TotalRow) -> dict[str, Any]:
    return {
        **({"start": time_text(row.start)} if row.start else {}),
        **row.group,
        "stream_count": row.stream_count,
        **{name: _whole(row.counters[name]) for name in _COUNTED},
        "cost_usd_cents": cents_text(row.usd_cents),
        "accrued_usd_cents": cents_text(row.accrued_usd_cents) if row.accruing_stream_count else None,
        "accruing_stream_count": row.accruing_stream_count or None,
    }


def _whole(count: int | Decimal) -> int:
    return int(count)
