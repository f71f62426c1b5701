"""The page that settles a stream of the backlog: what contradicts, what it costs, what a decision books."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.core.money import EXACT
from metering.corrections.candidates import Candidate, Estimate, Fact
from metering.corrections.examine_stream import (
    Examination,
    StreamChangedError,
    check_version,
    examine_stream,
    question,
)
from metering.customers.queries.customers import customer_names
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_page, link, rate_page, stream_page
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Table, Value
from metering.dashboard.values import exact_money, plain_times
from metering.prices.rate_book import RateBook
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State

TITLES = {
    ResolutionAction.BILL_AS_IS: "Bill recorded usage",
    ResolutionAction.BILL_AS_RECEIVED: "Bill by time of receipt",
    ResolutionAction.WRITE_OFF: "Write off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A decision that waits for a person's yes: what it books, and what was typed."""

    action: ResolutionAction
    question: str
    yes: str
    reason: str


def settle(request: PageRequest) -> Page:
    """The page; with an `action`, it asks for a confirmation."""
    customer_id, stream_id = request.id("customer_id"), request.id("stream_id")
    return settle_page(request, customer_id, stream_id)


def settle_page(request: PageRequest, customer_id: str, stream_id: str, *, problem: str | None = None) -> Page:
    """The page of a stream. With a `problem`, it says why a decision was not recorded, and asks for none."""
    request.customer(customer_id)
    prices = request.service.price_books.current(request.connection)
    found = examine_stream(
        request.connection,
        customer_id=customer_id,
        stream_id=stream_id,
        prices=prices,
        waits=request.service.waits,
        now=request.now,
    )
    if found is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r} in the backlog")
    seen = request.query.get("version")
    if problem is None and seen is not None:
        try:
            check_version(found.item.stream, seen, prices)
        except StreamChangedError as error:
            problem = str(error)
    name = customer_names(request.connection, [customer_id]).get(customer_id, customer_id)
    tables = _tables(found, prices.rates)
    return Page(
        template="settle.html.j2",
        title="Settle a stream",
        section="backlog",
        crumbs=[("Backlog", link("backlog")), (name, customer_page(customer_id))],
        context={
            "item": found.item,
            "found": found,
            "customer_name": name,
            "stream_href": stream_page(customer_id, stream_id),
            "tables": tables,
            "titles": TITLES,
            "other": _other(found),
            "problem": problem,
            "reason": request.text("reason") or "",
            "confirmation": None if problem else _confirmation(request, found, name),
        },
        tables=tables,
    )


def _confirmation(request: PageRequest, found: Examination, name: str) -> Confirmation | None:
    action = request.one_of("action", tuple(ResolutionAction))
    remedy = found.remedy(ResolutionAction(action)) if action else None
    reason = request.text("reason")
    if remedy is None or reason is None:
        return None
    booked = "Record it" if remedy.usd_cents is None else f"Book {exact_money(remedy.usd_cents)}"
    return Confirmation(
        action=remedy.action,
        question=question(remedy, stream_id=found.item.stream.facts.stream_id, customer=name),
        yes=booked,
        reason=reason,
    )


def _tables(found: Examination, rates: RateBook) -> list[Table]:
    """What the candidates differ in, side by side; and what they agree on."""
    if not found.candidates:
        return []
    letters = [chr(ord("A") + place) for place in range(len(found.candidates))]
    described = [_described(each, rates) for each in found.candidates]
    differing: list[tuple[str, list[Cell]]] = []
    common: list[tuple[str, list[Cell]]] = []
    for name in dict.fromkeys(name for each in described for name in each):
        cells = [each.get(name, Cell(None)) for each in described]
        (differing if len(set(cells)) > 1 else common).append((name, cells))
    tables = []
    if len(letters) > 1:
        heads = [
            f"{letter}: wins" if each.wins else letter
            for letter, each in zip(letters, found.candidates, strict=True)
        ]
        tables.append(
            Table(
                name="candidates",
                title="What the candidates say differently",
                columns=[Column("what", ""), *(Column(a, b) for a, b in zip(letters, heads, strict=True))],
                rows=[{"what": name, **dict(zip(letters, cells, strict=True))} for name, cells in differing],
                empty="They differ only in what no bill depends on.",
                fixed=True,
                note=""
                if found.complete
                else "Not all of its events could be read from the journal: there may have been more candidates.",
            )
        )
    tables.append(
        Table(
            name="facts",
            title="What they agree on" if len(letters) > 1 else "What is known",
            columns=[Column("what", ""), Column("value", "Value")],
            rows=[{"what": name, "value": cells[0]} for name, cells in common if cells[0].value is not None],
            empty="",
            fixed=True,
        )
    )
    return tables


def _described(each: Candidate, rates: RateBook) -> Mapping[str, Cell]:
    """A candidate in words, by the name of each property; the most telling first."""
    start = each.start.event.attributes() if each.start else {}
    end = each.end.event.attributes() if each.end else {}
    bill = each.estimate.bill
    card = rates.card(bill.rate_card_id) if bill and bill.rate_card_id else None
    usage = each.billable.usage.known()
    return {
        "Cost": _cost(each.estimate),
        "Model": Cell(_text(start.get("model"))),
        "Provider": Cell(_text(start.get("provider"))),
        "Response model": Cell(_text(end.get("response_model"))),
        "Outcome": Cell(_text(end.get("outcome"))),
        "Usage source": Cell(each.billable.source.value if each.end else None),
        **{name.replace("_", " ").capitalize(): Cell(_value(usage.get(name))) for name in _counters(each)},
        "API key": Cell(_text(start.get("api_key_id"))),
        "Cancel policy": Cell(bill.cancel_policy.value if bill else None),
        "Rate card": Cell(card.rate_card_id, rate_page(card.provider, card.model)) if card else Cell(None),
        **_arrival("Start", each.start),
        **_arrival("End", each.end),
    }


def _counters(each: Candidate) -> Sequence[str]:
    return (
        "input_tokens",
        "output_tokens",
        *sorted(set(each.billable.usage.known()) - {"input_tokens", "output_tokens"}),
    )


def _arrival(which: str, fact: Fact | None) -> Mapping[str, Cell]:
    """When and from where a start or an end came."""
    if fact is None:
        return {f"{which} sent": Cell(None)}
    return {
        f"{which} sent": Cell(fact.event.time),
        f"{which} received": Cell(fact.received_at),
        f"{which} times received": Cell(fact.times),
        f"{which} source": Cell(fact.source),
        f"{which} ingest key": Cell(fact.ingest_key_id),
    }


def _cost(found: Estimate) -> Cell:
    if found.usd_cents is not None:
        return Cell(exact_money(found.usd_cents))
    if found.at_most is not None:
        return Cell(f"– (at most {exact_money(found.at_most)})")
    return Cell(f"– ({plain_times(found.problem)})" if found.problem else None)


def _other(found: Examination) -> str | None:
    """How to bill the other candidate, if there is one with another cost."""
    if found.item.stream.state is not State.CONFLICTING or len(found.candidates) != 2:
        return None
    ours, theirs = (each.estimate.usd_cents for each in found.candidates)
    if ours is None or theirs is None or ours == theirs:
        return None
    difference = EXACT.subtract(theirs, ours)
    return (
        f"To bill B, {exact_money(theirs)}, instead: bill the recorded usage, then book a correction of "
        f"{exact_money(difference)} for this stream on its customer's page."
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _value(value: Value | object) -> Value:
    return value if isinstance(value, int) else _text(value)
