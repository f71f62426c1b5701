"""Random months of a prepaid customer in a real database, against the oracle; then the audit and every sum."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.credits.end_grant import refund_grant, void_grant
from metering.credits.grant import Grant, GrantLimits
from metering.db.schema import ensure_journal_partitions
from metering.events.events import UsageSource
from metering.events.usage import Usage
from tests.builders import Books, end, start
from tests.credits.oracle import REFUNDED, VOIDED, Oracle, Purse
from tests.credits.scenes import again, credit, give, rows
from tests.reporting.views import read

pytestmark = pytest.mark.long

# What 1 unit of the oracle is in cents: a fifth of an output token of claude-opus-4.7.
UNIT = Decimal("0.0005")
INPUT = 812
BEGIN = datetime(2026, 11, 20, 9, tzinfo=UTC)
MODELS = ("claude-opus-4.7", "claude-opus-4.6")
STEPS = 45


def units_of(output: int) -> int:
    """What a stream costs: $5 and $25 a million tokens."""
    return INPUT + 5 * output


class Play:
    """The same random months for the product and for the oracle."""

    def __init__(self, books: Books, seed: int) -> None:
        self.books, self.random, self.now = books, random.Random(seed), BEGIN
        self.oracle = Oracle()
        self.grants: dict[str, Grant] = {}
        self.outputs: dict[str, tuple[int, str, datetime]] = {}
        self.left_of: dict[str, int] = {}

    def step(self) -> None:
        """Something happens; most of all, usage."""
        happens = (
            [self.use] * 5
            + [self.late] * 2
            + [self.adjust] * 3
            + [self.give] * 2
            + [self.end, self.wait, self.wait]
        )
        self.random.choice(happens)()

    def wait(self) -> None:
        self.now += timedelta(hours=self.random.choice((1, 7, 30, 120)))

    def give(self) -> None:
        units, paid = self.random.randint(500, 6_000), self.random.choice((0, 1, 99, 20_000))
        ends = self.now + timedelta(hours=self.random.choice((20, 90))) if self.random.random() < 0.5 else None
        starts = self.now + timedelta(hours=self.random.choice((0, 0, 12)))
        priority = self.random.choice((1, 500))
        models = (MODELS[0],) if self.random.random() < 0.2 else ()
        made = give(
            self.books,
            str(UNIT * units),
            key=f"g{len(self.grants)}",
            at=self.now,
            paid=paid,
            priority=priority,
            effective_from=starts,
            expires_at=ends,
            limits=GrantLimits(models=models),
        )
        self.grants[made.grant_id] = made
        self.oracle.grant(Purse(made.grant_id, units, priority, starts, ends, self.now, models))

    def use(self) -> None:
        """A stream of the last minutes, that the gateway counted itself."""
        stream, output, model = f"s{len(self.outputs)}", self.random.randint(0, 400), self.random.choice(MODELS)
        at = self.now - timedelta(minutes=1)
        self.outputs[stream] = (output, model, at)
        facts = [start(stream, time=at, model=model), end(stream, output, time=at + timedelta(seconds=4))]
        self.books.receive(facts, at=self.now)
        self.books.finalize(now=self.now)
        self.book(stream, units_of(output), model)

    def late(self) -> None:
        """The provider's own count of an earlier stream comes later: more, or less."""
        if not self.outputs:
            return
        stream = self.random.choice(list(self.outputs))
        output, model, at = self.outputs[stream]
        newer = self.random.randint(0, 400)
        usage = Usage(input_tokens=INPUT, output_tokens=newer)
        # Of two counts of the provider, the first one wins: one is sent for each stream.
        if stream in self.left_of:
            return
        self.left_of[stream] = newer
        source = UsageSource.PROVIDER
        late = end(stream, time=at + timedelta(seconds=4), usage=usage, usage_source=source)
        self.books.receive([late], at=self.now)
        self.books.finalize(now=self.now)
        self.outputs[stream] = (newer, model, at)
        self.book(stream, units_of(newer) - units_of(output), model)

    def adjust(self) -> None:
        """A credit or a correction, of a stream or of the customer."""
        streams = [stream for stream in self.outputs if self.oracle.paid_for(stream)]
        stream = self.random.choice(streams) if streams and self.random.random() < 0.7 else None
        most = self.oracle.paid_for(stream) if stream else 3_000
        units = self.random.choice((-1, 1)) * self.random.randint(1, most)
        key = f"c{self.random.random()}"
        credit(self.books, f"{UNIT * units:f}", stream_id=stream, now=self.now, key=key)
        self.book(stream, units, self.outputs[stream][1] if stream else None)

    def book(self, stream: str | None, units: int, model: str | None) -> None:
        self.oracle.book(stream, units, model=model, now=self.now)

    def end(self) -> None:
        """A grant is voided or refunded, if it can be."""
        if not self.grants:
            return
        grant = again(self.books, self.random.choice(list(self.grants.values())))
        left, engine = self.oracle.left(grant.grant_id, now=self.now), self.books.service.engine
        if not left or self.oracle.purses[grant.grant_id].voided:
            return
        if grant.paid_usd_cents and self.random.random() < 0.7:
            taken = self.random.randint(1, left)
            refund_grant(
                engine=engine,
                idempotency_key=f"r{self.random.random()}",
                grant_id=grant.grant_id,
                usd_cents=UNIT * taken,
                reason="test",
                by="finance",
                now=self.now,
            )
            self.oracle.end(grant.grant_id, taken, REFUNDED, now=self.now)
        else:
            void_grant(engine=engine, grant_id=grant.grant_id, reason="test", by="finance", now=self.now)
            self.oracle.end(grant.grant_id, left, VOIDED, now=self.now)

    def check(self) -> None:
        for name in self.grants:
            grant = again(self.books, self.grants[name])
            at = max(self.now, grant.changed_at)
            assert grant.balance_at(at) == UNIT * self.oracle.left(name, now=self.now), name


