"""The streams page: search by id, final streams by filters, and streams in progress."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from metering.core.cursors import parse_time, time_part
from metering.core.money import ZERO, sum_cents
from metering.customers.queries.month_bounds import BillingMonths
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.links import NO_KEY, customer_cell, stream_cell
from metering.dashboard.months import requested_month
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Column, Kind, Row, Table
from metering.events.events import Inlet, Outcome, UsageSource
from metering.ledger.queries.found_streams import (
    FinalFilter,
    FoundStream,
    find_by_id,
    find_streams,
    list_under_way,
    sum_of_streams,
)
from metering.streams.bill import Flag
from metering.streams.settlement import accrue
from metering.streams.store.streams import StoredStream
from metering.streams.stream import billable_usage
from metering.totals.queries.totals import Group, TotalsQuestion, read_totals
from metering.totals.ranges import Range

_PAGE = 50
_STATES = ("final", "open")
_FILTERS = ("customer_id", "provider", "model", "outcome", "usage_source", "api_key_id", "retry", "flag", "inlet")

_WHO = (
    Column("ended_at", "Ended", Kind.TIME),
    Column("customer_id", "Customer"),
    Column("stream_id", "Stream", Kind.CODE),
)
_WHAT = (
    Column("provider", "Provider"),
    Column("model", "Model"),
    Column("outcome", "Outcome", Kind.STATE),
    Column("usage_source", "Usage source"),
    Column("api_key_id", "API key"),
    Column("input_tokens", "Input", Kind.COUNT),
    Column("output_tokens", "Output", Kind.COUNT),
)
# The cost is near the left, so that narrow screens show it.
_FINAL_COLUMNS = (*_WHO, Column("cost", "Cost", Kind.MONEY), *_WHAT, Column("note", "Note"))
_OPEN_COLUMNS = (
    Column("last_event_at", "Last event", Kind.TIME),
    *_WHO[1:],
    Column("accrued", "Accrued", Kind.MONEY),
    Column("state", "State", Kind.STATE),
    *(column for column in _WHAT if column.key not in ("outcome", "api_key_id")),
)


def streams(request: PageRequest) -> Page:
    """The page."""
    customer_id = request.customer(request.text("customer_id"))
    searched = request.text("q")
    state = request.one_of("state", _STATES) or "final"
    chosen = {name: request.query.get(name, "") for name in _FILTERS}
    if searched is not None:
        limit = request.list_limit("streams", _PAGE)
        found = find_by_id(request.connection, stream_id=searched, customer_id=customer_id, limit=limit + 1)
        table, total = _stream_table(request, found, limit, f"No stream has the ID {searched!r}."), None
    elif state == "open":
        limit = request.list_limit("streams", _PAGE)
        in_progress = list_under_way(request.connection, customer_id=customer_id, limit=limit + 1)
        table, total = _stream_table(request, in_progress, limit, "No streams in progress."), None
    else:
        where = _where(request, customer_id)
        table, total = _final_table(request, where), None if request.for_file else _total(request, where)
    return Page(
        template="streams.html.j2",
        title="Streams",
        section="streams",
        context={
            "table": table,
            "total": total,
            "state": state,
            "searched": searched,
            "chosen": chosen,
            "outcomes": list(Outcome),
            "sources": list(UsageSource),
            "flags": list(Flag),
            "inlets": list(Inlet),
            "range": _range(request)[0] if state == "final" and searched is None else None,
        },
        tables=[table],
    )


def _range(request: PageRequest) -> tuple[Range, BillingMonths | None]:
    """The range of the filters `from` and `to`, by default the month; and the month, if it is in the filters."""
    start, end = request.time("from"), request.time("to")
    month = requested_month(request)
    by_month = "month" in request.query or not (start or end)
    return (start or month.range_[0], end or month.range_[1]), month.billing if by_month else None


def _where(request: PageRequest, customer_id: str | None) -> FinalFilter:
    outcomes = request.text("outcome")
    wanted = outcomes.split(",") if outcomes else None
    for outcome in wanted or ():
        if outcome not in set(Outcome):
            raise InvalidFilterError(f"outcome: {outcome!r} is not one of {', '.join(Outcome)}")
    retry = request.one_of("retry", ("true", "false"))
    flag = request.one_of("flag", tuple(Flag))
    (start, end), months = _range(request)
    return FinalFilter(
        from_=start,
        to=end,
        months=months,
        customer_id=customer_id,
        provider=request.text("provider"),
        model=request.text("model"),
        outcomes=wanted,
        usage_source=request.one_of("usage_source", tuple(UsageSource)),
        api_key_id=request.text("api_key_id") or ("" if NO_KEY in request.query else None),
        retry=retry == "true" if retry else None,
        flag=Flag(flag) if flag else None,
        inlet=request.one_of("inlet", tuple(Inlet)),
    )


def _final_table(request: PageRequest, where: FinalFilter) -> Table:
    limit, position = request.page_limit("streams", _PAGE), request.position(3)
    before = (parse_time(position[0]), position[1], position[2]) if position else None
    found = find_streams(request.connection, where=where, before=before, limit=limit + 1)
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
    return {
        "ended_at": each.ended_at,
        "customer_id": customer_cell(each.customer_id),
        "stream_id": stream_cell(each.customer_id, each.stream_id),
        "provider": each.provider,
        "model": each.model,
        "outcome": each.outcome,
        "usage_source": each.usage_source,
        "api_key_id": each.api_key_id,
        "input_tokens": each.input_tokens,
        "output_tokens": each.output_tokens,
        "note": ", ".join(notes),
        "cost": each.usd_cents,
    }


def _total(request: PageRequest, where: FinalFilter) -> Mapping[str, int | Decimal]:
    """The total of all matching streams, on every page, and of credits and corrections in the range.

    The totals do not know flags: with a flag, the few streams that have it are summed, without credits.
    """
    if where.flag is not None:
        streams, usd_cents = sum_of_streams(request.connection, where=where)
        return {"streams": streams, "usd_cents": usd_cents}
    only: dict[Group, str] = {
        group: value
        for group in (Group.PROVIDER, Group.MODEL, Group.USAGE_SOURCE, Group.API_KEY_ID, Group.INLET)
        if (value := getattr(where, group.value)) is not None
    }
    if where.retry is not None:
        only[Group.RETRY] = str(where.retry).lower()
    question = TotalsQuestion(
        from_=where.from_,
        to=where.to,
        group_by=[Group.OUTCOME],
        customer_id=where.customer_id,
        only=only,
        months=where.months,
    )
    rows = read_totals(request.connection, question=question)
    counted = [row for row in rows if where.outcomes is None or row.group["outcome"] in where.outcomes]
    return {
        "streams": sum(row.stream_count for row in counted),
        "usd_cents": sum_cents(row.usd_cents for row in counted),
    }


def _stream_table(request: PageRequest, found: Sequence[StoredStream], limit: int, empty: str) -> Table:
    """Streams in any state, with the accrued amount of those that are not final."""
    return Table(
        name="streams",
        title="Streams",
        columns=_OPEN_COLUMNS,
        rows=[_stream_row(request, each) for each in found[:limit]],
        empty=empty,
        whole=len(found) <= limit,
    )


def _stream_row(request: PageRequest, each: StoredStream) -> Row:
    facts = each.facts
    billable = billable_usage(facts)
    prices = request.service.price_books.current(request.connection)
    bill = accrue(facts=facts, prices=prices) if each.revision is None else None
    start = facts.start.event if facts.start else None
    return {
        "last_event_at": facts.last_event_at,
        "customer_id": customer_cell(facts.customer_id),
        "stream_id": stream_cell(facts.customer_id, facts.stream_id),
        "state": each.state.value,
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "usage_source": billable.source.value,
        "input_tokens": billable.usage.input_tokens,
        "output_tokens": billable.usage.output_tokens,
        "accrued": (bill.usd_cents if bill else ZERO) if each.revision is None else None,
    }
