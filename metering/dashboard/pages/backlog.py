"""The backlog page: streams that wait for a missing fact or a decision, and the fix for each."""

from metering.core.cursors import parse_time, time_part
from metering.corrections.candidates import estimate_in_backlog
from metering.corrections.queries import BacklogItem, count_backlog, list_backlog
from metering.dashboard.links import customer_cell, link, stream_cell, stream_page
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.prices.price_book import PriceBook
from metering.streams.settlement import NEEDS_PERSON, State

_PAGE = 50


def backlog(request: PageRequest) -> Page:
    """The page."""
    state = request.one_of("state", [each.value for each in NEEDS_PERSON])
    customer_id = request.customer(request.text("customer_id"))
    limit, position = request.page_limit("backlog", _PAGE), request.position(3)
    sort = request.sort("backlog", by=("since",), default="since")
    prices = request.service.price_books.current(request.connection)
    waiting = count_backlog(request.connection, customer_id=customer_id, state=State(state) if state else None)
    found = list_backlog(
        request.connection,
        state=State(state) if state else None,
        customer_id=customer_id,
        after=(parse_time(position[0]), position[1], position[2]) if position else None,
        limit=limit + 1,
        newest_first=sort.descending,
    )
    shown = found[:limit]
    table = Table(
        name="backlog",
        title="Streams",
        columns=[
            Column("since", "Waiting since", Kind.TIME),
            Column("customer_id", "Customer"),
            Column("stream_id", "Stream", Kind.CODE),
            Column("state", "State", Kind.STATE),
            Column("cost", "Would cost", Kind.MONEY),
            Column("at_most", "At most", Kind.MONEY),
            Column("reason", "Reason", Kind.PROSE),
            Column("fix", "Fix", Kind.PROSE),
            *([] if request.for_file else [Column("decide", "Decide")]),
        ],
        rows=[_row(each, prices) for each in shown],
        count=waiting,
        sorted_by=str(sort),
        sorts=("since",),
        more=_more(request, shown[-1]) if len(found) > limit else None,
        empty="The backlog is empty.",
    )
    return Page(
        template="backlog.html.j2",
        title="Backlog",
        section="backlog",
        context={
            "table": table,
            "waiting": waiting,
            "settled": request.text("settled"),
            "settled_href": _settled_href(request),
            "state": state,
            "states": [each.value for each in NEEDS_PERSON],
        },
        tables=[table],
    )


def _row(each: BacklogItem, prices: PriceBook) -> Row:
    facts = each.stream.facts
    found = estimate_in_backlog(facts, each.stream.state, prices)
    settle = link("settle", customer_id=facts.customer_id, stream_id=facts.stream_id)
    return {
        "since": each.since,
        "customer_id": customer_cell(facts.customer_id),
        "stream_id": stream_cell(facts.customer_id, facts.stream_id),
        "state": each.stream.state.value,
        "decide": Cell("Settle…", settle),
        "cost": found.usd_cents,
        # The other side of a conflict may cost more.
        "at_most": found.at_most if each.stream.state is State.CONFLICTING else found.at_most or found.usd_cents,
        "reason": each.stream.state_reason,
        "fix": each.fix,
    }


def _more(request: PageRequest, last: BacklogItem) -> str:
    facts = last.stream.facts
    return request.next_page("backlog", [time_part(last.since), facts.customer_id, facts.stream_id])


def _settled_href(request: PageRequest) -> str:
    """The page of the stream that was just settled."""
    customer, stream = request.text("customer"), request.text("settled")
    return stream_page(customer, stream) if customer and stream else link("backlog")
