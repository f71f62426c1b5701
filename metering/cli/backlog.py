"""`metering backlog`: streams that wait for a decision, what each may cost, and the decision itself."""

import sys
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, Limit, OnlyCustomer, time_text
from metering.cli.service import operator
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.corrections.candidates import Candidate, Fact, estimate_in_backlog
from metering.corrections.examine_stream import Examination, examine_stream, question
from metering.corrections.queries import BacklogItem, list_backlog
from metering.corrections.resolve_stream import NotInBacklogError, resolve_stream
from metering.customers.queries.customers import customer_names
from metering.db.engine import transaction
from metering.prices.price_book import PriceBook
from metering.server.bootstrap import Service, build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import confirm, done, print_json, say, show, show_one, title
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State

app = typer.Typer()

Customer = Annotated[str, typer.Argument(help="The customer.")]
Stream = Annotated[str, typer.Argument(help="The stream.")]


class BacklogState(StrEnum):
    """The states in which a stream needs attention."""

    ORPHANED = "orphaned"
    UNPRICED = "unpriced"
    CONFLICTING = "conflicting"
    UNMEASURED = "unmeasured"
    MISDATED = "misdated"
    FAILED = "failed"


@app.command("list", epilog="Example: metering backlog list --state unpriced")
def list_them(
    state: Annotated[BacklogState | None, typer.Option(help="Only streams in this state.")] = None,
    customer: OnlyCustomer = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """List the streams in the backlog, longest waiting first, with the fix for each."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = list_backlog(
            connection, state=State(state) if state else None, customer_id=customer, after=None, limit=limit
        )
        prices = service.price_books.current(connection)
        names = customer_names(connection, {item.stream.facts.customer_id for item in found})
    show(
        [_item_row(item, names, prices) for item in found],
        as_json=as_json,
        empty="no stream of the backlog matches" if state or customer else "the backlog is empty",
        important=("customer_id", "stream_id", "state"),
    )


@app.command("show", epilog="Example: metering backlog show acme stream-1")
def show_them(customer_id: Customer, stream_id: Stream, as_json: AsJson = False) -> None:
    """Show what a stream may be billed for, the facts that contradict each other, and what each decision books."""
    service = build_service(load_settings())
    found, name = _examined(service, customer_id, stream_id)
    candidates = [_candidate_row(place, each) for place, each in enumerate(found.candidates)]
    remedies = [
        {"decision": each.action.value, "books_usd_cents": _cents(each.usd_cents), "says": each.says}
        for each in found.remedies
    ]
    item = found.item
    row = {
        "customer_id": customer_id,
        "customer_name": name,
        "stream_id": stream_id,
        "state": item.stream.state.value,
        "since": time_text(item.since),
        "reason": item.stream.state_reason,
        "fix": item.fix,
    }
    if as_json:
        print_json({**row, "version": found.version, "candidates": candidates, "remedies": remedies})
        return
    show_one(row, as_json=False)
    title("Candidates")
    show(candidates, as_json=False, empty="none: its cost cannot be calculated", important=_FIRST)
    if not found.complete:
        say("not all of its events could be read from the journal: there may have been more candidates")
    title("Decisions")
    show(remedies, as_json=False, empty="none: it finalizes by itself once its fault is fixed")


_FIRST = ("candidate", "model", "input_tokens", "output_tokens", "would_cost_usd_cents")


@app.command("resolve", epilog="Example: metering backlog resolve acme stream-1 write_off --reason 'test traffic'")
def resolve(
    customer_id: Customer,
    stream_id: Stream,
    action: Annotated[
        ResolutionAction,
        typer.Argument(
            help="bill_as_is: the winning events. bill_as_received: by the time of receipt. write_off: nothing."
        ),
    ],
    reason: Annotated[str, typer.Option(help="The reason, stored with the stream.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Settle a stream by decision. A terminal asks first, and says what is booked.

    It is booked at once and holds until newer facts replace it.
    """
    service = build_service(load_settings())
    version = None
    if sys.stdin.isatty() and not yes:
        found, name = _examined(service, customer_id, stream_id)
        remedy = found.remedy(action)
        # Without one, recording it says why.
        if remedy is not None:
            if not confirm(question(remedy, stream_id=stream_id, customer=name or customer_id)):
                say("nothing was recorded")
                return
            version = found.version
    resolve_stream(
        engine=service.engine,
        customer_id=customer_id,
        stream_id=stream_id,
        action=action,
        reason=reason,
        resolved_by=operator(),
        now=utc_now(),
        version=version,
        price_books=service.price_books,
    )
    result = {"customer_id": customer_id, "stream_id": stream_id, "action": action.value, "reason": reason}
    done("recorded: a worker books it now", result, as_json=as_json)


def _examined(service: Service, customer_id: str, stream_id: str) -> tuple[Examination, str | None]:
    """A stream of the backlog, examined, and its customer's name."""
    with transaction(service.engine) as connection:
        found = examine_stream(
            connection,
            customer_id=customer_id,
            stream_id=stream_id,
            prices=service.price_books.current(connection),
            waits=service.waits,
            now=utc_now(),
        )
        name = customer_names(connection, [customer_id]).get(customer_id)
    if found is None:
        raise NotInBacklogError(f"customer {customer_id!r} has no stream {stream_id!r} in the backlog")
    return found, name


def _item_row(item: BacklogItem, names: Mapping[str, str], prices: PriceBook) -> dict[str, Any]:
    facts = item.stream.facts
    found = estimate_in_backlog(facts, item.stream.state, prices)
    return {
        "customer_id": facts.customer_id,
        "customer_name": names.get(facts.customer_id),
        "stream_id": facts.stream_id,
        "state": item.stream.state.value,
        "would_cost_usd_cents": _cents(found.usd_cents),
        "at_most_usd_cents": _cents(found.at_most),
        "since": time_text(item.since),
        "reason": item.stream.state_reason,
        "fix": item.fix,
    }


def _candidate_row(place: int, each: Candidate) -> dict[str, Any]:
    start = each.start.event.attributes() if each.start else {}
    end = each.end.event.attributes() if each.end else {}
    usage = each.billable.usage
    newest = each.end or each.start
    return {
        "candidate": f"{chr(ord('A') + place)}{' (wins)' if each.wins else ''}",
        "model": end.get("response_model") or start.get("model"),
        "outcome": end.get("outcome"),
        "usage_source": each.billable.source.value,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "would_cost_usd_cents": _cents(each.estimate.usd_cents),
        "at_most_usd_cents": _cents(each.estimate.at_most),
        "start_from": _from(each.start),
        "end_from": _from(each.end),
        "received_at": time_text(_received(newest)),
        "problem": each.estimate.problem,
    }


def _from(fact: Fact | None) -> str | None:
    return fact.source if fact else None


def _received(fact: Fact | None) -> datetime | None:
    return fact.received_at if fact else None


def _cents(amount: Decimal | None) -> str | None:
    return None if amount is None else cents_text(amount)
