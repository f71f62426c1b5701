"""`metering totals`: what was used and what it costs, by customer, model and time."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from metering.cli.options import AsJson, Limit, OnlyCustomer, time_text, utc_or
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.customers.check_time_zone import check_time_zone
from metering.customers.queries.customers import get_customer
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.server.bootstrap import Service, build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import say, show
from metering.streams.accrue_streams import accrue_streams
from metering.totals.queries.totals import Group, Order, TotalRow, TotalsQuestion, read_totals
from metering.totals.ranges import Granularity

_COUNTED = ("input_tokens", "cache_read_input_tokens", "output_tokens", "reasoning_output_tokens")


@dataclass(frozen=True, slots=True)
class _Range:
    """Half-open, with the zone whose days and months it is cut by."""

    begin: datetime
    end: datetime
    zone: ZoneInfo


def totals_command(
    period: Annotated[
        str | None, typer.Option(help="The month, e.g. 2026-10. Default: the current one, unless --from is given.")
    ] = None,
    from_: Annotated[datetime | None, typer.Option("--from", help="Begin of a range, in UTC.")] = None,
    to: Annotated[datetime | None, typer.Option(help="Its end, exclusive, in UTC. Default: now.")] = None,
    by: Annotated[
        list[Group] | None, typer.Option("--by", help="One row for each; repeatable. Default: customer_id.")
    ] = None,
    granularity: Annotated[Granularity, typer.Option(help="Also one row for each of these.")] = Granularity.NONE,
    customer: OnlyCustomer = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            help="Whose months and days, e.g. Europe/Berlin. Default: the customer's with --customer, or UTC."
        ),
    ] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Sum usage and cost by customer, model or another property: final amounts, and accrued ones beside them.

    Final amounts are filed by the time the stream ended. A customer's month is that of its invoice only in its own
    time zone.
    """
    if period is not None and (from_ is not None or to is not None):
        raise typer.BadParameter("give either --period or --from and --to", param_hint="--period")
    groups = list(dict.fromkeys(by or ([Group.MODEL] if customer else [Group.CUSTOMER_ID])))
    service = build_service(load_settings())
    within = _range(service, period, from_, to, customer=customer, time_zone=time_zone)
    with transaction(service.engine) as connection:
        accruals = accrue_streams(
            connection, price_books=service.price_books, customer_id=customer, from_=within.begin, to=within.end
        )
        question = TotalsQuestion(
            from_=within.begin,
            to=within.end,
            granularity=granularity,
            group_by=groups,
            customer_id=customer,
            limit=limit,
            time_zone=None if within.zone is UTC_ZONE else within.zone,
            order=Order.COST if granularity is Granularity.NONE else Order.GROUP,
        )
        rows = read_totals(connection, question=question, accruals=accruals)
    names = [group.value for group in groups]
    important = (*(["start"] if granularity is not Granularity.NONE else []), *names, "cost_usd_cents")
    show(
        [_row(row) for row in rows],
        as_json=as_json,
        empty=f"nothing was used from {_text(within.begin, within)} to {_text(within.end, within)}",
        important=important,
    )
    if rows and not as_json:
        say(f"{_text(within.begin, within)} to {_text(within.end, within)}, {within.zone.key}")
    if len(rows) == limit:
        say(f"only the first {limit:,} rows are shown: --limit shows more")


def _range(
    service: Service,
    period: str | None,
    from_: datetime | None,
    to: datetime | None,
    *,
    customer: str | None,
    time_zone: str | None,
) -> _Range:
    now = utc_now()
    with transaction(service.engine) as connection:
        zone = UTC_ZONE
        if time_zone is not None and time_zone != "UTC":
            check_time_zone(connection, time_zone=time_zone)
            zone = shown_zone(time_zone)
        if customer is not None:
            found = get_customer(connection, customer_id=customer, now=now)
            if found is None:
                raise UnknownCustomerError(f"there is no customer {customer!r}: see `metering customers list`")
            if time_zone is None and found.time_zone != "UTC":
                zone = shown_zone(found.time_zone)
    if from_ is not None or to is not None:
        begin, end = utc_or(from_, datetime(1970, 1, 1, tzinfo=UTC_ZONE)), utc_or(to, now)
        if begin >= end:
            raise typer.BadParameter("must be later than --from", param_hint="--to")
        return _Range(begin, end, zone)
    month = BillingPeriod.parse(period) if period else BillingPeriod.containing(at=now, time_zone=zone)
    return _Range(month.start(time_zone=zone), month.next.start(time_zone=zone), zone)


def _text(at: datetime, within: _Range) -> str:
    return at.astimezone(within.zone).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")


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
