"""charges: a row a charge with what it comes to now, as the API says of its stream."""

from datetime import timedelta
from decimal import Decimal

from metering.corrections.adjust_manually import adjust_manually
from metering.events.events import Outcome, UsageSource
from metering.ledger.entries import ManualKind
from metering.streams.settlement import State
from tests.builders import NOW, T0, Books, end, start
from tests.reporting.views import Row, read


def charge(books: Books, stream_id: str = "s") -> Row:
    """Its row, found by the stream and by the time of its end, and once."""
    (row,) = read(
        books.database, f"SELECT * FROM charges WHERE customer_id = 'acme' AND stream_id = '{stream_id}'"
    )
    ended_at = row["ended_at"].isoformat()
    assert read(books.database, f"SELECT * FROM charges WHERE ended_at = '{ended_at}'") == [row]
    assert row["usd_cents"] == row["charged_usd_cents"] + row["adjusted_usd_cents"] + row["by_hand_usd_cents"]
    assert row["usd"] * 100 == row["usd_cents"]
    in_lines = sum(Decimal(line["usd_cents"]) for line in row["lines"])
    assert in_lines == row["charged_usd_cents"] + row["adjusted_usd_cents"]
    cost = books.stream(stream_id).cost_usd_cents
    assert row["usd_cents"] == (cost or 0)
    return row


def settled(books: Books, output: int = 37, **changes: object) -> None:
    books.receive([start(api_key_id="key_1"), end(output=output, **changes)])
    books.finalize(now=NOW + timedelta(minutes=1))


def test_a_charge_as_it_was_booked(books: Books) -> None:
    settled(books)
    row = charge(books)
    assert (row["revision"], row["adjusted_usd_cents"], row["usd_cents"]) == (0, 0, Decimal("0.4985"))
    assert (row["model"], row["api_key_id"], row["outcome"]) == ("claude-opus-4.7", "key_1", "completed")
    assert (row["input_tokens"], row["output_tokens"], row["cache_read_input_tokens"]) == (812, 37, None)
    assert (row["period"], row["usage_source"], row["cancel_policy"]) == ("2026-11", "gateway_count", "delivered")
    assert (row["started_at"], row["ended_at"]) == (T0, T0 + timedelta(seconds=4))
    assert [line["kind"] for line in row["lines"]] == ["input", "output"]


def test_late_facts_change_the_row_and_what_was_charged_at_first_stays(books: Books) -> None:
    settled(books)
    books.receive([end(output=1_000, usage_source=UsageSource.PROVIDER, time=T0 + timedelta(seconds=9))])
    books.finalize(now=NOW + timedelta(minutes=2))
    row = charge(books)
    assert (row["revision"], row["output_tokens"], row["usage_source"]) == (1, 1_000, "provider")
    assert (row["charged_usd_cents"], row["usd_cents"]) == (Decimal("0.4985"), Decimal("2.906"))
    assert row["ended_at"] == T0 + timedelta(seconds=9)


def test_every_revision_counts_and_the_newest_shows(books: Books) -> None:
    settled(books)
    for revision, source in enumerate((UsageSource.GATEWAY_COUNT, UsageSource.PROVIDER), start=1):
        books.receive([end(output=100 * revision, usage_source=source, time=T0 - timedelta(seconds=revision))])
        books.finalize(now=NOW + timedelta(minutes=1 + revision))
    assert books.stream().stream.state is State.FINALIZED
    assert charge(books)["revision"] >= 1


def test_a_charge_that_was_taken_back_is_there_and_costs_nothing(books: Books) -> None:
    settled(books)
    books.receive([end(output=99)])
    books.finalize(now=NOW + timedelta(minutes=2))
    assert books.stream().stream.state is State.CONFLICTING
    row = charge(books)
    assert (row["usd_cents"], row["lines"], row["output_tokens"]) == (0, [], None)
    assert (row["charged_usd_cents"], row["adjusted_usd_cents"]) == (Decimal("0.4985"), Decimal("-0.4985"))


def test_what_is_booked_by_hand_for_a_stream_counts_beside_its_bill(books: Books) -> None:
    settled(books)
    for number, cents in enumerate(("-0.1", "-0.05")):
        adjust_manually(
            engine=books.service.engine,
            idempotency_key=str(number),
            customer_id="acme",
            stream_id="s",
            kind=ManualKind.CREDIT,
            usd_cents=Decimal(cents),
            reason="slow",
            booked_by="test",
            now=NOW,
        )
    assert charge(books)["by_hand_usd_cents"] == Decimal("-0.15")


def test_a_retry_says_of_what(books: Books) -> None:
    from_then = T0 + timedelta(seconds=10)
    books.receive(
        [
            start("first", request_hash="h"),
            end("first", outcome=Outcome.CANCELLED),
            start("second", request_hash="h", time=from_then),
            end("second", time=from_then + timedelta(seconds=4)),
        ]
    )
    books.finalize(now=NOW + timedelta(minutes=1))
    books.link_retries(now=NOW + timedelta(minutes=2))
    books.link_retries(now=NOW + timedelta(minutes=3))
    books.finalize(now=NOW + timedelta(minutes=4))
    assert (charge(books, "first")["retry"], charge(books, "first")["retry_of"]) == (False, None)
    assert (charge(books, "second")["retry"], charge(books, "second")["retry_of"]) == (True, "first")
