"""What an invoice line consists of: quantity x rate by kind, one row for each rate, as a payer computes it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.customers.store import CustomerDetails
from metering.db.engine import service_engine, transaction
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.months.close_months import close_step
from metering.months.keep_rates import add_missing_rates
from metering.months.line_rates import LineRate, rate_rows
from metering.months.queries.line_rates import kept_line_rates
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_cancel_policy, set_markup, set_upstream_price
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.builders.books import CLOSE_TERMS

EARLY, LATE = datetime(2026, 11, 5, 9, tzinfo=UTC), datetime(2026, 11, 20, 9, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 12, 9, tzinfo=UTC)
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
MODEL = "house-model"


def price(books: Books, since: datetime, **usd: str) -> None:
    kinds = {UsageKind(name): Decimal(amount) for name, amount in usd.items()}
    set_rate(
        engine=books.service.engine,
        provider="anthropic",
        model=MODEL,
        effective_from=since,
        rates=[Rate(kind=kind, usd_per_million=amount) for kind, amount in kinds.items()],
        set_by="test",
        now=SINCE - timedelta(days=1),
    )


def use(books: Books, name: str, at: datetime, usage: Usage, **changes: object) -> None:
    outcome = changes.pop("outcome", Outcome.COMPLETED)
    source = changes.pop("usage_source", UsageSource.PROVIDER)
    given = {"model": MODEL, **changes}
    begun = start(name, time=at, **given)
    customer_id = begun.customer_id
    ended_at = at + timedelta(seconds=4)
    ended = end(name, time=ended_at, customer_id=customer_id, usage=usage, usage_source=source, outcome=outcome)
    books.receive([begun, ended], at=at)
    books.finalize(now=at + timedelta(minutes=1))


def rates(books: Books, place: int = -1) -> list[tuple[str | None, int, str | None, Decimal]]:
    """The rates of an invoice's first line: kind, quantity, USD per million, cents."""
    stored = books.invoices()[place]
    found = kept(books, stored.invoice.invoice_id)
    return [
        (rate.kind.value if rate.kind else None, int(rate.quantity), _plain(rate.usd_per_million), rate.usd_cents)
        for rate in found[stored.invoice.lines[0].sum.line_key]
    ]


def kept(books: Books, invoice_id: str, customer_id: str = "acme") -> dict[str, list[LineRate]]:
    with transaction(books.service.engine) as connection:
        return dict(kept_line_rates(connection, [(customer_id, invoice_id)])[invoice_id])  # type: ignore[arg-type]


def _plain(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd.normalize():f}"


def test_each_kind_has_a_row_and_each_rate_of_a_changed_price_one_of_its_own(books: Books) -> None:
    price(books, SINCE, input="3", cache_read="0.3", output="15", request="500")
    price(books, datetime(2026, 11, 15, tzinfo=UTC), input="2", cache_read="0.3", output="10", request="500")
    cached = Usage(input_tokens=5_000, cache_read_input_tokens=2_000, output_tokens=300)
    use(books, "early", EARLY, cached)
    use(books, "late", LATE, Usage(input_tokens=1_000, output_tokens=100))
    use(books, "later", LATE, Usage(input_tokens=1_500, output_tokens=100))
    assert books.close("2026-11") == {}
    assert rates(books) == [
        ("input", 3_000, "3", Decimal("0.9")),
        ("input", 2_500, "2", Decimal("0.5")),
        ("cache_read", 2_000, "0.3", Decimal("0.06")),
        ("output", 300, "15", Decimal("0.45")),
        ("output", 200, "10", Decimal("0.2")),
        ("request", 3, "500", Decimal("0.15")),
    ]
    assert sum(cents for *_, cents in rates(books)) == books.invoices()[0].invoice.exact_usd_cents


def test_a_markup_is_in_the_rate_and_a_waived_completion_is_a_row_without_a_charge(books: Books) -> None:
    price(books, SINCE, input="3", output="15")
    engine = books.service.engine
    set_cancel_policy(
        engine=engine,
        provider="anthropic",
        policy=CancelPolicy.ZERO,
        effective_from=SINCE,
        set_by="test",
        now=SINCE,
    )
    set_markup(
        engine=engine, customer_id="acme", percent=Decimal(10), effective_from=SINCE, set_by="test", now=SINCE
    )
    use(books, "whole", EARLY, Usage(input_tokens=1_000, output_tokens=100))
    for name in ("cancelled", "failed"):
        use(books, name, EARLY, Usage(input_tokens=1_000, output_tokens=9), outcome=Outcome.CANCELLED)
    books.close("2026-11")
    assert rates(books) == [
        ("input", 1_000, "3.3", Decimal("0.33")),
        ("output", 100, "16.5", Decimal("0.165")),
        (None, 2, None, Decimal(0)),
    ]


