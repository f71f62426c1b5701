"""The page of one webhook endpoint, or of a new one: its deliveries, and the forms about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metering.alerts.deliveries import TEST_TYPE, DeliveryState
from metering.alerts.manage_endpoints import MAX_OVERLAP, TYPES
from metering.alerts.queries.webhooks import DeliveryFilter, list_deliveries
from metering.alerts.store.deliveries import Delivery, UnknownDeliveryError, get_delivery
from metering.alerts.store.endpoints import Endpoint, UnknownEndpointError, get_endpoint
from metering.core.cursors import parse_time, time_part
from metering.dashboard.errors import NotFoundError
from metering.dashboard.fields import FormState
from metering.dashboard.links import customer_cell, link
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table

_PAGE = 50
MISSED = (DeliveryState.FAILED, DeliveryState.SKIPPED)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret that is shown once, and how it came about."""

    secret: str
    says: str


def webhook(request: PageRequest) -> Page:
    """The page of an endpoint."""
    return webhook_page(request, request.id("endpoint_id"), FormState())


def new_webhook(_: PageRequest) -> Page:
    """The page of a new endpoint."""
    return new_webhook_page(FormState())


def new_webhook_page(form: FormState) -> Page:
    """The page with the form of a new endpoint, and what was typed into it."""
    return _page("New destination", None, form, [])


def webhook_page(
    request: PageRequest, endpoint_id: str, form: FormState, *, new_secret: NewSecret | None = None
) -> Page:
    """The page of an endpoint: what was typed into its form, and the secret that it was just given."""
    try:
        endpoint = get_endpoint(request.connection, endpoint_id=endpoint_id)
    except UnknownEndpointError as error:
        raise NotFoundError(str(error)) from error
    limit, position = request.page_limit("deliveries", _PAGE), request.position(2)
    found = list_deliveries(
        request.connection,
        where=DeliveryFilter(endpoint_id=endpoint_id, state=request.one_of("state", tuple(DeliveryState))),
        before=(parse_time(position[0]), position[1]) if position else None,
        limit=limit + 1,
    )
    shown = found[:limit]
    more = None
    if len(found) > limit:
        more = request.next_page("webhook", [time_part(shown[-1].created_at), shown[-1].delivery_id])
    return _page(
        endpoint.description or endpoint_id,
        endpoint,
        form if form.values else FormState(values_of(endpoint)),
        [_deliveries(shown, more)],
        missed=[each for each in shown if each.state in MISSED and each.type != TEST_TYPE],
        new_secret=new_secret,
        tested=_tested(request),
        done=request.text("done"),
        replayed=request.text("replayed"),
    )


def _page(title: str, endpoint: Endpoint | None, form: FormState, tables: Sequence[Table], **more: object) -> Page:
    nothing: Mapping[str, object] = {
        "missed": [],
        "new_secret": None,
        "tested": None,
        "done": None,
        "replayed": None,
    }
    return Page(
        template="webhook.html.j2",
        title=title,
        section="alerts",
        crumbs=[("Alerts", link("alerts"))],
        context={
            **nothing,
            **more,
            "endpoint": endpoint,
            "form": form,
            "types": TYPES,
            "most_hours": int(MAX_OVERLAP.total_seconds()) // 3600,
            "tables": tables,
        },
        tables=tables,
    )


def _tested(request: PageRequest) -> Delivery | None:
    """The test message that was just sent, with its result."""
    delivery_id = request.text("tested")
    if delivery_id is None:
        return None
    try:
        return get_delivery(request.connection, delivery_id=delivery_id)
    except UnknownDeliveryError:
        return None


def values_of(endpoint: Endpoint) -> Mapping[str, str]:
    """An endpoint as its form has it; without a type it gets all of them."""
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        **{type_field(each): "yes" for each in endpoint.types or ()},
    }


def type_field(type: str) -> str:
    """The name of the field of a message type."""
    return f"type-{type}"


def _deliveries(found: Sequence[Delivery], more: str | None) -> Table:
    return Table(
        name="deliveries",
        title="Deliveries, newest first",
        columns=[
            Column("created_at", "Created", Kind.TIME),
            Column("type", "Message"),
            Column("customer_id", "Customer"),
            Column("state", "State", Kind.STATE),
            Column("attempts", "Attempts", Kind.COUNT),
            Column("status", "HTTP status"),
            Column("due_at", "Next attempt", Kind.TIME),
            Column("problem", "Error", Kind.PROSE),
            Column("delivery_id", "Delivery", Kind.CODE),
        ],
        rows=[_row(each) for each in found],
        more=more,
        sorted_by="-created_at",
        empty="Nothing has been sent to it yet.",
    )


def _row(each: Delivery) -> Row:
    return {
        "created_at": each.created_at,
        "type": f"{each.type}, sent again" if each.replay else each.type,
        "customer_id": customer_cell(each.customer_id) if each.customer_id else None,
        "state": each.state.value,
        "attempts": each.attempts,
        "status": Cell(None if each.response_status is None else str(each.response_status)),
        "due_at": each.due_at,
        "problem": each.problem,
        "delivery_id": each.delivery_id,
    }
