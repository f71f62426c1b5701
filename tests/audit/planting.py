"""Books with something of everything, and a hand that changes what the service may not."""

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import adjust_manually
from metering.corrections.rerate import rerate
from metering.corrections.resolve_stream import resolve_stream
from metering.db.schema import ensure_journal_partitions
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.ledger.entries import ManualKind
from metering.ledger.queries.charges import BillFilter
from metering.ledger.store.rollups import roll_up_totals
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_cancel_policy, set_markup, set_upstream_price
from metering.streams.resolutions import ResolutionAction
from tests.builders import NOW, T0, Books, delivered, end, start

LATER = NOW + timedelta(hours=1)
# Before a change that a trigger refuses; Citus has no such triggers.
WITHOUT_TRIGGERS = "SET LOCAL session_replication_role = replica; "
_MOVED = re.compile(r"(\w+) ([+-] interval '[^']+')")


@dataclass(frozen=True, slots=True)
class Planting:
    """Books, and a hand that may change what the service itself may not."""

    books: Books

    def plant(self, statement: str) -> None:
        """Change at least one row. Citus refuses a time and an interval unless the zone is named."""
        *before, statement = statement.split("; ")
        named = _MOVED.sub(r"((\1 AT TIME ZONE 'UTC') \2) AT TIME ZONE 'UTC'", statement)
        with self.books.owner() as connection:
            for each in before:
                connection.execute(each.encode())
            assert connection.execute(named.encode()).rowcount > 0

    def audit(self) -> list[tuple[str, str, str]]:
        """What is found."""
        return self.books.audit(now=LATER)


def fill(books: Books) -> None:
    """Streams of every state, with every kind of booking."""
    engine = books.service.engine
    ensure_journal_partitions(engine, now=NOW)
    _set_terms(books)
    cached = Usage(input_tokens=5_000, output_tokens=300, cache_read_input_tokens=2_000)
    asked = {"request_hash": "h", "api_key_id": "k"}
    books.receive([start("completed"), end("completed", usage=cached, usage_source=UsageSource.PROVIDER)])
    books.receive([start("gone", **asked), end("gone", outcome=Outcome.CANCELLED)])
    again = T0 + timedelta(seconds=9)
    books.receive([start("again", time=again, **asked), end("again", time=again + timedelta(seconds=3))])
    books.receive([start("waived", provider="openai", model="gpt-5"), end("waived", outcome=Outcome.FAILED)])
    books.receive([start("conflicting"), end("conflicting"), end("conflicting", output=38)])
    books.receive([start("as-is"), end("as-is"), end("as-is", output=38)])
    books.receive([end("orphaned")])
    books.receive([end("written-off")])
    books.receive([start("unpriced", model="nobody-knows-it"), end("unpriced")])
    books.receive([start("silent"), delivered("silent", 11, seq=11)], at=T0)
    books.receive([start("late"), delivered("late", 20, seq=20)], at=T0)
    books.receive([start("rerated", model="house-model"), end("rerated")])
    books.finalize(now=NOW + books.service.waits.start_grace)
    for stream_id, action in (("as-is", ResolutionAction.BILL_AS_IS), ("written-off", ResolutionAction.WRITE_OFF)):
        resolve_stream(
            engine=engine,
            customer_id="acme",
            stream_id=stream_id,
            action=action,
            reason="told by the gateway's owners",
            resolved_by="finance",
            now=LATER - timedelta(minutes=9),
        )
    books.receive([end("late", output=25)], at=LATER - timedelta(minutes=8))
    books.finalize(now=LATER - timedelta(minutes=7))
    _rerate(books)
    _adjust_manually(books)
    roll_up_totals(engine)
    books.receive([start("one more"), end("one more")], at=LATER - timedelta(minutes=1))
    books.finalize(now=LATER)
    books.receive([start("open"), delivered("open", 3, seq=3)], at=LATER)


def _set_terms(books: Books) -> None:
    engine, since = books.service.engine, T0 - timedelta(days=1)
    known = T0 - timedelta(hours=2)
    set_cancel_policy(
        engine=engine,
        provider="openai",
        policy=CancelPolicy.ZERO,
        effective_from=since,
        set_by="test",
        now=known,
    )
    set_markup(
        engine=engine, customer_id="acme", percent=Decimal(10), effective_from=since, set_by="test", now=known
    )
    set_upstream_price(
        engine=engine, provider="openrouter", accepted=True, effective_from=since, set_by="test", now=known
    )
    _set_house_price(books, Decimal(2), known_hours=-2)


def _set_house_price(books: Books, usd: Decimal, *, known_hours: int) -> None:
    set_rate(
        engine=books.service.engine,
        provider="anthropic",
        model="house-model",
        effective_from=T0 - timedelta(days=1, hours=-known_hours),
        rates=[Rate(kind=kind, usd_per_million=usd) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)],
        set_by="test",
        now=T0 + timedelta(hours=known_hours),
    )


def _rerate(books: Books) -> None:
    _set_house_price(books, Decimal(3), known_hours=1)
    rerate(
        engine=books.service.engine,
        price_books=books.service.price_books,
        where=BillFilter(period=BillingPeriod.parse("2026-11"), model="house-model"),
        now=LATER - timedelta(minutes=5),
        book=True,
    )


def _adjust_manually(books: Books) -> None:
    for number, stream_id in enumerate((None, "completed")):
        adjust_manually(
            engine=books.service.engine,
            idempotency_key=f"credit {number}",
            customer_id="acme",
            stream_id=stream_id,
            kind=ManualKind.CREDIT,
            usd_cents=Decimal("-0.25"),
            reason="goodwill",
            booked_by="finance",
            now=LATER - timedelta(minutes=4),
        )