@pytest.mark.parametrize("seed", range(4))
def test_random_months_end_with_every_unit_where_the_design_says(books: Books, seed: int) -> None:
    ensure_journal_partitions(books.service.engine, now=datetime(2026, 12, 1, tzinfo=UTC))
    play = Play(books, seed)
    play.give()
    for _ in range(STEPS):
        play.step()
        play.check()
    months = sorted({month for (month,) in rows(books, "SELECT period FROM entries")})
    for month in months:
        later = max(play.now, datetime(2027, 3, 1, tzinfo=UTC)) + timedelta(days=40)
        assert books.close(month, now=later) == {}
    drawn = sum(units for stream in play.outputs if (units := play.oracle.paid_for(stream)))
    for stored in books.invoices():
        invoice = stored.invoice
        due = invoice.exact_usd_cents + invoice.carried_in_usd_cents - invoice.prepaid_usd_cents
        assert invoice.billed_cents + invoice.remainder_usd_cents == due
        assert sum(line.sum.usd_cents for line in invoice.lines) == due
    prepaid = sum(stored.invoice.prepaid_usd_cents for stored in books.invoices())
    query = "SELECT coalesce(-sum(usd_cents), 0) FROM grant_entries WHERE kind = 'drawn' AND stream_id IS NULL"
    ((of_customer,),) = rows(books, query)
    assert prepaid == UNIT * drawn + of_customer
    kinds = {kind for (kind,) in rows(books, "SELECT DISTINCT kind FROM grant_entries")}
    assert kinds >= {"granted", "drawn", "restored"}
    for row in read(books.database, "SELECT * FROM deferred_revenue"):
        moved = row["sold_cents"] - row["recognised_cents"] - row["breakage_cents"] - row["refunded_cents"]
        assert row["opening_cents"] + moved == row["closing_cents"] >= 0
    assert books.audit(now=datetime(2027, 6, 1, tzinfo=UTC)) == []
