"""`GET /v1/generations`: state, tokens and cost of one stream, for the gateway that asks for its client.

A gateway's key can read this and nothing else of a stream: who asks names the customer and an id of the stream.
"""

from typing import Annotated

from fastapi import Query
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Cents, CustomerId, StreamId, Time, UsageCounts, described
from metering.api.auth import Caller, needs, require_customer
from metering.api.parameters import Db, Text, TheService
from metering.api.problems import NotFoundError
from metering.api.routes import raises, v1_router
from metering.api.streams import stream_shape
from metering.events.events import Outcome, UsageSource
from metering.ledger.queries.streams import find_stream_id, get_stream
from metering.streams.accrue_streams import accrue_stream
from metering.streams.settlement import State
from metering.streams.store.archived import StreamArchivedError

router = v1_router("streams")


class Generation(TypedDict):
    """One completion: how it ended, what it used, and what it costs."""

    customer_id: CustomerId
    stream_id: StreamId
    response_id: Annotated[str | None, described("The upstream's id of the response.", example="chatcmpl-7f3a")]
    state: Annotated[State, described("`finalized` once the cost is final.")]
    outcome: Annotated[Outcome | None, described("How it ended; null while it is open.")]
    provider: Annotated[str | None, described("The provider; null without a start.", example="anthropic")]
    model: Annotated[str | None, described("The requested model.", example="claude-opus-4.7")]
    response_model: Annotated[str | None, described("The model that answered, where the upstream named it.")]
    started_at: Annotated[Time | None, described("When it started; null without a start.")]
    ended_at: Annotated[Time | None, described("When it ended; null while it is open.")]
    usage: Annotated[UsageCounts, described("The usage that is billed, or would be.")]
    usage_source: Annotated[UsageSource, described("Who counted the usage.")]
    cost_usd_cents: Annotated[Cents | None, described("The exact final cost; null until it is final.")]
    accrued_usd_cents: Annotated[Cents | None, described("The exact cost so far; null once it is final.")]


@router.get("/generations", operation_id="getGeneration", summary="Get the cost of a completion")
@needs(Scope.GENERATIONS_READ)
@raises(NotFoundError, StreamArchivedError)
def read_generation(
    key: Caller,
    connection: Db,
    service: TheService,
    customer_id: Annotated[Text, Query(description="The customer who asks.", examples=["acme"])],
    id: Annotated[
        Text, Query(description="The stream's id, or the upstream's id of the response.", examples=["01J9"])
    ],
) -> Generation:
    """A completion by the id of its stream, or by the id that the upstream gave its response."""
    require_customer(key, customer_id)
    stream_id = find_stream_id(connection, customer_id=customer_id, id=id)
    view = None if stream_id is None else get_stream(connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        raise NotFoundError(f"customer {customer_id!r} has no completion {id!r}")
    shape = stream_shape(view, accrue_stream(connection, stream=view.stream, price_books=service.price_books))
    end = view.stream.facts.end
    return {
        "customer_id": shape["customer_id"],
        "stream_id": shape["stream_id"],
        "response_id": end.event.response_id if end else None,
        "state": shape["state"],
        "outcome": shape["outcome"],
        "provider": shape["provider"],
        "model": shape["model"],
        "response_model": shape["response_model"],
        "started_at": shape["started_at"],
        "ended_at": shape["ended_at"],
        "usage": shape["usage"],
        "usage_source": shape["usage_source"],
        "cost_usd_cents": shape["cost_usd_cents"],
        "accrued_usd_cents": shape["accrued_usd_cents"],
    }
