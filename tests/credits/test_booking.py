"""What the ledger hands over: charges and adjustments as credits see them, with the dimensions of their bills."""

from datetime import timedelta
from decimal import Decimal

from metering.credits.booking import Booking, BookingKind
from metering.credits.draw_grants import draw_grants
from metering.credits.grant import GrantLimits
from metering.credits.queries.entries import entries_of_stream
from metering.db.engine import transaction
from metering.db.locks import take_money
from tests.builders import NOW, T0, Books, end, start
from tests.credits.histories import MODELS
from tests.credits.scenes import COST, credit, entries, give, rows, use


def booking(**changes: object) -> Booking:
    values = {
        "customer_id": "acme",
        "entry_id": "ch_1",
        "stream_id": "s",
        "kind": BookingKind.CHARGE,
        "usd_cents": Decimal(3),
        "booked_at": T0,
        "filed_at": T0,
        "period": "2026-11",
        **changes,
    }
    return Booking(**values)  # type: ignore[arg-type]


def test_a_booking_of_nothing_and_a_booking_without_grants_draw_nothing(books: Books) -> None:
    with books.owner() as connection:
        connection.execute("INSERT INTO customers VALUES ('bolt', NULL, NULL, 'UTC', now())")
    give(books)
    with transaction(books.service.engine) as connection:
        take_money(connection, ["acme", "bolt"])
        nothing = booking(usd_cents=Decimal(0))
        of_another = booking(customer_id="bolt")
        draw_grants(connection, [nothing, of_another], now=NOW)
    assert [kind for kind, _ in entries(books)] == ["granted"]


def test_bookings_of_one_transaction_are_drawn_in_their_order(books: Books) -> None:
    give(books, "4")
    with transaction(books.service.engine) as connection:
        take_money(connection, ["acme"])
        draw_grants(
            connection,
            [
                booking(),
                booking(entry_id="ch_2", stream_id="t"),
                booking(entry_id="adj_1", usd_cents=Decimal(-2)),
                booking(entry_id="ch_3", stream_id="u"),
            ],
            now=NOW,
        )
        found = entries_of_stream(connection, customer_id="acme", stream_id="s", limit=10)
        connection.rollback()
    assert [each.usd_cents for each in found] == [-3, 2]


def test_an_adjustment_is_drawn_with_the_model_of_its_new_bill(books: Books) -> None:
    give(books, "10", limits=GrantLimits(models=(MODELS[1],)))
    give(books, "10", key="other", limits=GrantLimits(models=(MODELS[0],)))
    use(books)
    credit(books, "0.5")
    drawn = rows(books, "SELECT DISTINCT grant_id FROM grant_entries WHERE kind = 'drawn'")
    assert drawn == rows(books, f"SELECT grant_id FROM grants WHERE only_models = ARRAY['{MODELS[1]}']")
    assert sum(amount for kind, amount in entries(books) if kind == "drawn") == -COST - Decimal("0.5")


def test_late_facts_that_take_a_bill_back_restore_what_it_drew(books: Books) -> None:
    give(books)
    use(books)
    late = NOW + timedelta(minutes=1)
    books.receive([start("s", model="gpt-5.5", provider="openai"), end("s", output=99)], at=late)
    books.finalize(now=late)
    assert entries(books)[1:] == [("drawn", -COST), ("restored", COST)]
