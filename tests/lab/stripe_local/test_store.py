"""The local Stripe's store: its orders hold whatever is changed, and a page costs what the page has."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metering.lab.stripe_local.idempotency import Answer, KeyedAnswers
from metering.lab.stripe_local.objects import list_page, record_event
from metering.lab.stripe_local.store import Document, Store

CUSTOMERS, INVOICES = ["cus_a", "cus_b", None], ["in_a", "in_b", None]


def newest_first(kept: list[Document]) -> list[Document]:
    """What a list has, the slow way: by creation, then by the order of making."""
    places = {each["id"]: place for place, each in enumerate(kept)}
    return sorted(kept, key=lambda each: (each["created"], places[each["id"]]), reverse=True)


def check(store: Store, kept: list[Document]) -> int:
    """Every way to ask, against the slow way; how many answers had something in them."""
    filled = 0
    for kind in ("invoice", "invoiceitem"):
        for equal in ({}, {"customer": "cus_a"}, {"invoice": "in_b"}, {"customer": "cus_b", "invoice": None}):
            for created in (None, 3, {"gte": 2, "lt": 5}, {"gt": 2, "lte": 5}):
                wanted = [
                    each
                    for each in newest_first([each for each in kept if each["object"] == kind])
                    if all(each[name] == value for name, value in equal.items()) and within(each, created)
                ]
                assert list(store.walk(kind, equal=equal, created=created)) == wanted
                for at, last in enumerate(wanted):
                    beyond = store.walk(kind, equal=equal, created=created, beyond=last["id"])
                    assert list(beyond) == wanted[at + 1 :]
                filled += bool(wanted)
            assert store.count(kind, **equal) == len(store.where(kind, **equal))
    return filled


def within(document: Document, created: Any) -> bool:
    at = document["created"]
    if created is None or isinstance(created, int):
        return created in (None, at)
    low = created.get("gte", created.get("gt", 0) + 1)
    high = created.get("lte", created.get("lt", 99) - 1)
    return bool(low <= at <= high)


@pytest.mark.parametrize("seed", range(4))
def test_every_order_holds_through_changes_removals_and_reopening(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "stripe.db"
    store, kept, filled = Store(path), [], 0
    for number in range(240):
        act = chance.random()
        if act < 0.5 or not kept:
            kept.append(
                {
                    "id": f"x_{number}",
                    "object": chance.choice(["invoice", "invoiceitem"]),
                    "created": chance.randrange(8),
                    "customer": chance.choice(CUSTOMERS),
                    "invoice": chance.choice(INVOICES),
                }
            )
            store.save(kept[-1])
        elif act < 0.8:
            changed = chance.choice(kept)
            changed |= {"customer": chance.choice(CUSTOMERS), "invoice": chance.choice(INVOICES)}
            changed["created"] = chance.randrange(8)
            store.save(changed)
        elif act < 0.9:
            gone = kept.pop(chance.randrange(len(kept)))
            store.remove(gone["id"])
            assert store.find_any(gone["id"]) is None
        elif act < 0.95:
            store.close()
            store = Store(path)
        if number % 20 == 19:
            filled += check(store, kept)
    assert filled > 100
    store.reset()
    assert check(store, []) == 0


def test_a_transaction_that_fails_leaves_nothing_and_sends_no_event() -> None:
    store, told = Store(), []
    store.listener = told.append
    invoice = {"id": "in_a", "object": "invoice", "created": 1}

    def make_and_fail() -> None:
        with store.atomic():
            record_event(store, "invoice.created", store.save(invoice))
            raise KeyError

    with pytest.raises(KeyError):
        make_and_fail()
    assert (store.count("invoice"), store.count("event"), told) == (0, 0, [])
    with store.atomic():
        record_event(store, "invoice.created", store.save(invoice))
        assert told == []
    assert [event["type"] for event in told] == ["invoice.created"]


@pytest.fixture(scope="module")
def stores() -> tuple[Store, Store]:
    """One with few invoices, and one with many."""
    return filled_store(100), filled_store(4_000)


def filled_store(invoices: int) -> Store:
    """Invoices of ten lines, each of its own customer."""
    store = Store()
    with store.atomic():
        for number in range(invoices):
            invoice = {"id": f"in_{number}", "object": "invoice", "created": number, "customer": f"cus_{number}"}
            store.save(invoice)
            for line in range(10):
                store.save({"id": f"il_{number}_{line}", "object": "line_item", "invoice": invoice["id"]})
    return store


def steps(store: Store, act: Callable[[], object]) -> int:
    """How many steps of its machine SQLite takes; what was changed is taken back."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    store._file.execute("BEGIN")
    store._file.set_progress_handler(step, 1)
    act()
    store._file.set_progress_handler(None, 1)
    store._file.execute("ROLLBACK")
    return count


ASKED: list[Callable[[Store], object]] = [
    lambda store: list_page(store, "invoice", {"limit": 10}, url=""),
    lambda store: list_page(store, "invoice", {"limit": 10, "starting_after": "in_60"}, url=""),
    lambda store: list_page(store, "invoice", {"limit": 10, "ending_before": "in_20"}, url=""),
    lambda store: list_page(store, "invoice", {"limit": 10, "created": {"gte": 30, "lt": 70}}, url=""),
    lambda store: list_page(store, "invoice", {"customer": "cus_40"}, url="", filters=("customer",)),
    lambda store: store.where("line_item", invoice="in_40"),
    lambda store: store.count("line_item", invoice="in_40"),
    lambda store: store.get("invoice", "in_40"),
    lambda store: store.save({"id": "in_40", "object": "invoice", "created": 41, "customer": "cus_2"}),
    lambda store: store.remove("in_50"),
    lambda store: store.delete_before("idempotency_key", 5),
]


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_costs_no_more_when_there_is_more(
    stores: tuple[Store, Store], asked: Callable[[Store], object]
) -> None:
    few, many = stores
    assert 0 < steps(many, lambda: asked(many)) < 1.5 * steps(few, lambda: asked(few))


def test_a_walk_over_all_is_seen_to_cost_more(stores: tuple[Store, Store]) -> None:
    few, many = stores
    assert steps(many, lambda: many.where("invoice")) > 10 * steps(few, lambda: few.where("invoice"))


def test_events_are_kept_to_a_number_and_answers_to_a_day() -> None:
    store = Store()
    with store.atomic():
        for number in range(12_000):
            record_event(store, "invoice.updated", {"id": f"in_{number}"})
    assert 10_000 <= store.count("event") < 10_600
    newest = next(store.walk("event"))
    assert newest["data"]["object"]["id"] == "in_11999"
    keys = KeyedAnswers(store)
    for hour in range(60):
        keys.keep(f"k{hour}", "request", Answer(200, {}))
        store.clock_offset += 3600
    assert 24 <= store.count("idempotency_key") <= 25
    assert keys.earlier("k0", "request") is None
    assert keys.earlier("k59", "request") == Answer(200, {})
