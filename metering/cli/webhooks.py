"""`metering webhooks`: the endpoints that alerts are told to, their secrets, and the log of what was sent."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from metering.alerts.deliveries import DeliveryState
from metering.alerts.manage_endpoints import (
    EndpointChanges,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    rotate_endpoint_secret,
)
from metering.alerts.queries.webhooks import DeliveryFilter, list_deliveries, list_endpoints
from metering.alerts.replay_webhooks import replay_delivery, replay_failed
from metering.alerts.send_webhooks import try_endpoint
from metering.alerts.store.deliveries import Delivery
from metering.alerts.store.endpoints import Endpoint
from metering.cli.output import AsJson, say, show, show_one
from metering.core.clock import utc_now
from metering.db.engine import transaction
from metering.server.bootstrap import build_service, build_webhook_sender
from metering.server.settings import load_settings

app = typer.Typer(help="Webhooks: where alerts are told, signed by Standard Webhooks.", no_args_is_help=True)

EndpointId = Annotated[str, typer.Argument(help="The endpoint, whe_….")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only this type of message, e.g. alert.spend; several times for several."),
]
BY = "the command line"


@app.command("create")
def create(
    url: Annotated[str, typer.Argument(help="https://…")],
    description: Annotated[str, typer.Option(help="Whose it is.")] = "",
    type: Types = None,
    as_json: AsJson = False,
) -> None:
    """Have messages sent to a URL from now on, and show the secret that signs them, once."""
    service = build_service(load_settings())
    endpoint, secret = create_endpoint(
        engine=service.engine,
        url=url,
        description=description,
        types=type or (),
        allow_private=service.settings.webhooks_allow_private,
        created_by=BY,
        now=utc_now(),
    )
    if as_json:
        show_one({**_endpoint_row(endpoint), "secret": secret}, as_json=True)
        return
    say(f"endpoint {endpoint.endpoint_id}; its secret, shown only now:")
    print(secret)


@app.command("list")
def list_them(as_json: AsJson = False) -> None:
    """List endpoints and how they do, without their secrets."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = list_endpoints(connection)
    rows = [_endpoint_row(each) for each in found]
    show(rows, as_json=as_json, empty="no endpoints: `metering webhooks create`")


@app.command("set")
def set_one(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(help="https://…")] = None,
    description: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    type: Types = None,
    all_types: Annotated[bool, typer.Option("--all-types", help="Every type of message.")] = False,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch it on or off.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. Enabling forgets failures; `replay` sends what was missed."""
    service = build_service(load_settings())
    endpoint = change_endpoint(
        engine=service.engine,
        endpoint_id=endpoint_id,
        changes=EndpointChanges(
            url=url, description=description, types=() if all_types else type or None, enabled=enabled
        ),
        allow_private=service.settings.webhooks_allow_private,
        changed_by=BY,
        now=utc_now(),
    )
    show_one(_endpoint_row(endpoint), as_json=as_json)


@app.command("delete")
def delete(endpoint_id: EndpointId) -> None:
    """End an endpoint, and forget its secrets."""
    delete_endpoint(engine=build_service(load_settings()).engine, endpoint_id=endpoint_id, now=utc_now())
    say(f"deleted {endpoint_id}")


@app.command("rotate")
def rotate(
    endpoint_id: EndpointId,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=168, help="So long the old secret signs as well; 0 when it has leaked.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new secret, and show it once."""
    engine = build_service(load_settings()).engine
    overlap, now = timedelta(hours=overlap_hours), utc_now()
    secret = rotate_endpoint_secret(engine=engine, endpoint_id=endpoint_id, overlap=overlap, now=now)
    ends_at = (now + overlap).isoformat(timespec="seconds")
    if as_json:
        show_one({"endpoint_id": endpoint_id, "secret": secret, "old_secret_ends_at": ends_at}, as_json=True)
        return
    say(f"the old secret ends at {ends_at}; the new one, shown only now:")
    print(secret)


@app.command("test")
def try_out(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Send an endpoint a message of type webhook.test, now and once. Exit code 1 when it does not take it."""
    delivery = try_endpoint(sender=build_webhook_sender(build_service(load_settings())), endpoint_id=endpoint_id)
    show_one(_delivery_row(delivery), as_json=as_json)
    if delivery.state is not DeliveryState.DELIVERED:
        sys.exit(1)


@app.command("log")
def log(
    endpoint: Annotated[str | None, typer.Option(help="Only of this endpoint.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what was sent where and what came of it, the newest first."""
    service = build_service(load_settings())
    where = DeliveryFilter(endpoint_id=endpoint, state=state.value if state else None)
    with transaction(service.engine) as connection:
        found = list_deliveries(connection, where=where, before=None, limit=limit)
    show([_delivery_row(each) for each in found], as_json=as_json, empty="nothing was sent")


@app.command("replay")
def replay(
    delivery_id: Annotated[str | None, typer.Argument(help="The delivery, whd_….")] = None,
    endpoint: Annotated[str | None, typer.Option(help="All that this endpoint has missed.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Missed since then, in UTC. Default: a day ago.")] = None,
) -> None:
    """Have a message sent again under its id, or all that an endpoint has missed, up to 1,000 at a time."""
    if (delivery_id is None) == (endpoint is None):
        raise typer.BadParameter("give a delivery, or --endpoint")
    engine, now = build_service(load_settings()).engine, utc_now()
    if delivery_id is not None:
        again = replay_delivery(engine=engine, delivery_id=delivery_id, now=now)
        say(f"{again.delivery_id} is on its way")
    elif endpoint is not None:
        begin = since.replace(tzinfo=UTC) if since else now - timedelta(days=1)
        count = replay_failed(engine=engine, endpoint_id=endpoint, since=begin, now=now)
        say(f"{count:,} messages are on their way")


def _endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "types": ", ".join(endpoint.types or ["all"]),
        "enabled": endpoint.disabled_at is None,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": endpoint.failing_since.isoformat(timespec="seconds") if endpoint.failing_since else None,
        "last_problem": endpoint.last_problem,
    }


def _delivery_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "created_at": delivery.created_at.isoformat(timespec="seconds"),
        "delivery_id": delivery.delivery_id,
        "endpoint_id": delivery.endpoint_id,
        "type": delivery.type,
        "customer_id": delivery.customer_id or None,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due_at": delivery.due_at.isoformat(timespec="seconds") if delivery.due_at else None,
        "status": delivery.response_status,
        "problem": delivery.problem,
    }
