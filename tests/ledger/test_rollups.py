"""Totals: whatever was rolled up when, and however they are asked for, they are the sum of the bills."""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from metering.db.engine import transaction
from metering.ledger.rollups import DAILY, DAILY_BY_KEY, DETAILED, DIMENSIONS, HOURLY, MONTHLY, ROLLUPS, narrowest
from metering.ledger.store.rollups import BillChange, add_to_totals, roll_up_totals
from metering.streams.accrue_streams import Accrual
from metering.streams.bill import Bill
from metering.totals.queries.orders import Order
from metering.totals.queries.question import Group, TotalRow, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity
from tests.builders.drawn_bills import bill_at

NARROWED = [(Group.OUTCOME, "cancelled"), (Group.API_KEY_ID, ""), (Group.RETRY, "true"), (Group.MODEL, "m1")]
T0 = datetime(2026, 10, 28, tzinfo=UTC)


def bill(rng: random.Random) -> Bill:
    # At hours, so that no bill lies in a part of an hour, which only charges could tell.
    return bill_at(rng, T0 + timedelta(hours=rng.randrange(24 * 40)))


def book(engine: Engine, changes: list[BillChange]) -> None:
    with transaction(engine) as connection:
        add_to_totals(connection, changes)


def book_at_random(engine: Engine, rng: random.Random) -> dict[tuple[str, int], Bill]:
    """Bills that come, change and go, with roll-ups in between; returns the ones that are left."""
    newest: dict[tuple[str, int], Bill] = {}
    for _ in range(12):
        changes = []
        for _ in range(25):
            key = (rng.choice(["acme", "bolt", "coil"]), rng.randrange(60))
            before, after = newest.get(key), rng.choice([None, bill(rng), bill(rng)])
            changes.append(BillChange(key[0], before, after))
            newest.pop(key, None)
            if after is not None:
                newest[key] = after
        book(engine, changes)
        if rng.random() < 0.5:
            roll_up_totals(engine)
    return newest


