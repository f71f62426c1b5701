"""Books with two closed months: what can be archived, and what has to stay."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from metering.db.engine import transaction
from tests.archive.archives import BOOKED, LATE_SEPTEMBER, OCTOBER, SEPTEMBER
from tests.builders import Books
from tests.builders.events import delivered, end, start


@pytest.fixture
def filed(books: Books) -> Books:
    """September and October are closed. September has two final streams, and one each that waits or goes on."""
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
    return books
