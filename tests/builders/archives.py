"""Books with two closed months, and their archives: written, removed and restored as an operator does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import text

import migrations
from metering.archive.manifest import Manifest
from metering.archive.remove_archived import Removed, remove_archived
from metering.archive.restore_archive import Restored, restore_archive, restore_stream
from metering.archive.write_archive import Code, write_archive
from metering.core.period import BillingPeriod
from metering.db.engine import owner_engine, transaction
from tests.builders.books import Books
from tests.builders.events import NOW, delivered, end, start

SEPTEMBER = datetime(2026, 9, 10, 12, tzinfo=UTC)
LATE_SEPTEMBER = datetime(2026, 9, 30, 23, 59, 50, tzinfo=UTC)
# Not before the rates were stored.
BOOKED = datetime(2026, 11, 5, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 10, 12, tzinfo=UTC)

CODE = Code(release="0.0", schema_version=migrations.HEAD)


def file_two_months(books: Books) -> None:
    """September and October are closed. September has two final streams, one that waits, one that goes on."""
    for stream_id, at in (("first", SEPTEMBER), ("second", SEPTEMBER), ("third", OCTOBER)):
        ended = end(stream_id, time=at + timedelta(seconds=4))
        books.receive(
            [start(stream_id, time=at, tags={"team": stream_id}), delivered(stream_id, time=at), ended],
            at=at + timedelta(seconds=5),
        )
    # Its second half arrives in October.
    books.receive([start("across", time=LATE_SEPTEMBER)], at=LATE_SEPTEMBER)
    across = LATE_SEPTEMBER + timedelta(seconds=30)
    books.receive([end("across", time=across)], at=across)
    books.receive([end("orphan", time=SEPTEMBER)], at=SEPTEMBER)
    books.finalize(now=BOOKED)
    with transaction(books.service.engine) as connection:
        connection.execute(text("UPDATE customers SET created_at = '2026-09-01T00:00:00Z'"))
    for period in ("2026-09", "2026-10"):
        assert books.close(period, now=BOOKED, force_reason="the orphan's start is lost") == {}


class Archives:
    """The archives of a service, in a folder."""

    def __init__(self, books: Books, folder: Path) -> None:
        self.books = books
        self.owner = owner_engine(books.database.url)
        self._folder = folder

    def folder(self, month: str) -> Path:
        return self._folder / month

    def write(self, month: str, **changes: Any) -> Manifest:
        terms = {
            "engine": self.books.service.engine,
            "month": BillingPeriod.parse(month),
            "folder": self.folder(month),
            "code": CODE,
            "now": NOW,
            **changes,
        }
        return write_archive(**terms)

    def remove(self, month: str) -> Removed:
        return remove_archived(owner=self.owner, folder=self.folder(month), by="test", now=NOW)

    def move(self, month: str) -> Removed:
        self.write(month)
        return self.remove(month)

    def restore(self, month: str, *stream: str) -> Restored:
        terms: dict[str, Any] = {
            "owner": self.owner,
            "folder": self.folder(month),
            "abandon_after": self.books.service.waits.abandon_after,
            "by": "test",
            "now": NOW,
        }
        if stream:
            return restore_stream(**terms, customer_id=stream[0], stream_id=stream[1])
        return restore_archive(**terms)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table; a body of the journal inflated, since packing it again may give other bytes."""
        with psycopg.connect(self.books.database.url, row_factory=dict_row) as connection:
            rows = connection.execute(f"SELECT t.* FROM {table} t").fetchall()  # type: ignore[arg-type]
        return sorted(rows, key=str)
