"""The backlog: streams that wait for a fact or a person, and what can be done about each."""

from metering.core.cursors import moment_in
from metering.corrections.queries import BacklogItem, count_backlog, list_backlog
from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.links import customer_page, stream_page
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.streams.settlement import NEEDS_PERSON, State

_PAGE = 50


def backlog(asked: Asked) -> Page:
    """The page of the backlog."""
    state = asked.one_of("state", [each.value for each in NEEDS_PERSON])
    customer_id = asked.customer(asked.text("customer_id"))
    limit, position = asked.page_of("backlog", _PAGE), asked.position(3)
    found = list_backlog(
        asked.connection,
        state=State(state) if state else None,
        customer_id=customer_id,
        after=(moment_in(position[0]), position[1], position[2]) if position else None,
        limit=limit + 1,
    )
    shown = found[:limit]
    table = Table(
        name="backlog",
        title="The longest waiting first",
        columns=[
            Column("since", "Since", Kind.MOMENT),
            Column("customer_id", "Customer"),
            Column("stream_id", "Stream", Kind.CODE),
            Column("state", "State", Kind.STATE),
            Column("reason", "Why", Kind.PROSE),
            Column("fix", "What to do", Kind.PROSE),
        ],
        rows=[_row(each) for each in shown],
        more=_more(asked, shown[-1]) if len(found) > limit else None,
        empty="Nothing waits: every stream that ended is billed.",
    )
    return Page(
        template="backlog.html.j2",
        title="Backlog",
        section="backlog",
        context={
            "table": table,
            "items": shown,
            "waiting": count_backlog(asked.connection, customer_id=customer_id),
            "settled": asked.text("settled"),
            "settled_href": _settled(asked),
            "state": state,
            "states": [each.value for each in NEEDS_PERSON],
        },
        tables=[table],
    )


def _row(each: BacklogItem) -> Row:
    facts = each.stream.facts
    return {
        "since": each.since,
        "customer_id": Cell(facts.customer_id, customer_page(facts.customer_id)),
        "stream_id": Cell(facts.stream_id, stream_page(facts.customer_id, facts.stream_id)),
        "state": each.stream.state.value,
        "reason": each.stream.state_reason,
        "fix": each.fix,
    }


def _more(asked: Asked, last: BacklogItem) -> str:
    facts = last.stream.facts
    return asked.further("backlog", [last.since.isoformat(), facts.customer_id, facts.stream_id])


def _settled(asked: Asked) -> str:
    """Where the stream is that was settled just now."""
    customer, stream = asked.text("customer"), asked.text("settled")
    return stream_page(customer, stream) if customer and stream else link("backlog")
