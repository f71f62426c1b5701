"""Random histories of holds, deliveries, bookings, late facts, expiry and releases, against a bookkeeper."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.budget import BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.expire_holds import expire_holds
from metering.budgets.holds import Hold
from metering.budgets.release_hold import StreamStartedError, UnknownHoldError, release_hold
from metering.server.embedded.data_dir import Services
from tests.builders import Books
from tests.builders.budgets import Purse, asked, sliding
from tests.builders.events import NOW, delivered, end, start
from tests.database import Template, clone

pytestmark = pytest.mark.long

# Dollars a million of claude-opus-4.7, as cents a token.
_INPUT, _OUTPUT = Decimal("0.0005"), Decimal("0.0025")
_LIMIT = Decimal(3)

_STREAMS = st.sampled_from([f"s{number}" for number in range(6)])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), _STREAMS, st.integers(0, 400)),
        st.tuples(st.just("slide"), _STREAMS, st.integers(1, 200)),
        st.tuples(st.just("start"), _STREAMS, st.just(0)),
        st.tuples(st.just("deliver"), _STREAMS, st.integers(1, 900)),
        st.tuples(st.just("end"), _STREAMS, st.integers(0, 900)),
        st.tuples(st.just("release"), _STREAMS, st.just(0)),
        st.tuples(st.just("pass"), st.just(""), st.integers(1, 200)),
        st.tuples(st.just("finalize"), st.just(""), st.just(0)),
    ),
    max_size=25,
)


class Ledger:
    """What an independent bookkeeper knows: costs by stream, and what is held for which."""

    def __init__(self) -> None:
        self.held: dict[str, Decimal] = {}
        self.made: dict[str, datetime] = {}
        self.begun: set[str] = set()
        self.booked: dict[str, Decimal] = {}

    @property
    def spent(self) -> Decimal:
        return sum(self.booked.values(), Decimal(0))

    @property
    def all_held(self) -> Decimal:
        return sum(self.held.values(), Decimal(0))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=_STEPS)
def test_spent_and_held_are_what_a_bookkeeper_says_after_every_step(
    services: Services, rated_template: Template, steps: list[tuple[str, str, int]]
) -> None:
    with clone(services, rated_template) as database, database.service() as service:
        books, purse, ledger = Books(database, service), Purse(service), Ledger()
        purse.set("b", str(_LIMIT), window=BudgetWindow.TOTAL)
        purse.set("all", "1000", scope=BudgetScope(ScopeKind.DEPLOYMENT))
        now = NOW
        for what, stream_id, number in steps:
            now = _play(books, purse, ledger, what, stream_id, number, now)
            for budget_id in ("b", "all"):
                standing = purse.standing(budget_id, now)
                assert (standing.spent_usd_cents, standing.held_usd_cents) == (ledger.spent, ledger.all_held), what
        assert books.audit(now=now) == []


def _play(
    books: Books, purse: Purse, ledger: Ledger, what: str, stream_id: str, number: int, now: datetime
) -> datetime:
    match what:
        case "hold" | "slide":
            _hold(purse, ledger, what, stream_id, number, now)
        case "start":
            books.receive([start(stream_id, time=NOW)], at=now)
            ledger.begun.add(stream_id)
        case "deliver":
            books.receive([delivered(stream_id, number, seq=number, time=NOW)], at=now)
            ledger.begun.add(stream_id)
            before = ledger.all_held
            stopped = purse.deliver({stream_id: number}, now)
            hold = _open_hold(purse, stream_id)
            if hold is not None and stream_id in ledger.held:
                ledger.held[stream_id] = hold.held_usd_cents
                assert stopped == ([stream_id] if hold.is_stopped else [])
                covers = hold.covers_output_tokens
                assert hold.held_usd_cents == 812 * _INPUT + covers * _OUTPUT
            assert ledger.all_held <= before or ledger.spent + ledger.all_held <= _LIMIT
        case "end":
            books.receive([end(stream_id, number, time=NOW)], at=now)
            ledger.begun.add(stream_id)
        case "release":
            _release(purse, ledger, stream_id, now)
        case "pass":
            now += timedelta(seconds=number)
            expire_holds(engine=purse.engine, now=now)
            _expire(ledger, now)
        case "finalize":
            books.finalize(now)
            _look_at_bookings(books, ledger)
    return now


def _open_hold(purse: Purse, stream_id: str) -> Hold | None:
    try:
        hold = purse.stored(stream_id)
    except KeyError:
        return None
    return hold if hold.state == "open" else None


def _hold(purse: Purse, ledger: Ledger, what: str, stream_id: str, number: int, now: datetime) -> None:
    request = (
        asked(stream_id, max_output_tokens=number)
        if what == "hold"
        else sliding(stream_id, slice_output_tokens=number)
    )
    needed = 812 * _INPUT + number * _OUTPUT
    known = stream_id in ledger.held
    (answer,) = purse.ask(request, now=now)
    if known or stream_id in ledger.booked:
        return  # the same hold, another one's, or a final stream: nothing is held anew
    if ledger.spent + ledger.all_held + needed > _LIMIT:
        _expire(ledger, now)
    if isinstance(answer, Hold):
        assert ledger.spent + ledger.all_held + needed <= _LIMIT
        ledger.held[stream_id], ledger.made[stream_id] = needed, now
    elif isinstance(answer, BudgetExhaustedError):
        assert ledger.spent + ledger.all_held + needed > _LIMIT


def _expire(ledger: Ledger, now: datetime) -> None:
    for stream_id, made in list(ledger.made.items()):
        if stream_id in ledger.held and stream_id not in ledger.begun and made + timedelta(seconds=120) <= now:
            del ledger.held[stream_id]


def _release(purse: Purse, ledger: Ledger, stream_id: str, now: datetime) -> None:
    try:
        release_hold(engine=purse.engine, customer_id="acme", stream_id=stream_id, now=now)
    except (StreamStartedError, UnknownHoldError):
        return
    ledger.held.pop(stream_id, None)


def _look_at_bookings(books: Books, ledger: Ledger) -> None:
    for stream_id in ledger.begun:
        view = books.stream(stream_id)
        if view.charge is not None:
            ledger.held.pop(stream_id, None)
            ledger.booked[stream_id] = sum(
                (adjustment.usd_cents for adjustment in view.adjustments), view.charge.bill.usd_cents
            )
