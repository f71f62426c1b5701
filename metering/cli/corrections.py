"""`metering backlog`: streams that wait for a decision. `metering rerate`: a month at today's prices."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, Limit, OnlyCustomer, OnlyProvider, time_text
from metering.cli.periods import check_begun
from metering.cli.progress import progress_bar
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import cents_text, sum_cents
from metering.core.period import BillingPeriod
from metering.corrections.queries import BacklogItem, list_backlog
from metering.corrections.rerate import RerateGroup, rerate
from metering.corrections.resolve_stream import resolve_stream
from metering.ledger.queries.charges import BillFilter
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.columns import dollars
from metering.server.terminal.output import confirm, counted, done, say, show
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State

backlog = typer.Typer()


class BacklogState(StrEnum):
    """The states in which a stream needs attention."""

    ORPHANED = "orphaned"
    UNPRICED = "unpriced"
    CONFLICTING = "conflicting"
    UNMEASURED = "unmeasured"
    MISDATED = "misdated"
    FAILED = "failed"


@backlog.command("list", epilog="Example: metering backlog list --state unpriced")
def list_them(
    state: Annotated[BacklogState | None, typer.Option(help="Only streams in this state.")] = None,
    customer: OnlyCustomer = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """List the streams in the backlog, longest waiting first, with the fix for each."""
    with database() as connection:
        found = list_backlog(
            connection, state=State(state) if state else None, customer_id=customer, after=None, limit=limit
        )
    show(
        [_item_row(item) for item in found],
        as_json=as_json,
        empty="no stream of the backlog matches" if state or customer else "the backlog is empty",
        important=("customer_id", "stream_id", "state"),
    )


@backlog.command(
    "resolve", epilog="Example: metering backlog resolve acme stream-1 write_off --reason 'test traffic'"
)
def resolve(
    customer_id: Annotated[str, typer.Argument(help="The customer.")],
    stream_id: Annotated[str, typer.Argument(help="The stream.")],
    action: Annotated[
        ResolutionAction,
        typer.Argument(
            help="bill_as_is: the winning events. bill_as_received: by the time of receipt. write_off: nothing."
        ),
    ],
    reason: Annotated[str, typer.Option(help="The reason, stored with the stream.")],
    as_json: AsJson = False,
) -> None:
    """Settle a stream by decision. It is booked at once and holds until newer facts replace it."""
    resolve_stream(
        engine=build_service(load_settings()).engine,
        customer_id=customer_id,
        stream_id=stream_id,
        action=action,
        reason=reason,
        resolved_by=operator(),
        now=utc_now(),
    )
    result = {"customer_id": customer_id, "stream_id": stream_id, "action": action.value, "reason": reason}
    done("recorded: a worker books it now", result, as_json=as_json)


def _item_row(item: BacklogItem) -> dict[str, Any]:
    return {
        "customer_id": item.stream.facts.customer_id,
        "stream_id": item.stream.facts.stream_id,
        "state": item.stream.state.value,
        "since": time_text(item.since),
        "reason": item.stream.state_reason,
        "fix": item.fix,
    }


def rerate_command(
    period: Annotated[str, typer.Option(help="The month in which the streams were charged, e.g. 2026-10.")],
    provider: OnlyProvider = None,
    model: Annotated[str | None, typer.Option(help="Only this model, as in the events.")] = None,
    customer: OnlyCustomer = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the differences.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Book without confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a month's streams would cost at today's prices, then book the differences.

    Charges do not change: each difference is an adjustment that refers to its charge.
    """
    service = build_service(load_settings())
    month = BillingPeriod.parse(period)
    where = BillFilter(period=month, provider=provider, model=model, customer_id=customer)

    def run(what: str, *, book: bool) -> list[RerateGroup]:
        with progress_bar(what) as progress:
            found = rerate(
                engine=service.engine,
                price_books=service.price_books,
                where=where,
                now=utc_now(),
                book=book,
                by=operator(),
                progress=progress,
            )
        return list(found)

    groups = run("comparing", book=False)
    if not groups:
        check_begun(month, now=utc_now())
    show(
        [_group_row(group) for group in groups],
        as_json=as_json,
        empty="no differences: all bills match the prices",
    )
    if unpriced := sum(group.unpriced for group in groups):
        say(f"{unpriced:,} streams no longer have a rate and keep their bill")
    count = sum(group.stream_count for group in groups)
    if dry_run or not count:
        return
    difference = dollars(sum_cents(group.difference_usd_cents for group in groups))
    question = f"book {counted(count, 'adjustment')}, {difference} in total?"
    if not yes and not confirm(question):
        say("nothing was booked: run it with --yes")
        return
    booked = run("booking", book=True)
    say(f"booked {counted(sum(group.stream_count for group in booked), 'adjustment')}")


def _group_row(group: RerateGroup) -> dict[str, Any]:
    return {
        "provider": group.provider,
        "model": group.model,
        "stream_count": group.stream_count,
        "usd_cents": cents_text(group.usd_cents),
        "new_usd_cents": cents_text(group.new_usd_cents),
        "difference_usd_cents": cents_text(group.difference_usd_cents),
    }
