"""The reporting views as a reader sees them."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.database import Database

Row = dict[str, Any]


def read(database: Database, query: str, *, time_zone: str = "UTC") -> list[Row]:
    """The rows of a query, asked with a reader's privileges only."""
    options = f"-c role=metering_reader -c search_path=reporting -c timezone={time_zone}"
    with psycopg.connect(database.url, options=options, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()
