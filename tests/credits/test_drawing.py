"""Drawing: in order of booking, exact, restored in reverse order, and never spendable after the end of a grant."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from msgspec.structs import replace

from metering.core.money import sum_cents
from metering.credits.booking import Booking, BookingKind
from metering.credits.drawing import Drawing, Paid, add_entry, balance_as_of, expire, month_of, paid_after
from metering.credits.grant import EntryKind, Funding, Grant, GrantEntry, GrantLimits, GrantState
from metering.credits.terms import GrantTerms, new_grant
from tests.credits.histories import MODELS, T0, UNIT, Book, End, Make, Step, Wait, cents, histories, later
from tests.credits.oracle import REFUNDED, VOIDED, Oracle, Purse

UTC_ZONE = ZoneInfo("UTC")
DAY = timedelta(days=1)


def grant(name: str, amount: str = "100", paid: int = 0, **terms: object) -> tuple[Grant, GrantEntry]:
    made = new_grant(
        GrantTerms(
            customer_id="acme",
            amount_usd_cents=Decimal(amount),
            paid_usd_cents=Decimal(paid),
            funding=Funding.EXTERNAL if paid else Funding.NONE,
            reason="test",
            **terms,  # type: ignore[arg-type]
        ),
        grant_id=name,
        by="test",
        now=T0,
    )
    active, entry = add_entry(made, kind=EntryKind.GRANTED, usd_cents=Decimal(amount), at=T0, period="2026-11")
    return replace(active, state=GrantState.ACTIVE), entry


def booking(
    usd_cents: str | Decimal, stream: str | None = "s", at: datetime = T0, model: str = MODELS[0], number: int = 1
) -> Booking:
    return Booking(
        customer_id="acme",
        entry_id=f"e{number}",
        stream_id=stream,
        kind=BookingKind.CHARGE,
        usd_cents=Decimal(usd_cents),
        booked_at=at,
        filed_at=at,
        period=month_of(at, time_zone=UTC_ZONE),
        provider="openai",
        model=model,
    )


def posted(*grants: tuple[Grant, GrantEntry], bookings: list[Booking]) -> Drawing:
    drawing = Drawing.of([each for each, _ in grants], paid={}, time_zone=UTC_ZONE)
    for each in bookings:
        drawing.post(each, now=each.booked_at)
    return drawing


def shown(drawing: Drawing) -> list[tuple[str, str, str]]:
    return [(each.grant_id, each.kind.value, str(each.usd_cents)) for each in drawing.entries]


def test_a_booking_is_paid_exactly_and_the_next_grant_pays_the_rest() -> None:
    drawing = posted(grant("a", "0.3"), grant("b", "5"), bookings=[booking("0.4985")])
    assert shown(drawing) == [("a", "drawn", "-0.3"), ("b", "drawn", "-0.1985")]
    assert drawing.grants["b"].balance_usd_cents == Decimal("4.8015")
    assert drawing.entries[1].entry_period == "2026-11"


def test_what_no_grant_can_pay_stays_owed() -> None:
    drawing = posted(grant("a", "1"), bookings=[booking("3"), booking("2", "t", number=2)])
    assert shown(drawing) == [("a", "drawn", "-1")]


def test_amounts_of_many_digits_are_not_rounded() -> None:
    long = Decimal("123456789.123456789012345678901234567")
    bookings = [booking(long), booking(long.copy_negate(), number=2)]
    drawing = posted(grant("a", "999999999999999"), bookings=bookings)
    assert [each.usd_cents for each in drawing.entries] == [long.copy_negate(), long]
    assert drawing.grants["a"].balance_usd_cents == Decimal(999999999999999)


def test_what_is_taken_back_is_restored_to_the_last_grant_that_paid_first() -> None:
    drawing = posted(
        grant("a", "2"),
        grant("b", "5"),
        bookings=[booking("4"), booking("9", "other", number=2), booking("-3", number=3)],
    )
    assert shown(drawing)[-2:] == [("b", "restored", "2"), ("a", "restored", "1")]
    assert (drawing.grants["a"].balance_usd_cents, drawing.grants["b"].balance_usd_cents) == (1, 2)


def test_no_more_is_restored_than_was_drawn_for_the_stream() -> None:
    """Double refund of a late settle: the second one finds nothing to restore."""
    drawing = posted(grant("a", "10"), bookings=[booking("4"), booking("-4", number=2), booking("-4", number=3)])
    assert shown(drawing) == [("a", "drawn", "-4"), ("a", "restored", "4")]
    assert drawing.grants["a"].balance_usd_cents == 10


def test_no_more_is_drawn_than_the_stream_costs() -> None:
    of_a = [each for each, _ in (grant("a", "10"),)]
    for cost, drawn in (("-1", []), ("3", [("a", "drawn", "-3")]), ("9", [("a", "drawn", "-4")])):
        drawing = Drawing.of(of_a, paid={}, costs={"s": Decimal(cost)}, time_zone=UTC_ZONE)
        drawing.post(booking("4"), now=T0)
        assert shown(drawing) == drawn


def test_a_credit_for_the_customer_as_a_whole_restores_nothing() -> None:
    drawing = posted(grant("a", "10"), bookings=[booking("4"), booking("-4", None, number=2)])
    assert shown(drawing) == [("a", "drawn", "-4")]


def test_expired_credit_cannot_be_spent_before_a_sweeper_runs() -> None:
    ends = T0 + DAY
    drawing = posted(grant("a", "10", expires_at=ends), grant("b", "10"), bookings=[booking("4", at=ends)])
    assert shown(drawing) == [("a", "expired", "-10"), ("b", "drawn", "-4")]
    assert drawing.entries[0].booked_at == ends


def test_what_returns_to_an_expired_grant_expires_at_once_and_visibly() -> None:
    late = T0 + 2 * DAY
    drawing = posted(
        grant("a", "10", paid=1000, expires_at=T0 + DAY),
        bookings=[booking("4"), booking("-1", at=late, number=2)],
    )
    assert shown(drawing)[1:] == [("a", "expired", "-6"), ("a", "restored", "1"), ("a", "expired", "-1")]
    assert [each.released_cents for each in drawing.entries] == [400, 600, -100, 100]
    assert drawing.grants["a"].balance_usd_cents == 0


def test_expiry_does_not_take_refunded_credit_back_a_second_time_after_a_dispute() -> None:
    sold, _ = grant("a", "10", paid=1000, expires_at=T0 + DAY)
    refunded, entry = add_entry(
        sold, kind=EntryKind.REFUNDED, usd_cents=Decimal(-10), at=T0, period="2026-11", reason="dispute"
    )
    assert entry.released_cents == 1000
    assert expire(refunded, at=T0 + DAY, time_zone=UTC_ZONE) == (refunded, [])
    drawing = Drawing.of([refunded], paid={}, time_zone=UTC_ZONE)
    drawing.post(booking("4", at=T0 + 2 * DAY), now=T0 + 2 * DAY)
    assert drawing.entries == []


def test_a_limited_grant_is_passed_over_for_other_models() -> None:
    limited = grant("a", "10", priority=1, limits=GrantLimits(models=(MODELS[1],)))
    drawing = posted(limited, grant("b", "10"), bookings=[booking("4"), booking("4", model=MODELS[1], number=2)])
    assert shown(drawing) == [("b", "drawn", "-4"), ("a", "drawn", "-4")]


def test_a_worker_whose_clock_is_behind_books_after_the_newest_entry() -> None:
    early = T0 - DAY
    drawing = posted(grant("a", "10"), bookings=[booking("4", at=early)])
    assert drawing.entries[0].booked_at == T0


def test_usage_of_a_month_before_the_sale_is_recognised_in_the_month_of_the_sale() -> None:
    sold = grant("a", "10", paid=1000)
    before = booking("4", at=T0)
    drawing = posted(sold, bookings=[replace(before, period="2026-10")])
    assert [(each.period, each.entry_period) for each in drawing.entries] == [("2026-11", "2026-10")]


def test_a_balance_of_the_past_is_read_from_the_entries() -> None:
    made, granted = grant("a", "10", expires_at=T0 + 3 * DAY)
    drawing = posted((made, granted), bookings=[booking("4", at=T0 + DAY)])
    entries = [granted, *drawing.entries]
    times = [T0 - DAY, T0, T0 + DAY, T0 + 3 * DAY]
    assert [balance_as_of(entries, expires_at=made.expires_at, at=each) for each in times] == [0, 10, 6, 0]


def test_what_is_paid_for_a_stream_is_what_was_drawn_and_not_restored() -> None:
    draws = [Paid("a", Decimal(2)), Paid("b", Decimal(5)), Paid("b", Decimal(-5)), Paid("a", Decimal("-0.5"))]
    assert paid_after(draws) == [Paid("a", Decimal("1.5"))]


class _World:
    """The same history for the product and the oracle."""

    def __init__(self) -> None:
        self.now = T0
        self.grants: dict[str, Grant] = {}
        self.entries: list[GrantEntry] = []
        self.oracle = Oracle()
        self.booked: dict[str, int] = {}

    def play(self, step: Step) -> None:
        match step:
            case Wait(hours):
                self.now += later(hours)
            case Make():
                self._make(step)
            case Book():
                self._book(step)
            case End():
                self._end(step)

    def _make(self, step: Make) -> None:
        name = f"g{len(self.grants):02d}"
        ends = None if step.expires is None else self.now + later(step.expires)
        starts = self.now + later(step.starts)
        terms = GrantTerms(
            customer_id="acme",
            amount_usd_cents=cents(step.units),
            paid_usd_cents=Decimal(step.paid_cents),
            funding=Funding.EXTERNAL,
            reason="test",
            priority=step.priority,
            effective_from=starts,
            expires_at=ends,
            limits=GrantLimits(models=step.models),
        )
        made = new_grant(terms, grant_id=name, by="test", now=self.now)
        self._keep(
            *add_entry(made, kind=EntryKind.GRANTED, usd_cents=cents(step.units), at=self.now, period="2026-11")
        )
        self.grants[name] = replace(self.grants[name], state=GrantState.ACTIVE)
        self.oracle.grant(Purse(name, step.units, step.priority, starts, ends, self.now, step.models))

    def _book(self, step: Book) -> None:
        units = step.units
        if step.stream is not None:
            # A stream's bookings never sum to less than 0.
            units = max(units, -self.booked.get(step.stream, 0))
            self.booked[step.stream] = self.booked.get(step.stream, 0) + units
        draws: dict[str, list[Paid]] = {}
        for entry in self.entries:
            if entry.stream_id is not None:
                draws.setdefault(entry.stream_id, []).append(Paid(entry.grant_id, -entry.usd_cents))
        drawing = Drawing.of(
            self.grants.values(),
            paid={stream: paid_after(each) for stream, each in draws.items()},
            time_zone=UTC_ZONE,
        )
        drawing.post(booking(cents(units), step.stream, self.now, step.model), now=self.now)
        self.grants |= drawing.grants
        self.entries += drawing.entries
        paid = self.oracle.book(step.stream, units, model=step.model, now=self.now)
        drawn = sum_cents(each.usd_cents for each in drawing.entries if each.entry_id is not None)
        assert drawn == -cents(paid)

    def _end(self, step: End) -> None:
        if step.place >= len(self.grants):
            return
        name = sorted(self.grants)[step.place]
        before = self.grants[name]
        at = max(self.now, before.changed_at)
        if before.state is GrantState.VOIDED or not before.pays_at(max(at, before.effective_from)):
            return
        units = int(before.balance_usd_cents / UNIT)
        if before.expired(at):
            return
        taken = min(step.units, units) if step.refund else units
        kind = EntryKind.REFUNDED if step.refund else EntryKind.VOIDED
        self._keep(*add_entry(before, kind=kind, usd_cents=-cents(taken), at=at, period="2026-11"))
        if not step.refund:
            self.grants[name] = replace(self.grants[name], state=GrantState.VOIDED)
        self.oracle.end(name, taken, REFUNDED if step.refund else VOIDED, now=self.now)

    def _keep(self, changed: Grant, entry: GrantEntry) -> None:
        self.grants[changed.grant_id] = changed
        self.entries.append(entry)

    def check(self) -> None:
        for name, each in self.grants.items():
            mine = [entry for entry in self.entries if entry.grant_id == name]
            at = max(self.now, each.changed_at)
            assert each.balance_at(at) == cents(self.oracle.left(name, now=self.now))
            assert sum_cents(entry.usd_cents for entry in mine) == each.balance_usd_cents
            assert [entry.entry_number for entry in mine] == list(range(1, len(mine) + 1))
            assert all(a.booked_at <= b.booked_at for a, b in pairwise(mine))
            drawn = [entry for entry in mine if entry.kind is EntryKind.DRAWN]
            assert all(each.effective_from <= entry.booked_at for entry in drawn)
            assert all(each.expires_at is None or entry.booked_at < each.expires_at for entry in drawn)
            earned = sum(entry.released_cents for entry in mine if entry.entry_id is not None)
            assert (each.earned.recognised_cents, each.earned.released_cents) == (
                earned,
                sum(entry.released_cents for entry in mine),
            )
            if not each.balance_usd_cents:
                assert each.earned.released_cents == each.paid_usd_cents
        for stream, units in self.booked.items():
            assert 0 <= self.oracle.paid_for(stream) <= units


@settings(max_examples=300)
@given(history=histories)
def test_any_history_ends_with_every_unit_where_the_design_says(history: list[Step]) -> None:
    world = _World()
    for step in history:
        world.play(step)
        world.check()


def test_months_are_those_of_the_customers_time_zone() -> None:
    at = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    assert month_of(at, time_zone=ZoneInfo("Europe/Berlin")) == "2026-12"
