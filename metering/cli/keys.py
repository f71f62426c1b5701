"""`metering keys`: create, list and revoke keys."""

from typing import Annotated, Any

import typer

from metering.access.manage_access import create_key
from metering.access.store.keys import Key, Role, list_keys, revoke_key
from metering.cli.output import AsJson, say, show, show_one
from metering.core.clock import utc_now
from metering.db.engine import transaction
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings

app = typer.Typer(help="Keys for the API.", no_args_is_help=True)


@app.command("create")
def create(
    role: Annotated[Role, typer.Option(help="ingest posts events, read reads, admin does everything.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    customer: Annotated[str | None, typer.Option(help="Bind a read key to one customer.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and show it once."""
    service = build_service(load_settings())
    secret = create_key(
        engine=service.engine, role=role, name=name or role.value, customer_id=customer, now=utc_now()
    )
    if as_json:
        show_one({"key_id": secret.key_id, "key": str(secret), "role": role.value}, as_json=True)
        return
    say(f"a key with role {role}, shown only now:")
    print(secret)


@app.command("list")
def list_them(as_json: AsJson = False) -> None:
    """List all keys, without their secrets."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = list_keys(connection)
    show([_row(key) for key in found], as_json=as_json, empty="no keys yet: `metering keys create`")


@app.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(help="The id, between the two underscores.")]) -> None:
    """End a key's life; running servers refuse it within seconds."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        revoke_key(connection, key_id=key_id, now=utc_now())
    say(f"revoked {key_id}")


def _row(key: Key) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "role": key.role.value,
        "customer_id": key.customer_id,
        "name": key.name,
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "revoked_at": key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else None,
    }
