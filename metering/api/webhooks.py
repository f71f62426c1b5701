"""`/v1/webhook-endpoints` and `/v1/webhook-deliveries`: where messages are sent, and the log of it; for admins."""

from datetime import timedelta
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field, StrictBool, StringConstraints, WithJsonSchema
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.alerts.addresses import InvalidUrlError
from metering.alerts.alerts import DEPLOYMENT
from metering.alerts.deliveries import DeliveryState
from metering.alerts.manage_endpoints import (
    TYPES,
    EndpointChanges,
    InvalidEndpointError,
    TooManyEndpointsError,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    rotate_endpoint_secret,
)
from metering.alerts.queries.webhooks import DeliveryFilter, list_deliveries, list_endpoints
from metering.alerts.replay_webhooks import EndpointDisabledError, replay_delivery
from metering.alerts.send_webhooks import try_endpoint
from metering.alerts.store.deliveries import Delivery as StoredDelivery
from metering.alerts.store.deliveries import UnknownDeliveryError, get_delivery
from metering.alerts.store.endpoints import Endpoint as StoredEndpoint
from metering.alerts.store.endpoints import UnknownEndpointError, get_endpoint
from metering.api.answers import BookedBy, Count, Time, described, optional_time, time_text
from metering.api.auth import By, needs
from metering.api.paging import Limit, Page, cursor_of, page_of, whole_page
from metering.api.parameters import (
    WHOLE_NUMBER,
    Db,
    Id,
    Input,
    Text,
    TheService,
)
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.server.outgoing import build_webhook_sender

router = v1_router("webhooks")

EndpointPath = Annotated[Id, Path(description="The endpoint.", examples=["whe_9f86d081884c7d65"])]
DeliveryPath = Annotated[Id, Path(description="The delivery.", examples=["whd_9f86d081884c7d65"])]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Description = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")]
_Type = Annotated[str, WithJsonSchema({"type": "string", "enum": list(TYPES)})]
Types = Annotated[list[_Type], Field(max_length=20)]

_URL = described("Where messages are posted: https, at a public address.", example="https://hooks.example.com/m")
_DESCRIPTION = described("What it is for, for people.", example="finance")
_TYPES = described("The types of messages that it gets; none means all of them.", example=["alert.spend"])


class Endpoint(TypedDict):
    """A webhook endpoint, without its secrets."""

    endpoint_id: Annotated[str, described("The id of the endpoint.", example="whe_9f86d081884c7d65")]
    url: Annotated[str, _URL]
    description: Annotated[str, _DESCRIPTION]
    types: Annotated[list[str], _TYPES]
    enabled: Annotated[bool, described("Whether messages are sent to it.")]
    disabled_at: Annotated[Time | None, described("When it was disabled.")]
    disabled_reason: Annotated[str | None, described("Why it was disabled.")]
    failing_since: Annotated[Time | None, described("Since when deliveries fail; null while they succeed.")]
    last_problem: Annotated[str | None, described("Why the last failed delivery failed.")]
    delivered_at: Annotated[Time | None, described("When a message was last delivered.")]
    created_by: BookedBy
    created_at: Annotated[Time, described("When it was created.")]
    changed_at: Annotated[Time, described("When it was last changed.")]


_SECRET = described("The secret that signs messages. It is shown only in this answer.", example="whsec_…")


class EndpointWithSecret(Endpoint):
    """A new webhook endpoint with its secret."""

    secret: Annotated[str, _SECRET]


class RotatedSecret(TypedDict):
    """The new secret of an endpoint."""

    endpoint_id: Annotated[str, described("The endpoint.", example="whe_9f86d081884c7d65")]
    secret: Annotated[str, _SECRET]
    old_secret_ends_at: Annotated[Time, described("Until then messages are signed with the old secret as well.")]


class Delivery(TypedDict):
    """A message on its way to an endpoint."""

    delivery_id: Annotated[str, described("The id of the delivery.", example="whd_9f86d081884c7d65")]
    endpoint_id: Annotated[str, described("The endpoint.", example="whe_9f86d081884c7d65")]
    message_id: Annotated[str, described("The `webhook-id`: the same for each attempt and each replay.")]
    replay: Annotated[Count, described("How often the message was sent again on request.", example=0)]
    type: Annotated[str, described("The type of the message.", example="alert.spend")]
    customer_id: Annotated[str | None, described("The customer; null for the whole deployment.", example="acme")]
    state: Annotated[DeliveryState, described("pending, delivered, failed, or skipped (endpoint disabled).")]
    attempts: Annotated[Count, described("How many attempts were made.", example=1)]
    attempted_at: Annotated[Time | None, described("When the last attempt was made.")]
    due_at: Annotated[Time | None, described("When the next attempt is due; null: there is none.")]
    response_status: Annotated[int | None, described("The HTTP status of the last answer.", example=204)]
    problem: Annotated[str | None, described("Why the last attempt failed.")]
    created_at: Annotated[Time, described("When the delivery was created.")]
    body: Annotated[str, described("The body that is sent, byte for byte.")]


