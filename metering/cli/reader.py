"""`metering reader`: logins of PostgreSQL that read the reporting views, for Grafana, Metabase and psql."""

from typing import Annotated

import typer
from sqlalchemy import make_url

from metering.access.manage_access import create_reader
from metering.access.store.readers import drop_reader, list_readers
from metering.cli.output import AsJson, say, show, show_one
from metering.db.engine import transaction
from metering.server.bootstrap import build_owner_engine, database_url
from metering.server.settings import Settings, load_settings

app = typer.Typer(help="Logins that read the reporting views, and nothing else.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The login's name, such as grafana.")]


@app.command("create")
def create(name: Name, as_json: AsJson = False) -> None:
    """Create a login and show its password once. Needs the owner's login, as `metering migrate` does."""
    settings = load_settings()
    password = create_reader(owner=build_owner_engine(settings), name=name)
    login = {"user": name, "password": password, "database": _without_login(settings)}
    if as_json:
        show_one(login, as_json=True)
        return
    say(f"a login that reads the schema reporting of {login['database']}; its password, shown only now:")
    print(password)
    if settings.database_url is None:
        say("the embedded PostgreSQL listens on this socket only, and asks nobody there for a password")


@app.command("list")
def list_them(as_json: AsJson = False) -> None:
    """List all readers."""
    with transaction(build_owner_engine(load_settings())) as connection:
        found = list_readers(connection)
    show([{"user": name} for name in found], as_json=as_json, empty="no readers yet: `metering reader create`")


@app.command("drop")
def drop(name: Name) -> None:
    """Remove a reader's login."""
    with transaction(build_owner_engine(load_settings())) as connection:
        drop_reader(connection, name=name)
    say(f"dropped {name}")


def _without_login(settings: Settings) -> str:
    """Where the database is, for somebody else to log in to."""
    url = make_url(database_url(settings))
    return url._replace(username=None, password=None).render_as_string()
