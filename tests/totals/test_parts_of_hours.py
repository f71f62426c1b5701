"""Totals of ranges that begin or end within an hour: half-open to the microsecond."""

from datetime import datetime, timedelta

import pytest

from metering.db.engine import transaction
from metering.totals.queries.question import TotalsQuestion
from metering.totals.queries.totals import read_totals
from tests.builders import Books
from tests.builders.events import T0, end, start

INSTANT = timedelta(microseconds=1)
ENDED = T0 + timedelta(minutes=20, seconds=4)


def count(books: Books, from_: datetime, to: datetime) -> int:
    with transaction(books.service.engine) as connection:
        rows = read_totals(connection, question=TotalsQuestion(from_=from_, to=to), accruals=[])
    return sum(row.stream_count for row in rows)


@pytest.mark.parametrize("hours", [0, 2], ids=["within an hour", "over several hours"])
def test_a_stream_is_in_the_range_that_begins_at_its_end_and_not_in_the_one_that_ends_there(
    books: Books, hours: int
) -> None:
    books.receive([start(time=T0 + timedelta(minutes=20)), end(time=ENDED)])
    books.finalize()
    before, after = ENDED - timedelta(hours=hours, minutes=1), ENDED + timedelta(hours=hours, minutes=1)
    assert (count(books, before, ENDED), count(books, before, ENDED + INSTANT)) == (0, 1)
    assert (count(books, ENDED, after), count(books, ENDED + INSTANT, after)) == (1, 0)
