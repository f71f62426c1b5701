"""Months of random bookings in a real database, and what the contract says they come to.

The bookings go through the code that books; what is expected is worked out beside it, in fractions, from the
contract's words alone.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from msgspec import structs

from metering.core.money import EXACT
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import Outcome, UsageSource
from metering.events.usage import TIMED_KINDS, Usage, UsageKind
from metering.ledger.entries import Adjustment, AdjustmentReason, Charge, ManualKind, adjust, charge_id_of
from metering.ledger.store.charges import book_adjustments, book_charges
from metering.ledger.store.open_periods import lock_open_periods
from metering.ledger.store.rollups import BillChange, add_to_totals
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.bill import Bill
from metering.stripe.put_customer import put_customer
from tests.builders import Books

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Los_Angeles",
    "Pacific/Kiritimati",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
)
MODELS = (("anthropic", "claude-opus-4.7"), ("openai", "gpt-5.5-pro"), ("google", "gemini-3-pro"), ("x", "a/b"))
MINIMUM = 50
FIRST = (2025, 9)


@dataclass(frozen=True, slots=True)
class Expected:
    """An invoice by the contract."""

    period: str
    exact: Fraction
    carried_in: Fraction
    billed: int
    remainder: Fraction


@dataclass(slots=True)
class RandomMonths:
    """Books random months; remembers each amount with the month it belongs to."""

    books: Books
    random: random.Random
    customers: int
    zones: dict[str, str] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=lambda: defaultdict(str))
    amounts: dict[str, dict[str, Fraction]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Fraction))
    )
    reached: Counter[str] = field(default_factory=Counter)
    _streams: list[tuple[str, str, Bill, int]] = field(default_factory=list)

    def add_customers(self) -> None:
        """Each in a time zone."""
        for number in range(self.customers):
            self.move(f"c{number:04d}")

    def move(self, customer_id: str) -> None:
        """Put the customer into a time zone, perhaps another one."""
        self.zones[customer_id] = zone = self.random.choice(ZONES)
        put_customer(
            engine=self.books.service.engine,
            customer_id=customer_id,
            details=CustomerDetails(time_zone=zone),
            now=datetime(2025, 9, 1, tzinfo=UTC),
        )

    def book(self, place: int, charges: int) -> None:
        """A month's bookings: its own streams, late ones, early ones, adjustments, credits and corrections."""
        booked_at = _month_start(place + 1)
        for chunk in _chunks(charges):
            with transaction(self.books.service.engine) as connection:
                periods = lock_open_periods(connection, self.zones)
                made = [self._charge(periods, place, booked_at) for _ in range(chunk)]
                book_charges(connection, made)
                add_to_totals(connection, (BillChange(each.customer_id, None, each.bill) for each in made))
        with transaction(self.books.service.engine) as connection:
            periods = lock_open_periods(connection, self.zones)
            chosen = self.random.sample(range(len(self._streams)), k=len(self._streams) // 40)
            before = [self._streams[number][2] for number in chosen]
            changed = [self._adjustment(periods, number, booked_at) for number in chosen]
            book_adjustments(connection, changed)
            pairs = zip(before, changed, strict=True)
            add_to_totals(connection, (BillChange(each.customer_id, was, each.bill) for was, each in pairs))
        for _ in range(self.customers // 3):
            self._by_hand(booked_at)

    def _charge(self, periods: object, place: int, booked_at: datetime) -> Charge:
        number = len(self._streams)
        customer_id = f"c{min(int(self.random.expovariate(6) * self.customers), self.customers - 1):04d}"
        ended_at = self._moment(place)
        bill = self._bill(ended_at)
        stream_id = f"s{number}"
        self._streams.append((customer_id, stream_id, bill, 0))
        self._expect(customer_id, ended_at, bill.usd_cents)
        return Charge(
            charge_id=charge_id_of(customer_id=customer_id, stream_id=stream_id),
            customer_id=customer_id,
            stream_id=stream_id,
            booked_at=booked_at,
            period=periods.period(customer_id=customer_id, at=ended_at),  # type: ignore[attr-defined]
            bill=bill,
        )

    def _adjustment(self, periods: object, number: int, booked_at: datetime) -> Adjustment:
        customer_id, stream_id, before, revision = self._streams[number]
        after = self._bill(before.ended_at)
        if self.random.random() < 0.5:  # a few tokens more or less
            after = structs.replace(before, lines=(*before.lines[:-1], _line(self.random)))
        self._streams[number] = (customer_id, stream_id, after, revision + 1)
        made = adjust(
            customer_id=customer_id,
            stream_id=stream_id,
            revision=revision + 1,
            before=before,
            after=after,
            reason=AdjustmentReason.LATE_FACTS,
            booked_at=booked_at,
            period=periods.period(customer_id=customer_id, at=before.ended_at),  # type: ignore[attr-defined]
        )
        self._expect(customer_id, before.ended_at, after.usd_cents)
        self._expect(customer_id, before.ended_at, EXACT.minus(before.usd_cents))
        self.reached["adjustments below zero" if made.usd_cents < 0 else "adjustments"] += 1
        return made

    def _by_hand(self, booked_at: datetime) -> None:
        customer_id = self.random.choice(list(self.zones))
        kind = self.random.choice(list(ManualKind))
        cents = Decimal(self.random.randint(1, 10**12)).scaleb(-self.random.randint(3, 12))
        if kind is ManualKind.CREDIT or self.random.random() < 0.5:
            cents = -cents
        adjust_manually(
            engine=self.books.service.engine,
            idempotency_key=f"key {self.reached[kind]} {kind}",
            customer_id=customer_id,
            stream_id=None,
            kind=kind,
            usd_cents=cents,
            reason="for the test",
            booked_by="test",
            now=booked_at,
        )
        self.reached[kind] += 1
        self._expect(customer_id, booked_at, cents)

    def _moment(self, place: int) -> datetime:
        """Mostly within the month; some in an earlier one, some at its very edges."""
        drawn = self.random.random()
        if drawn < 0.08 and place:
            place = self.random.randrange(place)
        start, end = _month_start(place), _month_start(place + 1)
        if drawn > 0.98:
            return end + timedelta(microseconds=self.random.choice((-1, 0, 1)))
        return start + self.random.random() * (end - start)

    def _bill(self, ended_at: datetime) -> Bill:
        provider, model = self.random.choice(MODELS)
        return Bill(
            outcome=self.random.choice(list(Outcome)),
            provider=provider,
            model=model,
            response_model=None,
            api_key_id=self.random.choice((None, "key_1", "key_2")),
            started_at=ended_at - timedelta(seconds=4),
            ended_at=ended_at,
            usage=Usage(input_tokens=self.random.randrange(10_000), output_tokens=self.random.randrange(1_000)),
            usage_source=UsageSource.PROVIDER,
            input_unknown=False,
            cancel_policy=CancelPolicy.DELIVERED,
            rate_card_id="rc_random",
            rated_model=model,
            lines=tuple(_line(self.random) for _ in range(self.random.randint(0, 3))),
        )

    def _expect(self, customer_id: str, at: datetime, cents: Decimal) -> None:
        """It belongs to the month of that moment, by the customer's calendar, or to the first that is open."""
        month = f"{at.astimezone(ZoneInfo(self.zones[customer_id])):%Y-%m}"
        closed = self.closed[customer_id]
        if month <= closed:
            self.reached["late"] += 1
            month = _after(closed)
        self.amounts[customer_id][month] += Fraction(cents)

    def close(self, place: int) -> None:
        """Close the month for everybody."""
        period = _period(place)
        assert self.books.close(period, limit=37) == {}
        self.closed |= dict.fromkeys(self.zones, period)

    def open_amounts(self) -> dict[tuple[str, str], Fraction]:
        """What is on no invoice yet, by customer and month."""
        return {
            (customer_id, period): amount
            for customer_id, amounts in self.amounts.items()
            for period, amount in amounts.items()
            if period > self.closed[customer_id] and amount
        }

    def expected(self, customer_id: str) -> Iterator[Expected]:
        """The customer's invoices, the oldest first: each rounds once, and hands on what is left."""
        carried = Fraction(0)
        for period, exact in sorted(self.amounts[customer_id].items()):
            if period > self.closed[customer_id]:
                continue
            whole = (exact + carried) // 1
            billed = whole if whole >= MINIMUM else 0
            self.reached["billed" if billed else "deferred"] += 1
            yield Expected(period, exact, carried, billed, exact + carried - billed)
            carried = exact + carried - billed


def _line(source: random.Random) -> ChargeLine:
    """Quantities and rates of every size, with as many digits as a rate may have."""
    quantity = source.randrange(10 ** source.randint(1, 8))
    rate = Decimal(source.randrange(10 ** source.randint(1, 9))).scaleb(-source.randint(0, 9))
    if source.random() < 0.3:  # rates in common, that lines sum
        rate = source.choice((Decimal("2.5"), Decimal("0.36"), Decimal("7.77")))
    kind = source.choice(list(UsageKind))
    if kind in TIMED_KINDS:
        seconds = Decimal(quantity).scaleb(-3)
        rounded = round(Fraction(seconds) * Fraction(rate) / 36, 12)
        exact = Decimal(rounded.numerator) / Decimal(rounded.denominator)
        return ChargeLine(kind=kind, quantity=seconds, usd_per_million=None, usd_per_hour=rate, usd_cents=exact)
    cents = Decimal(quantity) * rate / 10_000
    return ChargeLine(kind=kind, quantity=quantity, usd_per_million=rate, usd_cents=cents)


def _month_start(place: int) -> datetime:
    months = FIRST[0] * 12 + FIRST[1] - 1 + place
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def _period(place: int) -> str:
    return f"{_month_start(place):%Y-%m}"


def _after(period: str) -> str:
    year, month = map(int, period.split("-"))
    return f"{year + month // 12:04d}-{month % 12 + 1:02d}"


def _chunks(count: int, size: int = 20_000) -> Iterator[int]:
    for first in range(0, count, size):
        yield min(size, count - first)
