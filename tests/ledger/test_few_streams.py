"""The few streams of a filter are found by the hours of the totals: the same as among all streams."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from metering.core.period import BillingPeriod
from metering.customers.queries.month_bounds import BillingMonths
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import Inlet, Outcome
from metering.ledger.queries import found_streams
from metering.ledger.queries.few_streams import by_hours, places_of_few
from metering.ledger.queries.found_streams import FinalFilter, find_streams
from metering.ledger.store.rollups import roll_up_totals
from metering.stripe.put_customer import put_customer
from tests.builders import NOW, Books, end, start

BEGIN, END = datetime(2026, 10, 30, 20, 20, tzinfo=UTC), datetime(2026, 11, 3, 4, 40, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
MODELS = ("claude-opus-4.7", "claude-haiku-4.5")
FILTERS = [
    {},
    {"customer_id": "acme"},
    {"api_key_id": "rare"},
    {"api_key_id": ""},
    {"api_key_id": "unused"},
    {"outcomes": ["cancelled", "failed"]},
    {"outcomes": ["cancelled"], "customer_id": "bolt"},
    {"model": MODELS[1], "provider": "anthropic"},
    {"retry": True},
    {"retry": False, "inlet": Inlet.OTLP.value},
]


@pytest.fixture
def booked(books: Books) -> Books:
    """Streams of two weeks around the turn of a month, some changed later, with some sums not rolled up."""
    rng = random.Random(3)
    zone = CustomerDetails(time_zone="Asia/Kolkata")
    put_customer(engine=books.service.engine, customer_id="bolt", details=zone, now=NOW - timedelta(days=90))
    for turn in range(3):
        for number in range(120):
            _post(books, rng, f"s{turn}-{number}")
        books.finalize(now=LATER, limit=1_000)
        books.link_retries(now=LATER)
        books.finalize(now=LATER, limit=1_000)
        if turn < 2:
            roll_up_totals(books.service.engine)
    for number in range(0, 120, 7):
        books.receive([end(f"s0-{number}", 9, customer_id="acme", time=BEGIN)], at=LATER)
    books.finalize(now=LATER, limit=1_000)
    return books


def _post(books: Books, rng: random.Random, stream_id: str) -> None:
    began = BEGIN - timedelta(days=4) + timedelta(minutes=rng.randrange(60 * 24 * 11))
    customer_id = rng.choice(["acme", "acme", "bolt"])
    asked = {"request_hash": rng.choice("abc"), "api_key_id": rng.choice(["k", "k", "k", None, "rare"])}
    inlet = rng.choice([Inlet.EVENTS, Inlet.EVENTS, Inlet.OTLP])
    terms = {"customer_id": customer_id, "inlet": inlet}
    outcome = rng.choice([Outcome.COMPLETED, Outcome.COMPLETED, Outcome.CANCELLED, Outcome.FAILED])
    ended = end(stream_id, rng.randrange(90), time=began + timedelta(seconds=9), outcome=outcome, **terms)
    books.receive([start(stream_id, time=began, model=rng.choice(MODELS), **asked, **terms), ended])


def test_they_are_the_same_as_among_all_page_by_page(booked: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: Counter[str] = Counter()

    def counted(*given: object, **named: object) -> object:
        places = places_of_few(*given, **named)  # type: ignore[arg-type]
        searched["few"] += places is not None
        return places

    monkeypatch.setattr(found_streams, "places_of_few", counted)
    month = BillingMonths(period=BillingPeriod.parse("2026-11"))
    whole = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    ranges = [(BEGIN, END, None), (*whole, None), (*whole, month), (BEGIN, BEGIN + timedelta(minutes=5), None)]
    with transaction(booked.service.engine) as connection:
        for given, (from_, to, months) in product(FILTERS, ranges):
            where = FinalFilter(from_=from_, to=to, months=months, **given)  # type: ignore[arg-type]
            everything = find_streams(connection, where=where, before=None, limit=10_000)
            searched["found"] += len(everything)
            for limit in (1, 7, 10_000):
                shown, before = [], None
                while page := find_streams(connection, where=where, before=before, limit=limit, expected=5):
                    assert len(page) <= limit
                    shown += page
                    before = (page[-1].ended_at, page[-1].customer_id, page[-1].stream_id)
                    if limit == 1 and len(shown) == 5:
                        break
                assert shown == list(everything)[: len(shown) if limit == 1 else None]
    assert searched["found"] > 1_000
    assert searched["few"] > 100


def test_many_are_searched_among_all(booked: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    where = FinalFilter(from_=BEGIN, to=END)
    with transaction(booked.service.engine) as connection:
        everything = find_streams(connection, where=where, before=None, limit=50)
        monkeypatch.setattr("metering.ledger.queries.few_streams._MOST_PLACES", 3)
        assert places_of_few(connection, only={}, within=(BEGIN, END), before=None) is None
        assert find_streams(connection, where=where, before=None, limit=50, expected=5) == everything
        monkeypatch.setattr(found_streams, "places_of_few", None)
        assert find_streams(connection, where=where, before=None, limit=50, expected=20_000) == everything
        assert find_streams(connection, where=replace(where), before=None, limit=50) == everything


def test_pieces_have_whole_hours() -> None:
    places = [(BEGIN + timedelta(hours=-(number // 3)), f"c{number}") for number in range(10)]
    pieces = list(by_hours(places, at_least=4))
    assert [len(each) for each in pieces] == [6, 4]
    assert [place for piece in pieces for place in piece] == places
    assert list(by_hours([], at_least=4)) == []
