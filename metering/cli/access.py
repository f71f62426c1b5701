"""`metering keys`: API keys. `metering reader`: PostgreSQL logins that read the reporting views."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from sqlalchemy import make_url

from metering.access.keys import Key
from metering.access.manage_access import NewKey, issue_key, limit_key, revoke_key, rotate_key
from metering.access.manage_readers import create_reader, drop_reader
from metering.access.scopes import Role, Scope
from metering.access.store.keys import list_keys
from metering.access.store.readers import list_readers
from metering.cli.known import customer_hint, say_hint
from metering.cli.options import AsJson, time_text
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.db.engine import transaction
from metering.server.bootstrap import build_owner_engine, build_service, database_url
from metering.server.settings import Settings, load_settings
from metering.server.terminal.output import done, say, show, show_one

keys = typer.Typer()
reader = typer.Typer()

KeyId = Annotated[str, typer.Argument(help="The key's ID: the part between its underscores.")]
ReaderName = Annotated[str, typer.Argument(help="The login's name, e.g. grafana.")]


@keys.command("create", epilog="Example: metering keys create --role read --customer acme --name 'Acme portal'")
def create_one_key(
    role: Annotated[
        Role,
        typer.Option(
            help="ingest: post events. read: read everything. admin: read and change everything."
            " custom: what --scope lists."
        ),
    ],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    customer: Annotated[
        str | None, typer.Option(help="Bind the key to one customer. Not with --role admin.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Bind a key that posts events to one source, e.g. /gateways/eu-1.")
    ] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Only with --role custom: what the key may do. Repeat it for more.")
    ] = None,
    expires: Annotated[datetime | None, typer.Option(help="Refused from this time on, in UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and show it once."""
    new = NewKey(
        role=role,
        name=name or role.value,
        scopes=scope or (),
        customer_id=customer,
        source=source,
        expires_at=expires.replace(tzinfo=UTC) if expires else None,
    )
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        hint = customer_hint(connection, customer)
    key, secret = issue_key(engine=service.engine, new=new, by=operator(), now=utc_now())
    say_hint(hint)
    if as_json:
        show_one({"key_id": key.key_id, "key": str(secret), "role": role.value}, as_json=True)
        return
    say(f"key with role {role}, shown only once:")
    print(secret)


@keys.command("list")
def list_all_keys(as_json: AsJson = False) -> None:
    """List all keys, without their secrets."""
    with database() as connection:
        found = list_keys(connection)
    show(
        [_key_row(key) for key in found],
        as_json=as_json,
        empty="no keys yet: create one, `metering keys create`",
        important=("key_id", "role", "name", "state", "customer_id", "last_used_at"),
    )


@keys.command("rotate", epilog="Example: metering keys rotate 3f2a9c1e --overlap-hours 24")
def rotate_one_key(
    key_id: KeyId,
    overlap_hours: Annotated[
        int,
        typer.Option(
            min=0, max=720, help="Hours in which the old secret is accepted too. Use 0 if it has leaked."
        ),
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret, under the same ID, and show it once."""
    service = build_service(load_settings())
    overlap = timedelta(hours=overlap_hours)
    key, secret = rotate_key(engine=service.engine, key_id=key_id, overlap=overlap, by=operator(), now=utc_now())
    ends_at = time_text(key.old_secret_ends_at)
    if as_json:
        show_one({"key_id": key_id, "key": str(secret), "old_secret_ends_at": ends_at}, as_json=True)
        return
    say(f"the old secret ends at {ends_at}; the new one, shown only once:")
    print(secret)


@keys.command("revoke", epilog="Example: metering keys revoke 3f2a9c1e")
def revoke_one_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """Revoke a key for good. Running servers refuse it within 5 seconds."""
    revoke_key(engine=build_service(load_settings()).engine, key_id=key_id, by=operator(), now=utc_now())
    done(f"revoked {key_id}", {"key_id": key_id, "state": "revoked"}, as_json=as_json)


@keys.command("limit", epilog="Example: metering keys limit 3f2a9c1e --events-per-second 20000")
def limit_one_key(
    key_id: KeyId,
    events_per_second: Annotated[int | None, typer.Option(min=0, help="Events a second, averaged.")] = None,
    requests_per_second: Annotated[int | None, typer.Option(min=0, help="Requests a second, averaged.")] = None,
    concurrent_requests: Annotated[int | None, typer.Option(min=0, help="Requests in progress at a time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Set the limits of a key, in each API process. 0 removes a limit: METERING_KEY_… applies again.

    Limits that are not given stay as they are. Running servers apply them within seconds.
    """
    given = {
        "events_per_second": events_per_second,
        "requests_per_second": requests_per_second,
        "concurrent_requests": concurrent_requests,
    }
    changes = {name: value or None for name, value in given.items() if value is not None}
    engine = build_service(load_settings()).engine
    key = limit_key(engine=engine, key_id=key_id, changes=changes, by=operator(), now=utc_now())
    show_one({"key_id": key_id, **asdict(key.limits)}, as_json=as_json)


def _key_row(key: Key) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "role": key.role.value,
        "scopes": " ".join(key.listed) if key.listed else None,
        "customer_id": key.customer_id,
        "source": key.source,
        "name": key.name,
        "state": key.state(utc_now()).value,
        "created_at": time_text(key.created_at),
        "last_used_at": time_text(key.last_used_at),
        "expires_at": time_text(key.expires_at),
        "old_secret_ends_at": time_text(key.old_secret_ends_at),
        "revoked_at": time_text(key.revoked_at),
        **asdict(key.limits),
    }


@reader.command("create", epilog="Example: metering reader create grafana")
def create_one_reader(name: ReaderName, as_json: AsJson = False) -> None:
    """Create a login and show its password once. Needs the owner's login, like `metering migrate`."""
    settings = load_settings()
    password = create_reader(owner=build_owner_engine(settings), name=name, by=operator(), now=utc_now())
    url = make_url(database_url(settings))._replace(username=name, password=None).render_as_string()
    login = {"user": name, "password": password, "database": _without_login(settings), "url": url}
    if as_json:
        show_one(login, as_json=True)
        return
    say(f"login {name}, reads the schema reporting; its password, shown only once:")
    print(password, flush=True)
    say(f"connect with: psql '{url}'")
    if settings.database_url is None:
        say("the embedded PostgreSQL listens only on this socket and does not ask for the password there")


@reader.command("list")
def list_all_readers(as_json: AsJson = False) -> None:
    """List all logins."""
    with transaction(build_owner_engine(load_settings())) as connection:
        found = list_readers(connection)
    rows = [{"user": name} for name in found]
    show(rows, as_json=as_json, empty="no readers yet: create one, `metering reader create`")


@reader.command("drop", epilog="Example: metering reader drop grafana")
def drop_one_reader(name: ReaderName, as_json: AsJson = False) -> None:
    """Remove a login."""
    drop_reader(owner=build_owner_engine(load_settings()), name=name, by=operator(), now=utc_now())
    done(f"dropped {name}", {"user": name, "state": "dropped"}, as_json=as_json)


def _without_login(settings: Settings) -> str:
    """The database's URL without user and password."""
    url = make_url(database_url(settings))
    return url._replace(username=None, password=None).render_as_string()
