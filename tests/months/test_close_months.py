"""Closing a month: what an invoice has, what goes to the next one, and what the database refuses afterwards."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from psycopg import errors

from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage
from metering.ledger.entries import ManualKind
from metering.months.invoice import LineKind
from metering.months.queries.progress import list_refusals
from metering.months.store.runs import refuse_customers, start_run
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.database import is_cluster

NOVEMBER = datetime(2026, 11, 12, 9, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 12, 9, tzinfo=UTC)
PRICED = datetime(2026, 11, 2, tzinfo=UTC)
LATER = datetime(2027, 3, 1, tzinfo=UTC)


def use(books: Books, stream_id: str, at: datetime, *, output: int = 40_000, **changes: object) -> None:
    """A completed stream; 40,000 output tokens of claude-opus-4.7 and 812 of input cost 100.406 cents."""
    events = [start(stream_id, time=at, **changes), end(stream_id, output, time=at + timedelta(seconds=4))]
    books.receive(events, at=at)
    books.finalize(now=max(at, PRICED) + timedelta(minutes=1))


def lines(books: Books, place: int = -1) -> list[tuple[str, str | None, Decimal, int]]:
    invoice = books.invoices()[place].invoice
    return [(each.sum.kind.value, each.sum.month, each.sum.usd_cents, each.billed_cents) for each in invoice.lines]


def test_a_month_has_one_line_a_model_and_is_rounded_once(books: Books) -> None:
    use(books, "one", NOVEMBER)
    use(books, "two", NOVEMBER + timedelta(days=3))
    use(books, "pro", NOVEMBER, provider="openai", model="gpt-5.5-pro")
    assert books.close("2026-11") == {}
    (stored,) = books.invoices()
    invoice = stored.invoice
    assert stored.number == "2026-11-000001"
    by_model = {line.sum.model: line.sum for line in invoice.lines}
    assert by_model["claude-opus-4.7"].usd_cents == Decimal("200.812")
    assert by_model["claude-opus-4.7"].stream_count == 2
    assert by_model["claude-opus-4.7"].usage.known()["output_tokens"] == 80_000
    assert invoice.exact_usd_cents == Decimal("923.248")
    assert (invoice.billed_cents, invoice.remainder_usd_cents) == (923, Decimal("0.248"))
    assert stored.closed.starts_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert stored.closed.ends_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert stored.closed.entry_count == 3


def test_the_remainder_goes_to_the_next_invoice_also_over_a_month_without_usage(books: Books) -> None:
    use(books, "one", NOVEMBER)
    books.close("2026-11")
    books.close("2026-12")
    use(books, "two", DECEMBER + timedelta(days=30))
    books.close("2027-01")
    november, january = books.invoices()
    assert november.invoice.remainder_usd_cents == Decimal("0.406")
    assert january.invoice.previous_invoice_id == november.invoice.invoice_id
    assert lines(books) == [
        ("usage", None, Decimal("100.406"), 100),
        ("carried_in", "2026-11", Decimal("0.406"), 0),
    ]
    assert january.invoice.remainder_usd_cents == Decimal("0.812")


def test_less_than_the_minimum_is_carried_until_it_is_enough(books: Books) -> None:
    for month in (8, 9, 10):
        use(books, f"small-{month}", datetime(2026, month, 5, tzinfo=UTC), output=8_000)
        books.close(f"2026-{month:02d}")
    august, september, november = (stored.invoice for stored in books.invoices())
    assert august.deferred
    assert august.remainder_usd_cents == Decimal("20.406")
    assert september.deferred
    assert september.remainder_usd_cents == Decimal("40.812")
    assert (november.billed_cents, november.remainder_usd_cents) == (61, Decimal("0.218"))


def test_what_settles_after_the_close_is_late_usage_of_the_next_month_with_its_own_dates(books: Books) -> None:
    use(books, "one", NOVEMBER)
    books.close("2026-11")
    use(books, "late", NOVEMBER + timedelta(days=2))
    use(books, "two", DECEMBER)
    assert books.close("2026-12") == {}
    late = next(line.sum for line in books.invoices()[-1].invoice.lines if line.sum.kind is LineKind.LATE_USAGE)
    assert (late.month, late.usd_cents) == ("2026-11", Decimal("100.406"))
    assert late.starts_at == late.ends_at == NOVEMBER + timedelta(days=2, seconds=4)


def test_an_adjustment_before_the_close_is_in_the_line_of_its_model_and_one_after_it_a_line_of_its_own(
    books: Books,
) -> None:
    books.receive([start("s", time=NOVEMBER, input_tokens=1000)], at=NOVEMBER)
    books.finalize(now=NOVEMBER + timedelta(hours=1))  # swept: abandoned, nothing delivered
    usage = Usage(input_tokens=1000, output_tokens=40_000)
    books.receive([end("s", time=NOVEMBER + timedelta(minutes=20), usage=usage)], at=NOVEMBER + timedelta(hours=2))
    books.finalize(now=NOVEMBER + timedelta(hours=2))
    books.close("2026-11")
    assert lines(books) == [("usage", None, Decimal("100.5"), 100)]
    line = books.invoices()[0].invoice.lines[0].sum
    assert (line.stream_count, line.usage.known()["output_tokens"]) == (1, 40_000)

    better = end("s", 41_000, time=NOVEMBER + timedelta(minutes=20), usage_source=UsageSource.PROVIDER)
    books.receive([better], at=DECEMBER)
    books.finalize(now=DECEMBER)
    books.close("2026-12")
    assert lines(books)[0] == ("adjustment", "2026-11", Decimal("2.406"), 0)


def test_credits_and_corrections_are_lines_with_their_reasons(books: Books) -> None:
    use(books, "one", NOVEMBER)
    for number, (kind, amount) in enumerate([(ManualKind.CREDIT, "-20.5"), (ManualKind.CORRECTION, "0.1")]):
        adjust_manually(
            engine=books.service.engine,
            idempotency_key=str(number),
            customer_id="acme",
            stream_id=None,
            kind=kind,
            usd_cents=Decimal(amount),
            reason=f"reason {number}",
            booked_by="test",
            now=NOVEMBER,
        )
    books.close("2026-11")
    assert [(line.sum.kind, line.sum.reason) for line in books.invoices()[0].invoice.lines[1:]] == [
        (LineKind.CREDIT, "reason 0"),
        (LineKind.CORRECTION, "reason 1"),
    ]
    assert books.invoices()[0].invoice.exact_usd_cents == Decimal("80.006")


def test_a_month_with_streams_that_may_still_settle_stays_open_and_says_which(books: Books) -> None:
    use(books, "one", NOVEMBER)
    books.receive([start("open", time=NOVEMBER)], at=NOVEMBER)
    use(books, "priceless", NOVEMBER, model="no-such-model")
    refused = books.close("2026-11")
    assert "2 streams may still settle" in refused["acme"]
    assert "open (open)" in refused["acme"]
    assert "priceless (unpriced)" in refused["acme"]
    assert books.invoices() == []

    assert books.close("2026-11", force_reason="the provider will not tell") == {}
    (stored,) = books.invoices()
    assert stored.closed.force_reason == "the provider will not tell"
    books.finalize(now=LATER)
    assert books.close("2026-12", force_reason="as before") == {}
    assert lines(books) == [
        ("late_usage", "2026-11", Decimal(0), 0),  # it delivered nothing
        ("carried_in", "2026-11", Decimal("0.406"), 0),
    ]


def test_a_stream_that_goes_on_in_the_next_month_does_not_hold_the_month_up(books: Books) -> None:
    use(books, "one", NOVEMBER)
    books.receive([start("open", time=DECEMBER)], at=DECEMBER)
    assert books.close("2026-11") == {}
    books.finalize(now=LATER)


def test_a_month_is_not_closed_before_its_grace_is_over_in_the_customers_zone(books: Books) -> None:
    use(books, "one", NOVEMBER)
    zone = CustomerDetails(time_zone="America/Los_Angeles")
    put_customer(engine=books.service.engine, customer_id="acme", details=zone, now=NOVEMBER)
    midnight = datetime(2026, 12, 1, tzinfo=ZoneInfo("America/Los_Angeles"))
    books.close("2026-11", now=midnight + timedelta(hours=23, minutes=59))
    assert books.invoices() == []
    books.close("2026-11", now=midnight + timedelta(hours=24))
    assert books.invoices()[0].closed.ends_at == midnight


def test_earlier_open_months_are_closed_first_each_with_its_invoice(books: Books) -> None:
    use(books, "august", datetime(2026, 8, 5, tzinfo=UTC))
    use(books, "november", NOVEMBER)
    books.close("2026-12")
    assert [str(stored.invoice.period) for stored in books.invoices()] == ["2026-08", "2026-11"]
    assert lines(books)[-1] == ("carried_in", "2026-08", Decimal("0.406"), 0)


def test_closing_again_changes_nothing(books: Books) -> None:
    use(books, "one", NOVEMBER)
    books.close("2026-11")
    before = books.invoices()
    books.close("2026-11")
    assert books.invoices() == before


def test_a_customer_that_two_processes_refuse_in_one_run_is_refused_once(books: Books) -> None:
    """Each claimed it before it saw that the other had refused it."""
    use(books, "one", NOVEMBER)
    engine = books.service.engine
    with transaction(engine) as connection:
        run = start_run(
            connection,
            period=BillingPeriod.parse("2026-11"),
            customer_id=None,
            force_reason=None,
            requested_by="test",
            as_of=None,
            now=LATER,
        )
    for detail in ("the first", "the second"):
        refused = {"acme": detail}
        with transaction(engine) as connection:
            refuse_customers(connection, run_id=run.run_id, result="unsettled", details=refused, now=LATER)
    with transaction(engine) as connection:
        (refusal,) = list_refusals(connection, run_id=run.run_id, limit=10)
    assert refusal.detail == "the first"


@pytest.mark.skipif(is_cluster(), reason="Citus has no triggers: bookings and closing take the same lock")
@pytest.mark.parametrize("table", ["charges", "adjustments", "manual_adjustments"])
def test_the_database_refuses_an_entry_in_a_closed_month_from_any_login(books: Books, table: str) -> None:
    use(books, "one", NOVEMBER)
    later = NOVEMBER + timedelta(hours=2)
    books.receive([end("one", 41_000, time=later, usage_source=UsageSource.PROVIDER)], at=later)
    books.finalize(now=later)
    adjust_manually(
        engine=books.service.engine,
        idempotency_key="k",
        customer_id="acme",
        stream_id=None,
        kind=ManualKind.CREDIT,
        usd_cents=Decimal(-1),
        reason="sorry",
        booked_by="test",
        now=NOVEMBER,
    )
    books.close("2026-12")
    with books.owner() as connection:
        connection.execute(f"CREATE TEMP TABLE copied AS SELECT * FROM {table} LIMIT 1".encode())
        key = {"charges": "stream_id = 'x'", "adjustments": "adjustment_id = 'x', revision = 99"}
        changed = key.get(table, "adjustment_id = 'x'")
        connection.execute(f"UPDATE copied SET {changed}".encode())
        with pytest.raises(errors.CheckViolation, match="is closed"):
            connection.execute(f"INSERT INTO {table} SELECT * FROM copied".encode())


def test_cancelled_and_free_streams_are_on_the_invoice_as_well(books: Books) -> None:
    books.receive(
        [start("c", time=NOVEMBER), end("c", 20_000, time=NOVEMBER, outcome=Outcome.CANCELLED)], at=NOVEMBER
    )
    books.receive(
        [start("f", time=NOVEMBER), end("f", time=NOVEMBER, outcome=Outcome.FAILED, usage=None)], at=NOVEMBER
    )
    books.finalize(now=LATER)
    books.close("2026-11")
    (line,) = books.invoices()[0].invoice.lines
    assert (line.sum.stream_count, line.sum.usd_cents) == (2, Decimal("50.406"))


def test_a_customer_whose_invoice_cannot_be_made_is_refused_with_the_error_and_holds_up_no_other(
    books: Books,
) -> None:
    customers = ["bad", *(f"c{number}" for number in range(6))]
    for customer_id in customers:
        put_customer(engine=books.service.engine, customer_id=customer_id, details=CustomerDetails(), now=NOVEMBER)
        books.receive([start(time=NOVEMBER, customer_id=customer_id), end(time=NOVEMBER, customer_id=customer_id)])
    books.finalize(now=NOVEMBER + timedelta(days=15))
    with books.owner() as connection:
        connection.execute("ALTER TABLE invoices ADD CONSTRAINT refused CHECK (customer_id <> 'bad')")
    refused = books.close("2026-11")
    assert list(refused) == ["bad"]
    # Citus reports what a node refuses within COPY as an internal error.
    assert refused["bad"].startswith(f"{'InternalError' if is_cluster() else 'IntegrityError'}: ")
    assert [len(books.invoices(customer_id)) for customer_id in customers] == [0, 1, 1, 1, 1, 1, 1]
    with books.owner() as connection:
        connection.execute("ALTER TABLE invoices DROP CONSTRAINT refused")
    assert books.close("2026-11") == {}
    assert len(books.invoices("bad")) == 1
    assert books.audit(now=LATER) == []
