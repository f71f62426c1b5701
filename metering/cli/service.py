"""How commands reach the configured service, and in whose name they change it."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gethostname

from sqlalchemy import Connection, make_url

from metering.access.actors import Actor
from metering.db.engine import transaction
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings


def operator() -> Actor:
    """The author of what commands change: the user of the operating system, on this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return Actor(name=f"the command line, {user}", door="cli", address=gethostname())


@contextmanager
def database() -> Iterator[Connection]:
    """A transaction on the configured database."""
    with transaction(build_service(load_settings()).engine) as connection:
        yield connection


def redact_url(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)