class EndpointInput(Input):
    """A new endpoint."""

    url: Annotated[Url, _URL]
    description: Annotated[Description, _DESCRIPTION] = ""
    types: Annotated[Types, _TYPES] = Field(default_factory=list)


class EndpointPatch(Input):
    """The changes to an endpoint; fields that are left out stay as they are. Enabling it clears its failures."""

    url: Annotated[Url | None, _URL] = None
    description: Annotated[Description | None, _DESCRIPTION] = None
    types: Annotated[Types | None, _TYPES] = None
    enabled: Annotated[StrictBool | None, Field(description="Whether messages are sent to it.")] = None


class RotationInput(Input):
    """The end of the old secret."""

    overlap_hours: Annotated[
        int,
        Field(ge=0, le=168, description="How long the old secret signs as well; 0 ends it at once."),
        WHOLE_NUMBER,
    ] = 24


def endpoint_shape(endpoint: StoredEndpoint) -> Endpoint:
    """An endpoint, without its secrets."""
    return {
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "types": list(endpoint.types or ()),
        "enabled": endpoint.disabled_at is None,
        "disabled_at": optional_time(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": optional_time(endpoint.failing_since),
        "last_problem": endpoint.last_problem,
        "delivered_at": optional_time(endpoint.delivered_at),
        "created_by": endpoint.created_by,
        "created_at": time_text(endpoint.created_at),
        "changed_at": time_text(endpoint.changed_at),
    }


def delivery_shape(delivery: StoredDelivery) -> Delivery:
    """A delivery with the body of its message."""
    return {
        "delivery_id": delivery.delivery_id,
        "endpoint_id": delivery.endpoint_id,
        "message_id": delivery.message_id,
        "replay": delivery.replay,
        "type": delivery.type,
        "customer_id": None if delivery.customer_id == DEPLOYMENT else delivery.customer_id,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "attempted_at": optional_time(delivery.attempted_at),
        "due_at": optional_time(delivery.due_at),
        "response_status": delivery.response_status,
        "problem": delivery.problem,
        "created_at": time_text(delivery.created_at),
        "body": delivery.body,
    }


@router.get("/webhook-endpoints", operation_id="listWebhookEndpoints", summary="List webhook endpoints")
@needs(Scope.WEBHOOKS_READ)
def read_endpoints(connection: Db) -> Page[Endpoint]:
    """All endpoints in one page, the oldest first, without their secrets."""
    return whole_page([endpoint_shape(endpoint) for endpoint in list_endpoints(connection)])


@router.post(
    "/webhook-endpoints",
    status_code=201,
    operation_id="createWebhookEndpoint",
    summary="Create a webhook endpoint",
)
@needs(Scope.WEBHOOKS_WRITE)
@raises(InvalidUrlError, InvalidEndpointError, TooManyEndpointsError)
def write_endpoint(given: EndpointInput, by: By, service: TheService) -> EndpointWithSecret:
    """Send messages to a URL from now on. Only this answer shows the secret that signs them."""
    endpoint, secret = create_endpoint(
        engine=service.engine,
        url=given.url,
        description=given.description,
        types=given.types,
        allow_private=service.settings.webhooks_allow_private,
        created_by=by,
        now=utc_now(),
    )
    return {**endpoint_shape(endpoint), "secret": secret}


@router.get(
    "/webhook-endpoints/{endpoint_id}", operation_id="getWebhookEndpoint", summary="Get a webhook endpoint"
)
@needs(Scope.WEBHOOKS_READ)
@raises(UnknownEndpointError)
def read_endpoint(endpoint_id: EndpointPath, connection: Db) -> Endpoint:
    """One endpoint with its state."""
    return endpoint_shape(get_endpoint(connection, endpoint_id=endpoint_id))


@router.patch(
    "/webhook-endpoints/{endpoint_id}", operation_id="patchWebhookEndpoint", summary="Change a webhook endpoint"
)
@needs(Scope.WEBHOOKS_WRITE)
@raises(UnknownEndpointError, InvalidUrlError, InvalidEndpointError)
def patch_endpoint(endpoint_id: EndpointPath, given: EndpointPatch, by: By, service: TheService) -> Endpoint:
    """Change an endpoint, or disable and enable it."""
    endpoint = change_endpoint(
        engine=service.engine,
        endpoint_id=endpoint_id,
        changes=EndpointChanges(
            url=given.url, description=given.description, types=given.types, enabled=given.enabled
        ),
        allow_private=service.settings.webhooks_allow_private,
        changed_by=by,
        now=utc_now(),
    )
    return endpoint_shape(endpoint)


@router.delete(
    "/webhook-endpoints/{endpoint_id}",
    status_code=204,
    operation_id="deleteWebhookEndpoint",
    summary="Delete a webhook endpoint",
)
@needs(Scope.WEBHOOKS_WRITE)
@raises(UnknownEndpointError)
def remove_endpoint(endpoint_id: EndpointPath, by: By, service: TheService) -> None:
    """Delete an endpoint and its secrets."""
    delete_endpoint(engine=service.engine, endpoint_id=endpoint_id, by=by, now=utc_now())


@router.post(
    "/webhook-endpoints/{endpoint_id}/rotate-secret",
    operation_id="rotateWebhookSecret",
    summary="Rotate a webhook secret",
)
@needs(Scope.WEBHOOKS_WRITE)
@raises(UnknownEndpointError, InvalidEndpointError)
def rotate_secret(
    endpoint_id: EndpointPath, by: By, service: TheService, given: RotationInput | None = None
) -> RotatedSecret:
    """Give an endpoint a new secret. For a while, messages are signed with the old one as well."""
    overlap = timedelta(hours=(given or RotationInput()).overlap_hours)
    now = utc_now()
    secret = rotate_endpoint_secret(
        engine=service.engine, endpoint_id=endpoint_id, overlap=overlap, by=by, now=now
    )
    return {"endpoint_id": endpoint_id, "secret": secret, "old_secret_ends_at": time_text(now + overlap)}


@router.post(
    "/webhook-endpoints/{endpoint_id}/test", operation_id="testWebhookEndpoint", summary="Test a webhook endpoint"
)
@needs(Scope.WEBHOOKS_WRITE)
@raises(UnknownEndpointError)
def try_out(endpoint_id: EndpointPath, service: TheService) -> Delivery:
    """Send an endpoint a message of type `webhook.test`, once, and answer with its delivery."""
    return delivery_shape(try_endpoint(sender=build_webhook_sender(service), endpoint_id=endpoint_id))


@router.get("/webhook-deliveries", operation_id="listWebhookDeliveries", summary="List webhook deliveries")
@needs(Scope.WEBHOOKS_READ)
def read_deliveries(
    connection: Db,
    endpoint_id: Annotated[Text | None, Query(description="Only deliveries to this endpoint.")] = None,
    customer_id: Annotated[Text | None, Query(description="Only messages about this customer.")] = None,
    message_id: Annotated[Text | None, Query(description="Only deliveries of this message.")] = None,
    type: Annotated[Text | None, Query(description="Only this type.", examples=["alert.spend"])] = None,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT)] = None,
) -> Page[Delivery]:
    """Deliveries, the newest first, as long as METERING_ALERTS_RETENTION keeps them."""
    position = decode_cursor(cursor, length=2)
    where = DeliveryFilter(
        endpoint_id=endpoint_id,
        customer_id=customer_id,
        message_id=message_id,
        type=type,
        state=state.value if state else None,
    )
    before = (parse_time(position[0]), position[1]) if position else None
    found = list_deliveries(connection, where=where, before=before, limit=limit + 1)
    return page_of(
        found,
        limit=limit,
        shape=delivery_shape,
        position=lambda each: [time_part(each.created_at), each.delivery_id],
    )


@router.get(
    "/webhook-deliveries/{delivery_id}", operation_id="getWebhookDelivery", summary="Get a webhook delivery"
)
@needs(Scope.WEBHOOKS_READ)
@raises(UnknownDeliveryError)
def read_delivery(delivery_id: DeliveryPath, connection: Db) -> Delivery:
    """One delivery."""
    return delivery_shape(get_delivery(connection, delivery_id=delivery_id))


@router.post(
    "/webhook-deliveries/{delivery_id}/replay",
    status_code=202,
    operation_id="replayWebhookDelivery",
    summary="Replay a webhook delivery",
)
@needs(Scope.WEBHOOKS_WRITE)
@raises(UnknownDeliveryError, UnknownEndpointError, EndpointDisabledError)
def replay(delivery_id: DeliveryPath, by: By, service: TheService) -> Delivery:
    """Send the same message to the same endpoint again, under its id; answers with the new delivery."""
    return delivery_shape(replay_delivery(engine=service.engine, delivery_id=delivery_id, by=by, now=utc_now()))
