"""`/v1/webhook-endpoints` and `/v1/webhook-deliveries`: where alerts are told, and the log of it; for admins."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from metering.alerts.deliveries import DeliveryState
from metering.alerts.manage_endpoints import (
    EndpointChanges,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    rotate_endpoint_secret,
)
from metering.alerts.queries.webhooks import DeliveryFilter, list_deliveries, list_endpoints
from metering.alerts.replay_webhooks import replay_delivery
from metering.alerts.send_webhooks import try_endpoint
from metering.alerts.store.deliveries import get_delivery
from metering.alerts.store.endpoints import get_endpoint
from metering.api.alert_shapes import delivery_shape, endpoint_shape
from metering.api.auth import Admin
from metering.api.fields import Id
from metering.api.paging import Cursor, Limit, page_of
from metering.api.reading import Db, TheService
from metering.api.shapes import Page, time_text
from metering.api.stream_paths import text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, moment_in
from metering.server.bootstrap import build_webhook_sender

router = APIRouter(prefix="/v1", tags=["webhooks"])

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Description = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00]*$")]
Types = Annotated[list[str], Field(max_length=20)]


class EndpointInput(BaseModel):
    """A new endpoint; without types it gets all of them."""

    url: Url
    description: Description = ""
    types: Types = []


class EndpointPatch(BaseModel):
    """What is to change of an endpoint; what is left out stays. Enabling it forgets its failures."""

    url: Url | None = None
    description: Description | None = None
    types: Types | None = None
    enabled: bool | None = None


class RotationInput(BaseModel):
    """For how long the old secret signs beside the new one; 0 ends it at once."""

    overlap_hours: Annotated[int, Field(ge=0, le=168)] = 24


@router.get("/webhook-endpoints")
def read_endpoints(_: Admin, connection: Db) -> Page:
    """All endpoints, the oldest first, without their secrets."""
    return Page(data=[endpoint_shape(endpoint) for endpoint in list_endpoints(connection)], next_cursor=None)


@router.post("/webhook-endpoints", status_code=201)
def write_endpoint(given: EndpointInput, key: Admin, service: TheService) -> dict[str, Any]:
    """Have messages sent to a URL from now on. The secret that signs them is in this answer, and never again."""
    endpoint, secret = create_endpoint(
        engine=service.engine,
        url=given.url,
        description=given.description,
        types=given.types,
        allow_private=service.settings.webhooks_allow_private,
        created_by=f"key {key.key_id}",
        now=utc_now(),
    )
    return {**endpoint_shape(endpoint), "secret": secret}


@router.get("/webhook-endpoints/{endpoint_id}")
def read_endpoint(endpoint_id: Id, _: Admin, connection: Db) -> dict[str, Any]:
    """One endpoint, and how it does."""
    return endpoint_shape(get_endpoint(connection, endpoint_id=endpoint_id))


@router.patch("/webhook-endpoints/{endpoint_id}")
def patch_endpoint(endpoint_id: Id, given: EndpointPatch, key: Admin, service: TheService) -> dict[str, Any]:
    """Change an endpoint, or disable and enable it."""
    endpoint = change_endpoint(
        engine=service.engine,
        endpoint_id=endpoint_id,
        changes=EndpointChanges(
            url=given.url, description=given.description, types=given.types, enabled=given.enabled
        ),
        allow_private=service.settings.webhooks_allow_private,
        changed_by=f"key {key.key_id}",
        now=utc_now(),
    )
    return endpoint_shape(endpoint)


@router.delete("/webhook-endpoints/{endpoint_id}", status_code=204)
def remove_endpoint(endpoint_id: Id, _: Admin, service: TheService) -> None:
    """End an endpoint, and forget its secrets."""
    delete_endpoint(engine=service.engine, endpoint_id=endpoint_id, now=utc_now())


@router.post("/webhook-endpoints/{endpoint_id}/rotate-secret")
def rotate_secret(
    endpoint_id: Id, _: Admin, service: TheService, given: RotationInput | None = None
) -> dict[str, Any]:
    """Give an endpoint a new secret, told only now; for a while messages are signed by the old one as well."""
    overlap = timedelta(hours=(given or RotationInput()).overlap_hours)
    now = utc_now()
    secret = rotate_endpoint_secret(engine=service.engine, endpoint_id=endpoint_id, overlap=overlap, now=now)
    return {"endpoint_id": endpoint_id, "secret": secret, "old_secret_ends_at": time_text(now + overlap)}


@router.post("/webhook-endpoints/{endpoint_id}/test")
def try_out(endpoint_id: Id, _: Admin, service: TheService) -> dict[str, Any]:
    """Send an endpoint a message of type `webhook.test`, once, and say what came of it."""
    return delivery_shape(try_endpoint(sender=build_webhook_sender(service), endpoint_id=endpoint_id))


@router.get("/webhook-deliveries")
def read_deliveries(
    _: Admin,
    connection: Db,
    endpoint_id: str | None = None,
    customer_id: str | None = None,
    message_id: str | None = None,
    type: str | None = None,
    state: DeliveryState | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """What was sent where and what came of it, the newest first, as long as METERING_ALERTS_RETENTION keeps it."""
    position = decode_cursor(cursor, length=2)
    where = DeliveryFilter(
        endpoint_id=text_of(endpoint_id),
        customer_id=text_of(customer_id),
        message_id=text_of(message_id),
        type=text_of(type),
        state=state.value if state else None,
    )
    before = (moment_in(position[0]), position[1]) if position else None
    found = list_deliveries(connection, where=where, before=before, limit=limit + 1)
    return page_of(
        found,
        limit=limit,
        shape=delivery_shape,
        position=lambda each: [each.created_at.isoformat(), each.delivery_id],
    )


@router.get("/webhook-deliveries/{delivery_id}")
def read_delivery(delivery_id: Id, _: Admin, connection: Db) -> dict[str, Any]:
    """One delivery."""
    return delivery_shape(get_delivery(connection, delivery_id=delivery_id))


@router.post("/webhook-deliveries/{delivery_id}/replay", status_code=202)
def replay(delivery_id: Id, _: Admin, service: TheService) -> dict[str, Any]:
    """Have the same message sent to the same endpoint again, under its id; the delivery that does it."""
    return delivery_shape(replay_delivery(engine=service.engine, delivery_id=delivery_id, now=utc_now()))
