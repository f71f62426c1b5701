"""What goes wrong with budgets elsewhere: each failure has a test whose name says that it does not happen here.

Those of prepaid credit are in `tests/credits`: expired credit, disputes, refunds, cents of rounding.
"""

import threading
from datetime import timedelta

import pytest

from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.budget import BudgetWindow
from metering.budgets.expire_holds import ExpiredHolds, expire_holds
from metering.budgets.hold_price import PriceUnknownError
from metering.budgets.holds import Hold, HoldState
from metering.budgets.release_hold import StreamStartedError, release_hold
from tests.builders import Books, end, start
from tests.builders.budgets import Purse, asked, sliding
from tests.builders.events import NOW, delivered


@pytest.fixture
def purse(books: Books) -> Purse:
    return Purse(books.service)


def test_concurrent_requests_do_not_pass_one_limit(purse: Purse) -> None:
    purse.set(limit="2")  # three holds of 0.656 cents
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda number=number: answers.extend(purse.ask(asked(f"s{number}"))))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert sum(isinstance(answer, Hold) for answer in answers) == 3
    assert purse.figures() == ("0", "1.968")


def test_a_reservation_that_is_left_after_a_disconnect_is_given_back(purse: Purse) -> None:
    purse.set(limit="1")
    purse.hold(asked("of a gateway that was killed"))
    assert isinstance(purse.ask(asked("next"))[0], BudgetExhaustedError)
    later = NOW + timedelta(seconds=121)
    assert expire_holds(engine=purse.engine, now=later) == ExpiredHolds(expired=1, renewed=0)
    assert purse.figures(now=later) == ("0", "0")
    assert isinstance(purse.hold(asked("next"), now=later), Hold)


def test_a_sweep_neither_releases_the_hold_of_a_live_stream_nor_drops_its_charge(
    books: Books, purse: Purse
) -> None:
    purse.set(limit="1")
    purse.hold(asked())
    books.receive([start(), delivered(tokens=10)])
    for minutes in (3, 6, 9, 12):
        later = NOW + timedelta(minutes=minutes)
        assert expire_holds(engine=purse.engine, now=later).expired == 0
        with pytest.raises(StreamStartedError):
            release_hold(engine=purse.engine, customer_id="acme", stream_id="s", now=later)
        assert purse.figures(now=later) == ("0", "0.656")
        assert isinstance(purse.ask(asked("another"), now=later)[0], BudgetExhaustedError)
    books.receive([end()], at=later)
    books.finalize(later)
    assert purse.figures(now=later) == ("0.4985", "0")
    assert purse.stored().state is HoldState.SETTLED
    assert purse.overruns() == []


def test_a_late_settle_is_counted_once_and_gives_the_hold_back_once(books: Books, purse: Purse) -> None:
    """The hold has expired and is made anew before its stream's events come, more than once."""
    purse.set(limit="1", window=BudgetWindow.TOTAL)
    purse.hold(asked())
    later = NOW + timedelta(minutes=3)
    expire_holds(engine=purse.engine, now=later)
    purse.hold(asked(), now=later)
    for _ in range(2):
        books.receive([start(), end()], at=later)
        books.finalize(later)
        expire_holds(engine=purse.engine, now=later + timedelta(hours=1))
        assert purse.figures(now=later) == ("0.4985", "0")
    assert purse.hold(asked(), now=later).state is HoldState.SETTLED
    assert purse.figures(now=later) == ("0.4985", "0")


def test_a_price_that_is_unknown_is_no_reason_to_skip_the_reservation(purse: Purse) -> None:
    purse.set(limit="10", unknown_price="7")
    assert isinstance(purse.ask(asked("a", model="of-nobody"))[0], Hold)
    assert isinstance(purse.ask(asked("b", model="of-nobody"))[0], BudgetExhaustedError)
    purse.set(limit="100")
    assert isinstance(purse.ask(asked("c", model="of-nobody"))[0], PriceUnknownError)
    assert purse.figures() == ("0", "7")


def test_a_customer_is_not_refused_at_nothing_spent_because_of_output_that_never_comes(purse: Purse) -> None:
    """A budget that five worst cases of 4,096 tokens fill has room for twenty streams that slide."""
    purse.set(limit="53.24")
    worst = [asked(f"w{number}", max_output_tokens=4_096) for number in range(6)]
    assert [isinstance(answer, Hold) for answer in purse.ask(*worst)] == [True] * 5 + [False]
    for request in worst[:5]:
        release_hold(engine=purse.engine, customer_id="acme", stream_id=request.stream_id, now=NOW)
    slow = [sliding(f"s{number}", max_output_tokens=4_096, slice_output_tokens=500) for number in range(20)]
    assert all(isinstance(answer, Hold) for answer in purse.ask(*slow))
