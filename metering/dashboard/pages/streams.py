"""The page of streams: final ones by filters with their total, ones in progress, or any by its id."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.core.cursors import parse_time, time_part
from metering.core.money import ZERO, sum_cents
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.customers.queries.month_bounds import BillingMonths
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.links import NO_KEY, customer_cell, link, stream_cell, stream_sheet
from metering.dashboard.months import requested_month
from metering.dashboard.page_request import OPEN_PARAMETERS, Page, PageRequest
from metering.dashboard.ranges import RangeMenu, asks_for_days, range_menu
from metering.dashboard.stream_details import opened
from metering.dashboard.stream_filters import STATES, chips, form_fields, requested_customer, similar_names
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.events.events import Inlet, Outcome, UsageSource
from metering.ledger.queries.found_streams import (
    FinalFilter,
    FoundStream,
    OpenFilter,
    find_by_id,
    find_streams,
    list_under_way,
    sum_of_streams,
)
from metering.streams.bill import Flag
from metering.streams.settlement import accrue
from metering.streams.store.streams import StoredStream
from metering.streams.stream import billable_usage
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Range

_PAGE = 50

# The cost is near the left, so that narrow screens show it. The rest of the columns are in the file only.
_TOKENS = (
    Column("input_tokens", "Tokens in", Kind.COUNT),
    Column("cache_read_input_tokens", "→ cached", Kind.COUNT),
    Column("output_tokens", "→ out", Kind.COUNT),
)
_IN_FILES = frozenset({"stream_id", "provider", "usage_source", "api_key_id", "note"})
_FINAL_COLUMNS = (
    Column("ended_at", "Time", Kind.TIME),
    Column("customer_id", "Customer"),
    Column("stream_id", "Stream", Kind.CODE),
    Column("cost", "Cost", Kind.SMALL_MONEY),
    Column("provider", "Provider"),
    Column("model", "Model"),
    *_TOKENS,
    Column("outcome", "State", Kind.STATE),
    Column("duration", "Duration", Kind.DURATION),
    Column("usage_source", "Usage source"),
    Column("api_key_id", "API key"),
    Column("note", "Note"),
)
_OPEN_COLUMNS = (
    Column("customer_id", "Customer"),
    Column("stream_id", "Stream", Kind.CODE),
    Column("accrued", "Accrued", Kind.SMALL_MONEY),
    Column("provider", "Provider"),
    Column("model", "Model"),
    *_TOKENS,
    Column("state", "State", Kind.STATE),
    Column("duration", "Duration", Kind.DURATION),
    Column("usage_source", "Usage source"),
)


def streams(request: PageRequest) -> Page:
    """The page."""
    customer_id = requested_customer(request)
    searched = request.text("q")
    state = request.one_of("state", STATES) or "final"
    menu, total, calendar = None, None, ""
    limit = request.list_limit("streams", _PAGE)
    if searched is not None:
        found = find_by_id(request.connection, stream_id=searched, customer_id=customer_id, limit=limit + 1)
        table = _open_table(request, found, limit, f"No stream has the ID {searched!r}.")
    elif state == "open":
        wanted = OpenFilter(
            customer_id=customer_id,
            provider=request.text("provider"),
            model=request.text("model"),
            api_key_id=_api_key(request),
        )
        in_progress = list_under_way(request.connection, where=wanted, limit=limit + 1)
        table = _open_table(request, in_progress, limit, "No streams in progress.", times=Kind.AGO)
    else:
        chosen = _range(request, customer_id)
        where = _where(request, customer_id, chosen)
        total = None if request.for_file else _total(request, where)
        table = _final_table(request, where, None if total is None else int(total["streams"]))
        menu, calendar = chosen.menu, chosen.calendar
    return Page(
        template="streams.html.j2",
        title="Streams",
        section="streams",
        calendar=calendar,
        customer_id=customer_id,
        context={
            "table": _without_fixed(request, table),
            "total": total,
            "state": state,
            "searched": searched,
            "has_flag": request.text("flag") is not None,
            "menu": menu,
            "chips": chips(request, state, customer_id),
            "fields": form_fields(request, state),
            "similar": similar_names(request, customer_id),
            "opened": None if request.for_file or request.refreshes else opened(request),
            "closed": link("streams", **_all_but_open(request)),
        },
        tables=[table],
    )


def _all_but_open(request: PageRequest) -> Mapping[str, str]:
    """The query without the stream that is open beside the list; with the position in the list."""
    return {name: value for name, value in request.query.items() if name not in OPEN_PARAMETERS}


class _Chosen:
    """The range of the page, its menu, and a sentence on its calendar. `months` is set for billing months."""

    def __init__(self, range_: Range, months: BillingMonths | None, menu: RangeMenu, calendar: str) -> None:
        self.range_, self.months, self.menu, self.calendar = range_, months, menu, calendar


def _range(request: PageRequest, customer_id: str | None) -> _Chosen:
    """The range of the filters `from` and `to`; or days, by the calendar of the customer; or else a month."""
    start, end = request.time("from"), request.time("to")
    month = requested_month(request, customer_id=customer_id if asks_for_days(request) else None)
    if not (start or end):
        whole = None if month.picked else month.period
        menu = range_menu(request, shown=month.range_, zone=month.zone, month=whole, month_is_over=month.is_over)
        return _Chosen(month.range_, month.billing, menu, month.calendar)
    shown = (start or month.range_[0], end or month.range_[1])
    menu = range_menu(request, shown=shown, zone=UTC_ZONE, month=_month_of(shown, UTC_ZONE))
    by_month = "month" in request.query
    return _Chosen(shown, month.billing if by_month else None, menu, month.calendar if by_month else "")


def _month_of(shown: Range, zone: ZoneInfo) -> BillingPeriod | None:
    """The month that a range is, to the second."""
    period = BillingPeriod.containing(at=shown[0], time_zone=zone)
    bounds = (period.start(time_zone=zone), period.next.start(time_zone=zone))
    return period if bounds == shown else None


def _api_key(request: PageRequest) -> str | None:
    return request.text("api_key_id") or ("" if NO_KEY in request.query else None)


def _where(request: PageRequest, customer_id: str | None, chosen: _Chosen) -> FinalFilter:
    outcomes = request.text("outcome")
    wanted = outcomes.split(",") if outcomes else None
    for outcome in wanted or ():
        if outcome not in set(Outcome):
            raise InvalidFilterError(f"outcome: {outcome!r} is not one of {', '.join(Outcome)}")
    retry = request.one_of("retry", ("true", "false"))
    flag = request.one_of("flag", tuple(Flag))
    return FinalFilter(
        from_=chosen.range_[0],
        to=chosen.range_[1],
        months=chosen.months,
        customer_id=customer_id,
        provider=request.text("provider"),
        model=request.text("model"),
        outcomes=wanted,
        usage_source=request.one_of("usage_source", tuple(UsageSource)),
        api_key_id=_api_key(request),
        retry=retry == "true" if retry else None,
        flag=Flag(flag) if flag else None,
        inlet=request.one_of("inlet", tuple(Inlet)),
    )


def _without_fixed(request: PageRequest, table: Table) -> Table:
    """The table as the page has it: without the columns that a filter fixes, and those of the file only."""
    fixed = {name for name in ("customer_id", "model") if request.text(name)}
    if request.viewer.customer_id is not None:
        fixed.add("customer_id")
    outcome = request.text("outcome")
    if outcome and "," not in outcome:
        fixed.add("outcome")
    kept = [each for each in table.columns if each.key not in fixed | _IN_FILES]
    return replace(table, columns=kept)


def _final_table(request: PageRequest, where: FinalFilter, expected: int | None) -> Table:
    limit, position = request.page_limit("streams", _PAGE), request.position(3)
    before = (parse_time(position[0]), position[1], position[2]) if position else None
    found = find_streams(request.connection, where=where, before=before, limit=limit + 1, expected=expected)
    return Table(
        name="streams",
        title="Final streams, newest first",
        columns=_FINAL_COLUMNS,
        rows=[_final_row(each) for each in found[:limit]],
        empty="No final stream matches. Choose a longer range or remove filters.",
        more=_more(request, found[limit - 1]) if len(found) > limit else None,
    )


def _more(request: PageRequest, last: FoundStream) -> str:
    return request.next_page("streams", [time_part(last.ended_at), last.customer_id, last.stream_id])


def _final_row(each: FoundStream) -> Row:
    notes = [word for word, so in (("retry", each.retry), ("adjusted", each.adjusted)) if so]
    notes += [flag.replace("_", " ") for flag in each.flags]
    if each.inlet != Inlet.EVENTS:
        notes.append(f"by {each.inlet}".replace("_", " "))
    note = ", ".join(notes)
    stream = stream_cell(each.customer_id, each.stream_id)
    return {
        "ended_at": Cell(
            each.ended_at,
            stream.href,
            under=each.stream_id,
            sheet=stream_sheet(each.customer_id, each.stream_id),
        ),
        "customer_id": customer_cell(each.customer_id),
        "stream_id": stream,
        "provider": each.provider,
        "model": Cell(each.model, under=each.provider),
        "outcome": Cell(each.outcome, under=note or None),
        "usage_source": each.usage_source,
        "api_key_id": each.api_key_id,
        "duration": each.ended_at - each.started_at,
        "input_tokens": each.input_tokens,
        "cache_read_input_tokens": each.cache_read_input_tokens,
        "output_tokens": each.output_tokens,
        "note": note,
        "cost": each.usd_cents,
    }


def _total(request: PageRequest, where: FinalFilter) -> Mapping[str, int | Decimal]:
    """The total of all matching streams, on every page, and of credits and corrections in the range.

    The totals do not know flags: with a flag, the few streams that have it are summed, without credits.
    """
    if where.flag is not None:
        streams, usd_cents = sum_of_streams(request.connection, where=where)
        return {"streams": streams, "usd_cents": usd_cents}
    only = {Group(name): value for name, value in where.dimensions.items() if name != Group.CUSTOMER_ID}
    question = TotalsQuestion(
        from_=where.from_,
        to=where.to,
        group_by=[Group.OUTCOME],
        customer_id=where.customer_id,
        only=only,
        months=where.months,
        counters=False,
    )
    rows = read_totals(request.connection, question=question)
    counted = [row for row in rows if where.outcomes is None or row.group["outcome"] in where.outcomes]
    return {
        "streams": sum(row.stream_count for row in counted),
        "usd_cents": sum_cents(row.usd_cents for row in counted),
    }


def _open_table(
    request: PageRequest, found: Sequence[StoredStream], limit: int, empty: str, *, times: Kind = Kind.TIME
) -> Table:
    """Streams in any state, with the accrued amount of those that are not final."""
    return Table(
        name="streams",
        title="Streams",
        columns=[Column("last_event_at", "Last event", times), *_OPEN_COLUMNS],
        rows=[_open_row(request, each) for each in found[:limit]],
        empty=empty,
        whole=len(found) <= limit,
    )


def _open_row(request: PageRequest, each: StoredStream) -> Row:
    facts = each.facts
    billable = billable_usage(facts)
    prices = request.service.price_books.current(request.connection)
    bill = accrue(facts=facts, prices=prices) if each.revision is None else None
    start = facts.start.event if facts.start else None
    stream = stream_cell(facts.customer_id, facts.stream_id)
    return {
        "last_event_at": Cell(
            facts.last_event_at,
            stream.href,
            under=facts.stream_id,
            sheet=stream_sheet(facts.customer_id, facts.stream_id),
        ),
        "customer_id": customer_cell(facts.customer_id),
        "stream_id": stream,
        "state": request.stream_state(each.state),
        "provider": start.provider if start else None,
        "model": Cell(start.model, under=start.provider) if start else None,
        "usage_source": billable.source.value,
        "duration": max(facts.last_event_at - facts.start.at, timedelta(0)) if facts.start else None,
        "input_tokens": billable.usage.input_tokens,
        "cache_read_input_tokens": billable.usage.cache_read_input_tokens,
        "output_tokens": billable.usage.output_tokens,
        "accrued": (bill.usd_cents if bill else ZERO) if each.revision is None else None,
    }
