"""Create and drop SQL readers. A password is shown once."""

import secrets
from datetime import datetime

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.access.store.readers import add_reader
from metering.access.store.readers import drop_reader as drop_login
from metering.db.engine import transaction


def create_reader(*, owner: Engine, name: str, by: Author, now: datetime) -> str:
    """Create a SQL reader and return its password, which cannot be shown again.

    Raises:
        InvalidReaderNameError, ReaderExistsError, ReaderRefusedError: see `add_reader`.
    """
    password = secrets.token_hex(24)
    with transaction(owner) as connection:
        add_reader(connection, name=name, password=password)
        log_action(connection, by=by, now=now, kind="reader", action="create", subject=name)
    return password


def drop_reader(*, owner: Engine, name: str, by: Author, now: datetime) -> None:
    """Remove a reader. Other logins cannot be removed.

    Raises:
        UnknownReaderError, ReaderRefusedError: see `store.readers.drop_reader`.
    """
    with transaction(owner) as connection:
        drop_login(connection, name=name)
        log_action(connection, by=by, now=now, kind="reader", action="drop", subject=name)
