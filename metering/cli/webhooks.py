"""`metering webhooks`: endpoints that receive alerts, their secrets, and the delivery log."""

import sys
from datetime import datetime, timedelta
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
from metering.cli.options import AsJson, Limit, time_text, utc_or
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.server.bootstrap import build_service
from metering.server.outgoing import build_webhook_sender
from metering.server.settings import load_settings
from metering.server.terminal.output import done, say, show, show_one

app = typer.Typer()

EndpointId = Annotated[str, typer.Argument(help="The endpoint's ID, whe_….")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only this message type, e.g. alert.spend; repeatable."),
]


@app.command(
    "create", epilog="Example: metering webhooks create https://hooks.example.com/metering --type alert.spend"
)
def create(
    url: Annotated[str, typer.Argument(help="The URL, https://….")],
    description: Annotated[str, typer.Option(help="What the endpoint is for.")] = "",
    type: Types = None,
    as_json: AsJson = False,
) -> None:
    """Create an endpoint that receives messages from now on, and show its signing secret once."""
    service = build_service(load_settings())
    endpoint, secret = create_endpoint(
        engine=service.engine,
        url=url,
        description=description,
        types=type or (),
        allow_private=service.settings.webhooks_allow_private,
        created_by=operator(),
        now=utc_now(),
    )
    if as_json:
        show_one({**_endpoint_row(endpoint), "secret": secret}, as_json=True)
        return
    say(f"endpoint {endpoint.endpoint_id}; its secret, shown only once:")
    print(secret)


@app.command("list")
def list_them(as_json: AsJson = False) -> None:
    """List endpoints with their state, without secrets."""
    with database() as connection:
        found = list_endpoints(connection)
    rows = [_endpoint_row(each) for each in found]
    show(
        rows,
        as_json=as_json,
        empty="no endpoints: create one, `metering webhooks create`",
        important=("endpoint_id", "url", "enabled"),
    )


@app.command("set")
def set_one(
    endpoint_id: EndpointId,
    url: Annotated[str | None, typer.Option(help="The URL, https://….")] = None,
    description: Annotated[str | None, typer.Option(help="What the endpoint is for.")] = None,
    type: Types = None,
    all_types: Annotated[bool, typer.Option("--all-types", help="All message types.")] = False,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Enable or disable the endpoint.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the given properties. Enabling resets failures; `replay` sends missed messages."""
    service = build_service(load_settings())
    endpoint = change_endpoint(
        engine=service.engine,
        endpoint_id=endpoint_id,
        changes=EndpointChanges(
            url=url, description=description, types=() if all_types else type or None, enabled=enabled
        ),
        allow_private=service.settings.webhooks_allow_private,
        changed_by=operator(),
        now=utc_now(),
    )
    show_one(_endpoint_row(endpoint), as_json=as_json)


@app.command("delete")
def delete(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Delete an endpoint and its secrets."""
    engine = build_service(load_settings()).engine
    delete_endpoint(engine=engine, endpoint_id=endpoint_id, by=operator(), now=utc_now())
    done(f"deleted {endpoint_id}", {"endpoint_id": endpoint_id, "state": "deleted"}, as_json=as_json)


@app.command("rotate")
def rotate(
    endpoint_id: EndpointId,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=168, help="Hours in which the old secret signs too. Use 0 if it has leaked.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new secret and show it once."""
    engine = build_service(load_settings()).engine
    overlap, now = timedelta(hours=overlap_hours), utc_now()
    secret = rotate_endpoint_secret(
        engine=engine, endpoint_id=endpoint_id, overlap=overlap, by=operator(), now=now
    )
    ends_at = time_text(now + overlap)
    if as_json:
        show_one({"endpoint_id": endpoint_id, "secret": secret, "old_secret_ends_at": ends_at}, as_json=True)
        return
    say(f"the old secret ends at {ends_at}; the new one, shown only once:")
    print(secret)


@app.command("test")
def send_test(endpoint_id: EndpointId, as_json: AsJson = False) -> None:
    """Send a message of type webhook.test, once. Exit code 1: it was not delivered."""
    delivery = try_endpoint(sender=build_webhook_sender(build_service(load_settings())), endpoint_id=endpoint_id)
    show_one(_delivery_row(delivery), as_json=as_json)
    if delivery.state is not DeliveryState.DELIVERED:
        sys.exit(1)


@app.command("log")
def log(
    endpoint: Annotated[str | None, typer.Option(help="Only this endpoint.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List deliveries with their result, newest first."""
    where = DeliveryFilter(endpoint_id=endpoint, state=state.value if state else None)
    with database() as connection:
        found = list_deliveries(connection, where=where, before=None, limit=limit)
    show(
        [_delivery_row(each) for each in found],
        as_json=as_json,
        empty="no deliveries" if endpoint is None and state is None else "no deliveries match",
        important=("created_at", "delivery_id", "state", "problem"),
    )


@app.command("replay", epilog="Example: metering webhooks replay --endpoint whe_… --since 2026-11-20")
def replay(
    delivery_id: Annotated[str | None, typer.Argument(help="The delivery's ID, whd_….")] = None,
    endpoint: Annotated[str | None, typer.Option(help="All failed deliveries of this endpoint.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="With --endpoint: failed since this time, in UTC. Default: 24 hours ago."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a message again under its ID, or all that an endpoint has missed, up to 1,000 at a time."""
    if (delivery_id is None) == (endpoint is None):
        raise typer.BadParameter("give either a delivery or --endpoint")
    engine, now = build_service(load_settings()).engine, utc_now()
    if delivery_id is not None:
        again = replay_delivery(engine=engine, delivery_id=delivery_id, by=operator(), now=now)
        done(f"{again.delivery_id} will be sent again", {"delivery_id": again.delivery_id}, as_json=as_json)
    elif endpoint is not None:
        begin = utc_or(since, now - timedelta(days=1))
        count = replay_failed(engine=engine, endpoint_id=endpoint, since=begin, by=operator(), now=now)
        done(f"{count:,} messages will be sent again", {"messages": count}, as_json=as_json)


def _endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint.endpoint_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "types": ", ".join(endpoint.types or ["all"]),
        "enabled": endpoint.disabled_at is None,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": time_text(endpoint.failing_since),
        "last_problem": endpoint.last_problem,
    }


def _delivery_row(delivery: Delivery) -> dict[str, Any]:
    return {
        "created_at": time_text(delivery.created_at),
        "delivery_id": delivery.delivery_id,
        "endpoint_id": delivery.endpoint_id,
        "type": delivery.type,
        "customer_id": delivery.customer_id or None,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due_at": time_text(delivery.due_at),
        "status": delivery.response_status,
        "problem": delivery.problem,
    }
