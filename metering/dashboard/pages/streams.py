"""Streams: searched by id, final ones by what they were billed for, and those under way."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from metering.core.cursors import moment_in
from metering.core.money import ZERO, sum_cents
from metering.dashboard.asking import Asked, Page
from metering.dashboard.errors import WrongQuestionError
from metering.dashboard.links import NO_KEY, customer_page, stream_page
from metering.dashboard.months import month_of
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.events.events import Outcome, UsageSource
from metering.ledger.queries.found_streams import (
    FinalFilter,
    FoundStream,
    find_by_id,
    find_streams,
    list_under_way,
)
from metering.streams.settlement import accrue
from metering.streams.store.streams import StoredStream
from metering.streams.stream import billable_usage
from metering.totals.queries.totals import Group, TotalsQuestion, read_totals
from metering.totals.ranges import Range

_PAGE = 50
_STATES = ("final", "open")
_FILTERS = ("customer_id", "provider", "model", "outcome", "usage_source", "api_key_id", "retry")

_WHO = (
    Column("ended_at", "Ended", Kind.MOMENT),
    Column("customer_id", "Customer"),
    Column("stream_id", "Stream", Kind.CODE),
)
_WHAT = (
    Column("provider", "Provider"),
    Column("model", "Model"),
    Column("outcome", "Outcome", Kind.STATE),
    Column("usage_source", "Counted by"),
    Column("api_key_id", "API key"),
    Column("input_tokens", "Input", Kind.COUNT),
    Column("output_tokens", "Output", Kind.COUNT),
)
# What it comes to stands where a narrow screen has it, too.
_FINAL_COLUMNS = (*_WHO, Column("cost", "Cost", Kind.MONEY), *_WHAT, Column("note", "Note"))
_OPEN_COLUMNS = (
    Column("last_event_at", "Last heard of", Kind.MOMENT),
    *_WHO[1:],
    Column("accrued", "Accrued", Kind.MONEY),
    Column("state", "State", Kind.STATE),
    *(column for column in _WHAT if column.key not in ("outcome", "api_key_id")),
)


def streams(asked: Asked) -> Page:
    """The page of streams."""
    customer_id = asked.customer(asked.text("customer_id"))
    searched = asked.text("q")
    state = asked.one_of("state", _STATES) or "final"
    chosen = {name: asked.query.get(name, "") for name in _FILTERS}
    if searched is not None:
        limit = asked.all_of("streams", _PAGE)
        found = find_by_id(asked.connection, stream_id=searched, customer_id=customer_id, limit=limit + 1)
        table, total = _stream_table(asked, found, limit, f"no stream has the id {searched!r}"), None
    elif state == "open":
        limit = asked.all_of("streams", _PAGE)
        under_way = list_under_way(asked.connection, customer_id=customer_id, limit=limit + 1)
        table, total = _stream_table(asked, under_way, limit, "No stream is under way."), None
    else:
        where = _where(asked, customer_id)
        table, total = _final_table(asked, where), None if asked.for_file else _total(asked, where)
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
            "range": _range(asked) if state == "final" and searched is None else None,
        },
        tables=[table],
    )


def _range(asked: Asked) -> Range:
    """From and to, or else the month."""
    start, end = asked.moment("from"), asked.moment("to")
    month = month_of(asked)
    return (start or month.range_[0], end or month.range_[1])


def _where(asked: Asked, customer_id: str | None) -> FinalFilter:
    outcomes = asked.text("outcome")
    wanted = outcomes.split(",") if outcomes else None
    for outcome in wanted or ():
        if outcome not in set(Outcome):
            raise WrongQuestionError(f"outcome: {outcome!r} is not one of {', '.join(Outcome)}")
    retry = asked.one_of("retry", ("true", "false"))
    start, end = _range(asked)
    return FinalFilter(
        from_=start,
        to=end,
        customer_id=customer_id,
        provider=asked.text("provider"),
        model=asked.text("model"),
        outcomes=wanted,
        usage_source=asked.one_of("usage_source", tuple(UsageSource)),
        api_key_id=asked.text("api_key_id") or ("" if NO_KEY in asked.query else None),
        retry=retry == "true" if retry else None,
    )


def _final_table(asked: Asked, where: FinalFilter) -> Table:
    limit, position = asked.page_of("streams", _PAGE), asked.position(3)
    before = (moment_in(position[0]), position[1], position[2]) if position else None
    found = find_streams(asked.connection, where=where, before=before, limit=limit + 1)
    return Table(
        name="streams",
        title="Final streams, the last ended first",
        columns=_FINAL_COLUMNS,
        rows=[_final_row(each) for each in found[:limit]],
        empty="No final stream in this range matches. Widen the range, or take filters away.",
        more=_more(asked, found[limit - 1]) if len(found) > limit else None,
    )


def _more(asked: Asked, last: FoundStream) -> str:
    return asked.further("streams", [last.ended_at.isoformat(), last.customer_id, last.stream_id])


def _final_row(each: FoundStream) -> Row:
    notes = [word for word, so in (("retry", each.retry), ("adjusted", each.adjusted)) if so]
    return {
        "ended_at": each.ended_at,
        "customer_id": Cell(each.customer_id, customer_page(each.customer_id)),
        "stream_id": Cell(each.stream_id, stream_page(each.customer_id, each.stream_id)),
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


def _total(asked: Asked, where: FinalFilter) -> Mapping[str, int | Decimal]:
    """What all of them come to, also those on other pages; credits and corrections of the range with it."""
    only: dict[Group, str] = {
        group: value
        for group in (Group.PROVIDER, Group.MODEL, Group.USAGE_SOURCE, Group.API_KEY_ID)
        if (value := getattr(where, group.value)) is not None
    }
    if where.retry is not None:
        only[Group.RETRY] = str(where.retry).lower()
    question = TotalsQuestion(
        from_=where.from_, to=where.to, group_by=[Group.OUTCOME], customer_id=where.customer_id, only=only
    )
    rows = read_totals(asked.connection, question=question)
    counted = [row for row in rows if where.outcomes is None or row.group["outcome"] in where.outcomes]
    return {
        "streams": sum(row.stream_count for row in counted),
        "usd_cents": sum_cents(row.usd_cents for row in counted),
    }


def _stream_table(asked: Asked, found: Sequence[StoredStream], limit: int, empty: str) -> Table:
    """Streams whatever their state, with what they have accrued while they are not final."""
    return Table(
        name="streams",
        title="Streams",
        columns=_OPEN_COLUMNS,
        rows=[_stream_row(asked, each) for each in found[:limit]],
        empty=empty,
        whole=len(found) <= limit,
    )


def _stream_row(asked: Asked, each: StoredStream) -> Row:
    facts = each.facts
    billable = billable_usage(facts)
    prices = asked.service.price_books.current(asked.connection)
    bill = accrue(facts=facts, prices=prices) if each.revision is None else None
    start = facts.start.event if facts.start else None
    return {
        "last_event_at": facts.last_event_at,
        "customer_id": Cell(facts.customer_id, customer_page(facts.customer_id)),
        "stream_id": Cell(facts.stream_id, stream_page(facts.customer_id, facts.stream_id)),
        "state": each.state.value,
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "usage_source": billable.source.value,
        "input_tokens": billable.usage.input_tokens,
        "output_tokens": billable.usage.output_tokens,
        "accrued": (bill.usd_cents if bill else ZERO) if each.revision is None else None,
    }
