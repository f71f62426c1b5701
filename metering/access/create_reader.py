"""Create a reader: a login for reporting, with a password that is told once."""

import secrets

from sqlalchemy import Engine

from metering.access.store.readers import add_reader
from metering.db.engine import transaction


def create_reader(*, owner: Engine, name: str) -> str:
    """Make the login and return its password, which cannot be shown again.

    Raises:
        InvalidReaderNameError, ReaderExistsError, ReaderRefusedError: see store/readers.py.
    """
    password = secrets.token_hex(24)
    with transaction(owner) as connection:
        add_reader(connection, name=name, password=password)
    return password
