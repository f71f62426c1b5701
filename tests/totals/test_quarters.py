"""Days that begin within an hour are summed from quarters of hours, and from bills where there are none."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy import Engine, text

from metering.db.engine import transaction
from metering.ledger.store.rollups import roll_up_totals
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity
from tests.builders import Books
from tests.builders.drawn_bills import bill_at, book
from tests.builders.events import NOW, end, start

BEGIN = datetime(2026, 10, 28, tzinfo=UTC)
ZONES = ("Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "America/St_Johns", "Australia/Lord_Howe")


def _by_day(engine: Engine, zone: str, *, group_by: list[Group] | None = None) -> dict[tuple[str, ...], Decimal]:
    question = TotalsQuestion(
        from_=BEGIN,
        to=BEGIN + timedelta(days=12),
        granularity=Granularity.DAY,
        time_zone=ZoneInfo(zone),
        group_by=group_by or [],
    )
    with transaction(engine) as connection:
        return {row.position: row.usd_cents for row in read_totals(connection, question=question, accruals=[])}


def _day(at: datetime, zone: str) -> str:
    local = at.astimezone(ZoneInfo(zone)).date()
    begin = datetime(local.year, local.month, local.day, tzinfo=ZoneInfo(zone))
    return f"{begin.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize("zone", ZONES)
def test_days_are_summed_without_a_single_bill(engine: Engine, zone: str) -> None:
    """There are no charges here, so what bills were read for would be missing."""
    rng = random.Random(zone)
    bills = [bill_at(rng, BEGIN + timedelta(seconds=rng.randrange(12 * 86_400))) for _ in range(400)]
    for place in range(0, len(bills), 40):
        book(engine, bills[place : place + 40])
        if rng.random() < 0.5:
            roll_up_totals(engine)
    expected: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    by_model: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for each in bills:
        expected[(_day(each.ended_at, zone),)] += each.usd_cents
        by_model[_day(each.ended_at, zone), each.provider, each.model] += each.usd_cents
    assert _by_day(engine, zone) == expected
    assert _by_day(engine, zone, group_by=[Group.PROVIDER, Group.MODEL]) == by_model


@pytest.mark.parametrize("rolled_up", [False, True])
def test_hours_that_an_earlier_release_booked_are_read_from_their_bills(books: Books, rolled_up: bool) -> None:
    """Its sums are of whole hours. 18:30 is midnight in Kolkata; two streams end on each side of it."""
    midnight = datetime(2026, 11, 1, 18, 30, tzinfo=UTC)
    for number, minutes in enumerate((-20, -1, 1, 20)):
        at = midnight + timedelta(minutes=minutes)
        begun = start(f"s{number}", time=at - timedelta(seconds=4))
        books.receive([begun, end(f"s{number}", time=at)], at=at)
        books.finalize()
        if number % 2:
            with psycopg.connect(books.database.url) as owner:
                owner.execute("UPDATE totals_pending SET quarter = NULL")
        if rolled_up:
            roll_up_totals(books.service.engine)
    cost = Decimal("0.4985")
    first, second = (f"{midnight + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (-1, 0))
    for group_by in ([], [Group.MODEL], [Group.CUSTOMER_ID]):
        found = _by_day(books.service.engine, "Asia/Kolkata", group_by=group_by)
        assert {position[0]: cents for position, cents in found.items()} == {first: 2 * cost, second: 2 * cost}


def test_the_audit_finds_a_sum_in_the_wrong_quarter(books: Books) -> None:
    books.receive([start(), end()], at=NOW)
    books.finalize()
    roll_up_totals(books.service.engine)
    move = "UPDATE totals_quarterly_by_model SET quarter = quarter {} interval '15 minutes'"
    with transaction(books.service.engine) as connection:
        connection.execute(text(move.format("+")))
    assert {table for table, _, _ in books.audit()} == {"totals_quarterly_by_model"}
    with transaction(books.service.engine) as connection:
        connection.execute(text(move.format("-")))
