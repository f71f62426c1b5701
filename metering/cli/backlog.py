"""`metering backlog`: the streams that need a person, and what is decided of them."""

from typing import Annotated, Any

import typer

from metering.cli.output import AsJson, say, show
from metering.core.clock import utc_now
from metering.corrections.queries import BacklogItem, list_backlog
from metering.corrections.resolve_stream import resolve_stream
from metering.db.engine import transaction
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State

app = typer.Typer(
    help="The backlog: orphaned, unpriced and conflicting streams. None of them is billed until it is settled.",
    no_args_is_help=True,
)


@app.command("list")
def list_them(
    state: Annotated[State | None, typer.Option(help="Only streams in this state.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List the streams that need a person, the longest waiting first, with what would mend them."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = list_backlog(connection, state=state, customer_id=customer, after=None, limit=limit)
    show([_row(item) for item in found], as_json=as_json, empty="nothing needs a person")


@app.command("resolve")
def resolve(
    customer_id: Annotated[str, typer.Argument(help="The customer.")],
    stream_id: Annotated[str, typer.Argument(help="The stream.")],
    action: Annotated[ResolutionAction, typer.Argument(help="bill_as_is: the winning start and end count.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the stream.")],
) -> None:
    """Settle a stream by hand. It is booked at once, and holds until newer facts say something else."""
    service = build_service(load_settings())
    resolve_stream(
        engine=service.engine,
        customer_id=customer_id,
        stream_id=stream_id,
        action=action,
        reason=reason,
        resolved_by="the command line",
        now=utc_now(),
    )
    say("recorded: a worker books it now")


def _row(item: BacklogItem) -> dict[str, Any]:
    return {
        "customer_id": item.stream.facts.customer_id,
        "stream_id": item.stream.facts.stream_id,
        "state": item.stream.state.value,
        "since": item.since.isoformat(timespec="seconds"),
        "reason": item.stream.state_reason,
        "fix": item.fix,
    }