def test_an_adjustment_of_an_earlier_month_shows_what_it_changed(books: Books) -> None:
    price(books, SINCE, input="3", output="15")
    counted = Usage(input_tokens=1_000, output_tokens=100)
    use(books, "s", EARLY, counted, usage_source=UsageSource.GATEWAY_COUNT)
    books.close("2026-11")
    reported = Usage(input_tokens=1_000, output_tokens=160)
    better = end("s", time=EARLY + timedelta(seconds=4), usage=reported, usage_source=UsageSource.PROVIDER)
    books.receive([better], at=DECEMBER)
    books.finalize(now=DECEMBER)
    books.close("2026-12")
    before, after = rates(books, 0), rates(books)
    assert before == [("input", 1_000, "3", Decimal("0.3")), ("output", 100, "15", Decimal("0.15"))]
    assert after == [("output", 60, "15", Decimal("0.09"))]


def test_completions_at_their_upstreams_price_are_one_row(books: Books) -> None:
    set_upstream_price(
        engine=books.service.engine,
        provider="openrouter",
        accepted=True,
        effective_from=SINCE,
        set_by="test",
        now=SINCE,
    )
    for number, cost in enumerate(("0.0021", "0.0034")):
        begun = start(f"u{number}", time=EARLY, provider="openrouter", model="unknown-to-us")
        ended = end(f"u{number}", time=EARLY, upstream_cost_usd=Decimal(cost))
        books.receive([begun, ended], at=EARLY)
    books.finalize(now=EARLY + timedelta(minutes=1))
    books.close("2026-11")
    assert rates(books) == [("upstream_cost", 2, None, Decimal("0.55"))]


def test_time_has_its_rounding_in_a_row_of_its_own() -> None:
    third = Decimal("0.005555555556")  # 1 s x $0.2 / 36, rounded, three times
    rate = LineRate(
        kind=UsageKind.AUDIO_SECONDS, quantity=Decimal(3), usd_per_hour=Decimal("0.2"), usd_cents=3 * third
    )
    priced, rounding = rate_rows([rate])
    assert (priced.usd_cents, priced.rate()) == (Decimal("0.016666666667"), "$0.20 per hour")
    assert rounding.usd_cents == Decimal("0.000000000001")
    assert rounding.what.startswith("Rounding of time")


def test_invoices_that_older_code_made_get_their_rates_from_a_worker_once(books: Books) -> None:
    price(books, SINCE, input="3", output="15")
    use(books, "s", EARLY, Usage(input_tokens=1_000, output_tokens=100))
    books.close("2026-11")
    expected = rates(books)
    with books.owner() as connection:
        connection.execute("DELETE FROM invoice_line_rates")
        connection.execute("UPDATE invoices SET rates_kept = false")
    invoice_id = books.invoices()[0].invoice.invoice_id
    assert kept(books, invoice_id) == {}
    assert books.audit(now=DECEMBER) == []
    engine = books.service.engine
    assert add_missing_rates(engine=engine, may_go_on=lambda: True) == 1
    assert rates(books) == expected
    assert add_missing_rates(engine=engine, may_go_on=lambda: True) == 0


def test_an_invoice_whose_rates_do_not_sum_is_left_out_and_holds_up_no_other(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    price(books, SINCE, input="3", output="15")
    use(books, "s", EARLY, Usage(input_tokens=1_000, output_tokens=100))
    put_customer(engine=books.service.engine, customer_id="zed", details=CustomerDetails(), now=EARLY)
    use(books, "t", EARLY, Usage(input_tokens=1_000, output_tokens=100), customer_id="zed")
    books.close("2026-11")
    with books.owner() as connection:
        connection.execute("DELETE FROM invoice_line_rates")
        connection.execute("UPDATE invoices SET rates_kept = false")
        connection.execute("UPDATE invoice_lines SET usd_cents = usd_cents + 1 WHERE customer_id = 'acme'")
    assert add_missing_rates(engine=books.service.engine, may_go_on=lambda: True) == 1
    assert kept(books, books.invoices()[0].invoice.invoice_id) == {}
    assert "rates of an invoice not kept" in caplog.text
    with books.owner() as connection:
        connection.execute("UPDATE invoice_lines SET usd_cents = usd_cents - 1 WHERE customer_id = 'acme'")
    assert add_missing_rates(engine=books.service.engine, may_go_on=lambda: True) == 1


def test_a_month_whose_rates_take_too_long_is_invoiced_and_a_worker_adds_them(books: Books) -> None:
    price(books, SINCE, input="3", output="15")
    use(books, "s", EARLY, Usage(input_tokens=1_000, output_tokens=100))
    run = books.start_run("2026-11")
    impatient = service_engine(books.database.url, statement_timeout=timedelta(seconds=2))
    with books.owner() as connection:
        connection.execute("LOCK TABLE invoice_line_rates")
        while not close_step(engine=impatient, run=run, terms=CLOSE_TERMS, now=DECEMBER, limit=9).done:
            pass
    impatient.dispose()
    (stored,) = books.invoices()
    assert stored.invoice.exact_usd_cents == Decimal("0.45")
    assert kept(books, stored.invoice.invoice_id) == {}
    assert add_missing_rates(engine=books.service.engine, may_go_on=lambda: True) == 1
    assert [kind for kind, *_ in rates(books)] == ["input", "output"]
