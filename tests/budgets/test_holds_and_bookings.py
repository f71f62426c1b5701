"""A hold sets money aside before the stream, and the booking of its charge closes it."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.admit_holds import HoldDiffersError, StreamFinalError
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.expire_holds import ExpiredHolds, expire_holds
from metering.budgets.hold_price import OutputUnknownError, PriceUnknownError
from metering.budgets.holds import Hold, HoldState
from metering.budgets.release_hold import StreamStartedError, release_hold
from metering.budgets.set_budget import BudgetDiffersError, end_budget
from metering.corrections.adjust_manually import adjust_manually
from metering.events.events import Outcome
from metering.ledger.entries import ManualKind
from tests.builders import Books
from tests.builders.budgets import Purse, asked, sliding
from tests.builders.events import NOW, T0, delivered, end, start


@pytest.fixture
def purse(books: Books) -> Purse:
    return Purse(books.service)


def test_a_hold_is_the_price_of_the_input_and_of_the_most_output(purse: Purse) -> None:
    purse.set(limit="100")
    hold = purse.hold(asked())
    assert hold.held_usd_cents == Decimal("0.656")
    assert purse.figures() == ("0", "0.656")
    assert [each.headroom_usd_cents for each in hold.standings] == [Decimal("99.344")]


def test_booking_the_charge_closes_the_hold_and_moves_the_amount_from_held_to_spent(
    books: Books, purse: Purse
) -> None:
    purse.set(limit="100")
    purse.hold(asked())
    books.receive([start(), end()])
    books.finalize()
    assert purse.figures() == ("0.4985", "0")
    assert purse.stored().state is HoldState.SETTLED
    assert purse.overruns() == []


def test_what_does_not_fit_is_refused_with_the_figures_and_the_output_that_would_fit(purse: Purse) -> None:
    purse.set(limit="1")
    (first, second) = purse.ask(asked("a"), asked("b"))
    assert isinstance(first, Hold)
    assert isinstance(second, BudgetExhaustedError)
    assert (second.standing.held_usd_cents, second.needed_usd_cents) == (Decimal("0.656"), Decimal("0.656"))
    # 0.344 cents are left, which do not pay for the input.
    assert second.max_output_tokens_that_fit == 0
    (third,) = purse.ask(asked("c", input_tokens=100, max_output_tokens=200))
    assert isinstance(third, BudgetExhaustedError)
    assert third.max_output_tokens_that_fit == 117
    assert isinstance(purse.ask(asked("c", input_tokens=100, max_output_tokens=117))[0], Hold)


def test_the_same_request_gets_the_same_hold_and_another_one_is_refused(purse: Purse) -> None:
    purse.set(limit="1")
    made = purse.hold(asked())
    assert purse.hold(asked(), now=NOW + timedelta(seconds=50)) == made
    (differs,) = purse.ask(asked(max_output_tokens=99))
    assert isinstance(differs, HoldDiffersError)
    assert purse.figures() == ("0", "0.656")


def test_two_requests_of_one_group_for_one_stream_hold_once(purse: Purse) -> None:
    purse.set(limit="1")
    first, second = purse.ask(asked(), asked())
    assert first == second
    assert purse.figures() == ("0", "0.656")


def test_a_final_stream_gets_no_hold(books: Books, purse: Purse) -> None:
    purse.set()
    books.receive([start(), end()])
    books.finalize()
    assert isinstance(purse.ask(asked())[0], StreamFinalError)


def test_what_was_spent_before_the_budget_counts(books: Books, purse: Purse) -> None:
    books.receive([start("a"), end("a"), start("b", api_key_id="k"), end("b")])
    books.finalize()
    purse.set("month")
    purse.set("key", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"))
    purse.set("all", scope=BudgetScope(ScopeKind.DEPLOYMENT), window=BudgetWindow.TOTAL)
    assert purse.figures("month") == ("0.997", "0")
    assert purse.figures("key") == ("0.4985", "0")
    assert purse.figures("all") == ("0.997", "0")


def test_open_holds_count_against_a_budget_that_is_made_later(purse: Purse) -> None:
    purse.hold(asked("a"))
    purse.hold(asked("b", api_key_id="k"))
    purse.hold(asked("c", tags={"team": "x"}))
    purse.set("all")
    purse.set("key", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"))
    purse.set("tag", scope=BudgetScope(ScopeKind.TAG, "acme", tag_name="team", tag_value="x"))
    assert [purse.figures(each)[1] for each in ("all", "key", "tag")] == ["1.968", "0.656", "0.656"]


def test_a_charge_beyond_its_hold_lands_and_says_why(books: Books, purse: Purse) -> None:
    purse.set()
    purse.hold(asked("held"))
    books.receive([start("held"), end("held", 200), start("free"), end("free")])
    books.receive([start("open", failed_open=True), end("open")])
    books.finalize()
    assert purse.figures() == ("1.903", "0")
    assert purse.overruns() == [
        ("free", "no_hold", "0.4985"),
        ("held", "counted_more", "0.25"),
        ("open", "failed_open", "0.4985"),
    ]


def test_usage_that_comes_late_moves_what_is_spent_and_is_an_overrun(books: Books, purse: Purse) -> None:
    purse.set()
    purse.hold(asked())
    cancelled = {"outcome": Outcome.CANCELLED}
    books.receive([start(), delivered(tokens=10), end(usage=None, usage_source=None, **cancelled)])
    books.finalize()
    assert purse.figures() == ("0.431", "0")
    books.receive([end(output=50, **cancelled)])
    books.finalize()
    assert purse.figures() == ("0.531", "0")
    assert purse.overruns() == [("s", "late_usage", "0.1")]


def test_a_hold_without_events_expires_and_its_late_stream_is_charged_all_the_same(
    books: Books, purse: Purse
) -> None:
    purse.set(limit="1")
    purse.hold(asked())
    later = NOW + timedelta(seconds=121)
    assert expire_holds(engine=purse.engine, now=later) == ExpiredHolds(expired=1, renewed=0)
    assert purse.figures() == ("0", "0")
    books.receive([start(), end()], at=later)
    books.finalize(later)
    assert purse.figures() == ("0.4985", "0")
    assert purse.overruns() == [("s", "hold_expired", "0.4985")]


def test_the_hold_of_a_live_stream_outlasts_its_lease(books: Books, purse: Purse) -> None:
    purse.set(limit="1")
    purse.hold(asked())
    books.receive([start()])
    later = NOW + timedelta(minutes=10)
    assert expire_holds(engine=purse.engine, now=later) == ExpiredHolds(expired=0, renewed=1)
    assert purse.figures() == ("0", "0.656")
    books.finalize(NOW + timedelta(minutes=20))
    assert purse.figures() == ("0", "0")
    assert purse.stored().state is HoldState.SETTLED


def test_a_hold_whose_gateway_vanished_is_no_reason_to_refuse_others(purse: Purse) -> None:
    purse.set(limit="1")
    purse.hold(asked("gone"))
    assert isinstance(purse.ask(asked("next"))[0], BudgetExhaustedError)
    later = NOW + timedelta(seconds=121)
    assert purse.hold(asked("next"), now=later).held_usd_cents == Decimal("0.656")
    assert purse.stored("gone").state is HoldState.EXPIRED
    assert purse.figures(now=later) == ("0", "0.656")


def test_an_expired_hold_that_is_asked_for_again_is_admitted_anew(purse: Purse) -> None:
    purse.set(limit="1")
    first = purse.hold(asked())
    later = NOW + timedelta(seconds=121)
    expire_holds(engine=purse.engine, now=later)
    again = purse.hold(asked(), now=later)
    assert (again.hold_id, again.made_at) == (first.hold_id, later)
    assert purse.figures(now=later) == ("0", "0.656")


def test_a_hold_is_released_only_before_its_stream_begins(books: Books, purse: Purse) -> None:
    purse.set()
    purse.hold(asked("a"))
    purse.hold(asked("b"))
    for _ in range(2):
        release_hold(engine=purse.engine, customer_id="acme", stream_id="a", now=NOW)
    assert purse.figures() == ("0", "0.656")
    books.receive([start("b")])
    with pytest.raises(StreamStartedError):
        release_hold(engine=purse.engine, customer_id="acme", stream_id="b", now=NOW)


def test_a_sliding_hold_follows_what_is_delivered_until_the_budget_ends(purse: Purse) -> None:
    # Input 0.406, a slice of 100 tokens 0.25.
    purse.set(limit="1")
    assert purse.hold(sliding()).held_usd_cents == Decimal("0.656")
    assert purse.deliver({"s": 50}) == []
    assert purse.figures() == ("0", "0.656")
    assert purse.deliver({"s": 51}) == []
    assert purse.figures() == ("0", "0.906")
    assert purse.deliver({"s": 151}) == ["s"]
    assert purse.deliver({"s": 152}) == ["s"]
    assert purse.figures() == ("0", "0.906")
    assert purse.stored().is_stopped


def test_a_stream_without_a_price_is_never_admitted_for_nothing(purse: Purse) -> None:
    assert isinstance(purse.ask(asked(model="of-nobody"))[0], PriceUnknownError)
    purse.set("strict")
    assert isinstance(purse.ask(asked(model="of-nobody"))[0], PriceUnknownError)
    purse.set("flat", scope=BudgetScope(ScopeKind.DEPLOYMENT), unknown_price="7")
    assert isinstance(purse.ask(asked(model="of-nobody"))[0], PriceUnknownError)
    purse.set("strict", unknown_price="5")
    assert purse.hold(asked(model="of-nobody")).held_usd_cents == Decimal(7)


def test_the_worst_case_of_an_output_without_an_end_is_refused(purse: Purse) -> None:
    assert isinstance(purse.ask(asked(max_output_tokens=None))[0], OutputUnknownError)


def test_a_budget_that_warns_admits_everything(purse: Purse) -> None:
    purse.set(limit="0.1", action=BudgetAction.WARN)
    purse.hold(asked())
    assert purse.standing().headroom_usd_cents == Decimal("-0.556")


def test_a_day_ends_in_the_customers_time_zone(books: Books, purse: Purse) -> None:
    purse.set("day", window=BudgetWindow.DAY)
    books.receive([start(), end()])
    books.finalize()
    assert purse.figures("day") == ("0.4985", "0")
    assert purse.figures("day", now=T0 + timedelta(hours=10)) == ("0", "0")


def test_a_credit_gives_room_again(books: Books, purse: Purse) -> None:
    purse.set(limit="1")
    books.receive([start(), end()])
    books.finalize()
    adjust_manually(
        engine=purse.engine,
        idempotency_key="k",
        customer_id="acme",
        stream_id="s",
        kind=ManualKind.CREDIT,
        usd_cents=Decimal("-0.4"),
        reason="goodwill",
        booked_by="test",
        now=NOW,
    )
    assert purse.figures() == ("0.0985", "0")


def test_a_budget_keeps_its_scope_and_begins_again_with_what_it_missed(books: Books, purse: Purse) -> None:
    purse.set(limit="1")
    with pytest.raises(BudgetDiffersError):
        purse.set(limit="1", window=BudgetWindow.DAY)
    books.receive([start("a"), end("a")])
    books.finalize()
    end_budget(engine=purse.engine, budget_id="b", by="test", now=NOW)
    books.receive([start("b"), end("b")])
    books.finalize()
    purse.hold(asked("c"))
    assert purse.set(limit="2").version == 3
    assert purse.figures() == ("0.997", "0.656")


def test_what_was_spent_before_a_budget_counts_once_however_often_the_budget_begins(
    books: Books, purse: Purse
) -> None:
    books.receive([start("a"), end("a")])
    books.finalize()
    for _ in range(3):
        purse.set(limit="1")
        assert purse.figures() == ("0.4985", "0")
        end_budget(engine=purse.engine, budget_id="b", by="test", now=NOW)


def test_what_gateways_dated_ahead_before_the_budget_counts_in_its_own_window(books: Books, purse: Purse) -> None:
    """A gateway's clock is ahead, so that a stream of today was booked for tomorrow before there was a budget."""
    tomorrow = NOW + timedelta(hours=20)
    books.receive([start("a", time=tomorrow), end("a", time=tomorrow)], at=NOW)
    books.finalize()
    for _ in range(2):
        purse.set("day", window=BudgetWindow.DAY)
        assert purse.figures("day") == ("0", "0")
        assert purse.figures("day", now=tomorrow) == ("0.4985", "0")
        end_budget(engine=purse.engine, budget_id="day", by="test", now=NOW)
    purse.set("day", window=BudgetWindow.DAY)
    books.receive([start("b", time=tomorrow), end("b", time=tomorrow)], at=tomorrow)
    books.finalize(tomorrow + timedelta(minutes=20))
    assert purse.figures("day", now=tomorrow) == ("0.997", "0")
