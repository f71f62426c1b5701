"""Days by API key and inlet have sums of their own, and an earlier release may roll up beside this one."""

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import Engine, text

from metering.db.engine import transaction
from metering.db.locks import Lock, take
from metering.ledger.store.rollups import roll_up_totals
from metering.ledger.store.totals_by_key import complete_totals_by_key
from metering.server.bootstrap import Service
from metering.streams.bill import Bill
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity
from tests.builders import Books
from tests.builders.drawn_bills import bill_at, book
from tests.builders.events import NOW, end, start
from tests.database import Database

BEGIN = datetime(2026, 9, 28, tzinfo=UTC)
DAYS = 40
AT_ONCE = timedelta(0)
Sums = dict[tuple[str, ...], Decimal]


def drawn(seed: int, count: int = 200) -> list[Bill]:
    rng = random.Random(seed)
    return [bill_at(rng, BEGIN + timedelta(seconds=rng.randrange(DAYS * 86_400))) for _ in range(count)]


def found(engine: Engine, group: Group, *, zone: str | None = None, **more: object) -> Sums:
    """Sums by day in a time zone, or of the whole range."""
    granularity = Granularity.DAY if zone else Granularity.NONE
    question = TotalsQuestion(
        from_=BEGIN,
        to=BEGIN + timedelta(days=DAYS),
        granularity=granularity,
        time_zone=ZoneInfo(zone) if zone else None,
        group_by=[group],
        **more,
    )
    with transaction(engine) as connection:
        rows = read_totals(connection, question=question)
    return {row.position: row.usd_cents for row in rows}


def expected(bills: list[Bill], group: Group) -> Sums:
    sums: Sums = defaultdict(Decimal)
    for each in bills:
        sums["", each.inlet.value if group is Group.INLET else each.api_key_id or ""] += each.usd_cents
    return dict(sums)


def roll_up_as_before(service: Service, database: Database) -> None:
    """Roll up as a release does that knows nothing of the sums by API key."""
    with psycopg.connect(database.url) as owner:
        owner.execute("CREATE TABLE kept AS SELECT * FROM totals_daily_by_key")
        noted = owner.execute("SELECT keyed_at FROM totals_rolled_up").fetchone() or (None,)
    roll_up_totals(service.engine)
    with psycopg.connect(database.url) as owner:
        owner.execute("DELETE FROM totals_daily_by_key")
        owner.execute("INSERT INTO totals_daily_by_key SELECT * FROM kept")
        owner.execute("DROP TABLE kept")
        owner.execute("UPDATE totals_rolled_up SET keyed_at = %s", noted)


def roll_up(service: Service, _: Database) -> None:
    """Roll up as this release does."""
    roll_up_totals(service.engine)


@contextmanager
def without_details(engine: Engine) -> Iterator[None]:
    """While the sums of all dimensions by day are wrong, and so cannot be what is read."""
    change = "UPDATE totals_daily SET usd_cents = usd_cents {} 1000"
    with transaction(engine) as connection:
        connection.execute(text(change.format("+")))
    yield
    with transaction(engine) as connection:
        connection.execute(text(change.format("-")))


@pytest.mark.parametrize("group", [Group.API_KEY_ID, Group.INLET])
def test_days_are_read_from_sums_of_their_own(engine: Engine, group: Group) -> None:
    bills = drawn(1)
    for place in range(0, len(bills), 50):
        book(engine, bills[place : place + 50])
        roll_up_totals(engine)
    with without_details(engine):
        assert found(engine, group) == expected(bills, group)
        by_day = found(engine, group, zone="America/New_York")
    summed: Sums = defaultdict(Decimal)
    for (_, key), cents in by_day.items():
        summed["", key] += cents
    assert summed == expected(bills, group)


@pytest.mark.parametrize("group", [Group.API_KEY_ID, Group.INLET])
def test_while_an_earlier_release_rolls_up_nothing_is_missing_and_then_they_are_completed(
    service: Service, database: Database, group: Group
) -> None:
    engine = service.engine
    bills: list[Bill] = []
    for turn, rolls_up in enumerate((roll_up_as_before, roll_up, roll_up_as_before, roll_up)):
        more = drawn(turn + 10, 60)
        bills += more
        book(engine, more)
        rolls_up(service, database)
        assert found(engine, group) == expected(bills, group)
    assert complete_totals_by_key(engine, pause=AT_ONCE)
    assert not complete_totals_by_key(engine, pause=AT_ONCE)
    with without_details(engine):
        assert found(engine, group) == expected(bills, group)
    book(engine, drawn(99, 10))
    roll_up_totals(engine)
    assert not complete_totals_by_key(engine, pause=AT_ONCE)
    assert found(engine, group) == expected([*bills, *drawn(99, 10)], group)


def test_they_are_not_completed_again_and_again_while_releases_alternate(
    service: Service, database: Database
) -> None:
    for turn in range(3):
        book(service.engine, drawn(turn, 5))
        roll_up_as_before(service, database)
        assert complete_totals_by_key(service.engine) is (turn == 0)


def test_they_are_not_completed_while_another_process_rolls_up(service: Service, database: Database) -> None:
    book(service.engine, drawn(1, 5))
    roll_up_as_before(service, database)
    with transaction(service.engine) as other:
        take(other, Lock.ROLL_UP)
        assert not complete_totals_by_key(service.engine)
    assert complete_totals_by_key(service.engine)


def test_the_audit_finds_a_wrong_sum_and_leaves_out_what_is_not_complete(books: Books) -> None:
    books.receive([start(), end()], at=NOW)
    books.finalize()
    roll_up_totals(books.service.engine)
    with transaction(books.service.engine) as connection:
        connection.execute(text("UPDATE totals_daily_by_key SET usd_cents = usd_cents + 1"))
    assert {table for table, _, _ in books.audit()} == {"totals_daily_by_key"}
    with transaction(books.service.engine) as connection:
        connection.execute(text("UPDATE totals_rolled_up SET keyed_at = NULL"))
    assert not books.audit()
    assert complete_totals_by_key(books.service.engine)
    assert not books.audit()