def expected(
    bills: dict[tuple[str, int], Bill], question: TotalsQuestion
) -> dict[tuple[str, ...], tuple[int, Decimal]]:
    sums: dict[tuple[str, ...], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for (customer, _), each in bills.items():
        if not question.from_ <= each.ended_at < question.to or question.customer_id not in (None, customer):
            continue
        start = {
            Granularity.HOUR: each.ended_at,
            Granularity.DAY: each.ended_at.replace(hour=0),
            Granularity.MONTH: each.ended_at.replace(day=1, hour=0),
            Granularity.NONE: None,
        }[question.granularity]
        values = {"customer_id": customer, "api_key_id": each.api_key_id or "", "outcome": each.outcome.value}
        values |= {"provider": each.provider, "model": each.model, "usage_source": each.usage_source.value}
        values |= {"retry": "true" if each.retry_of else "false", "inlet": each.inlet.value}
        if any(values[group.value] != value for group, value in question.only.items()):
            continue
        key = (
            start.strftime("%Y-%m-%dT%H:%M:%SZ") if start else "",
            *(values[g.value] for g in question.group_by),
        )
        count, cents = sums[key]
        sums[key] = (count + 1, cents + each.usd_cents)
    return dict(sums)


def test_any_question_is_answered_with_the_sum_of_the_bills(engine: Engine) -> None:
    rng = random.Random(11)
    bills = book_at_random(engine, rng)
    asked: Counter[str] = Counter()
    with transaction(engine) as connection:
        for _ in range(800):
            from_ = T0 + timedelta(hours=rng.randrange(-5, 24 * 40))
            from_ = from_.replace(hour=0) if rng.random() < 0.3 else from_
            question = TotalsQuestion(
                from_=from_,
                to=from_ + timedelta(hours=rng.choice([1, 3, 24, 25, 47, 48, 100, 24 * 33, 24 * 70])),
                granularity=rng.choice(list(Granularity)),
                group_by=rng.sample(list(Group), rng.randrange(4)),
                customer_id=rng.choice([None, "acme"]),
                only=dict(rng.sample(NARROWED, rng.choice([0, 0, 1, 2]))),
                after=None,
                limit=10_000,
            )
            rows = read_totals(connection, question=question, accruals=[])
            found = {row.position: (row.stream_count, row.usd_cents) for row in rows}
            assert found == expected(bills, question)
            few = read_totals(connection, question=replace(question, counters=False), accruals=[])
            assert list(few) == [replace(row, counters={}, upstream_usd_cents=Decimal(0)) for row in rows]
            needed = {group.value for group in question.group_by}
            needed |= {"customer_id"} if question.customer_id else set()
            needed |= {group.value for group in question.only}
            for rollup in (narrowest(each, dimensions=needed) for each in (HOURLY, DAILY, MONTHLY)):
                asked[rollup.table] += bool(found)
    assert min(asked[rollup.table] for rollup in ROLLUPS) > 10, asked


def test_pages_by_time_and_customer_are_the_rows_of_one_answer_in_their_order(engine: Engine) -> None:
    bills = book_at_random(engine, random.Random(5))
    accrued = [accrual(number) for number in range(20)]
    for granularity, zone in product(
        (Granularity.HOUR, Granularity.DAY, Granularity.MONTH), (None, ZoneInfo("Asia/Kathmandu"))
    ):
        question = TotalsQuestion(
            from_=T0 + timedelta(hours=7),
            to=T0 + timedelta(days=45),
            granularity=granularity,
            time_zone=zone,
            group_by=[Group.CUSTOMER_ID, Group.MODEL],
            limit=10_000,
        )
        with transaction(engine) as connection:
            whole = read_totals(connection, question=question, accruals=accrued)
            few = read_totals(connection, question=replace(question, counters=False), accruals=accrued)
            assert list(few) == [replace(row, counters={}, upstream_usd_cents=Decimal(0)) for row in whole]
            for limit in (1, 7, len(whole) - 1):
                assert list(paged(connection, replace(question, limit=limit), accrued)) == list(whole)
        if zone is None:
            assert {row.position for row in whole} >= expected(bills, question).keys()
        assert [row.position for row in whole] == sorted(row.position for row in whole)
        assert sum(row.accruing_stream_count for row in whole) == len(accrued)


def accrual(number: int) -> Accrual:
    return Accrual(
        customer_id=f"c{number % 3}",
        at=T0 + timedelta(hours=31 * number + 8),
        provider="p",
        model="m",
        api_key_id="",
        outcome="",
        usage_source="estimate",
        retry="false",
        inlet="events",
        usd_cents=Decimal(number + 1),
    )


def paged(connection: Connection, question: TotalsQuestion, accrued: Sequence[Accrual]) -> Iterator[TotalRow]:
    while rows := read_totals(connection, question=question, accruals=accrued):
        assert len(rows) <= question.limit
        yield from rows
        question = replace(question, after=rows[-1].position)


def test_groups_are_ordered_by_cost_or_by_what_changed_since_another_range(engine: Engine) -> None:
    bills = book_at_random(engine, random.Random(7))
    now, before = (T0 + timedelta(days=20), T0 + timedelta(days=40)), (T0, T0 + timedelta(days=20))
    asked = {"from_": now[0], "to": now[1], "group_by": [Group.CUSTOMER_ID, Group.MODEL, Group.OUTCOME]}
    sums, earlier = (
        {
            key: cents
            for key, (_, cents) in expected(bills, TotalsQuestion(**{**asked, "from_": f, "to": t})).items()
        }
        for f, t in (now, before)
    )
    groups = sums.keys() | earlier.keys()
    assert len(groups) > 5
    firsts: dict[Order, set[tuple[str, ...]]] = {}
    with transaction(engine) as connection:
        for order, value in (
            (Order.COST, lambda key: sums.get(key, 0)),
            (Order.CHANGE, lambda key: abs(sums.get(key, 0) - earlier.get(key, 0))),
        ):
            question = TotalsQuestion(**asked, compared=before, order=order)
            rows = read_totals(connection, question=question)
            assert {row.position: row.usd_cents for row in rows if row.usd_cents} == sums
            assert {row.position: row.compared_usd_cents for row in rows if row.compared_usd_cents} == earlier
            values = [value(row.position) for row in rows]
            assert values == sorted(values, reverse=True)
            top = read_totals(connection, question=replace(question, limit=3))
            assert [row.position for row in top] == [row.position for row in rows[:3]]
            firsts[order] = {row.position for row in top}
        either = read_totals(
            connection, question=TotalsQuestion(**asked, compared=before, order=Order.EITHER, limit=3)
        )
        assert {row.position for row in either} == firsts[Order.COST] | firsts[Order.CHANGE]
        assert firsts[Order.COST] != firsts[Order.CHANGE]
        costs = [row.usd_cents for row in either]
        assert costs == sorted(costs, reverse=True)


def test_totals_are_the_same_at_any_moment_while_others_book_and_roll_up(engine: Engine) -> None:
    stop = threading.Event()
    rolled: list[int] = []

    def keep_rolling() -> None:
        while not stop.is_set():
            rolled.append(roll_up_totals(engine))

    threads = [threading.Thread(target=keep_rolling) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(1, 41):
            one = bill(random.Random(turn))
            book(engine, [BillChange("acme", None, one)] * 5)
            with transaction(engine) as connection:
                question = TotalsQuestion(
                    from_=T0,
                    to=T0 + timedelta(days=70),
                    granularity=Granularity.NONE,
                    group_by=[],
                    customer_id=None,
                    after=None,
                    limit=10,
                )
                (row,) = read_totals(connection, question=question, accruals=[])
            assert row.stream_count == 5 * turn
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sum(rolled) > 0


def test_rolled_up_tables_agree_with_each_other_and_nothing_is_left(engine: Engine) -> None:
    book_at_random(engine, random.Random(5))
    assert roll_up_totals(engine) >= 0
    assert roll_up_totals(engine) == 0
    with transaction(engine) as connection:
        for rollup in ROLLUPS:
            names = ", ".join(rollup.dimensions)
            places = ", ".join(str(place + 1) for place in range(len(rollup.dimensions) + 1))
            stored = (
                f"SELECT date_trunc('{rollup.bucket}', {rollup.bucket}), {names},"
                " sum(usd_cents), sum(stream_count)"
                f" FROM {rollup.table} GROUP BY {places}"
            )
            by_hour = (
                f"SELECT date_trunc('{rollup.bucket}', hour), {names}, sum(usd_cents), sum(stream_count)"
                f" FROM {DETAILED.table} GROUP BY {places}"
            )
            for one, other in ((stored, by_hour), (by_hour, stored)):
                assert connection.execute(text(f"({one}) EXCEPT ({other})")).all() == []


def test_a_question_is_answered_by_the_narrowest_table_that_knows_its_dimensions() -> None:
    assert narrowest(DAILY, dimensions=("inlet",)) == narrowest(DAILY, dimensions=("api_key_id",)) == DAILY_BY_KEY
    for rollups in (HOURLY, DAILY, MONTHLY):
        assert narrowest(rollups, dimensions=()) == rollups[0]
        assert narrowest(rollups, dimensions=("retry", "api_key_id")) == rollups[-1]
        assert set(rollups[-1].dimensions) == set(DIMENSIONS)
        for rollup in rollups:
            found = narrowest(rollups, dimensions=rollup.dimensions)
            assert set(rollup.dimensions) <= set(found.dimensions)
            assert len(found.dimensions) <= len(rollup.dimensions)


def test_a_tables_key_begins_with_the_customer_where_it_has_one_then_the_bucket() -> None:
    for rollup in ROLLUPS:
        with_customer = "customer_id" in rollup.dimensions
        assert rollup.key[: 1 + with_customer] == (*("customer_id",) * with_customer, rollup.bucket)
        assert set(rollup.key) == {*rollup.dimensions, rollup.bucket}
        assert len(rollup.key) == len(set(rollup.key))
