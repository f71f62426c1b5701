"""The oracle of money follows random histories without a difference, and notices what was changed beside them."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import psycopg
import pytest

from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.expire_holds import expire_holds
from metering.budgets.holds import Hold
from metering.budgets.release_hold import StreamStartedError, UnknownHoldError, release_hold
from metering.budgets.set_budget import end_budget
from metering.credits.end_grant import void_grant
from metering.credits.grant import Grant, GrantLimits
from metering.db.schema import ensure_journal_partitions
from metering.events.events import UsageSource
from metering.events.usage import Usage
from metering.lab.money.history import record_history
from metering.lab.money.proof import Proof, prove
from metering.server.bootstrap import Service
from tests.builders import NOW, Books, delivered, end, start
from tests.builders.budgets import ACME, Purse, asked, sliding
from tests.credits.scenes import credit, give
from tests.database import Database

STEPS = 150
KEY, TEAM = {"api_key_id": "k"}, {"tags": {"team": "x"}}
# Cents a token of claude-opus-4.7, in and out.
IN, OUT = Fraction("0.0005"), Fraction("0.0025")


@pytest.fixture
def recorded(books: Books) -> Books:
    """Books whose history is recorded."""
    _record(books)
    return books


def _record(books: Books) -> None:
    with books.owner() as connection:
        record_history(connection)


def price(_model: str, input_tokens: int, output_tokens: int) -> Fraction:
    return input_tokens * IN + output_tokens * OUT


def proof_of(books: Books) -> Proof:
    with books.owner() as connection:
        return prove(connection, price=price)


class Play:
    """Random steps of gateways, workers and admins, on a made-up clock."""

    def __init__(self, books: Books, seed: int) -> None:
        self.books, self.random, self.now = books, random.Random(f"money {seed}"), NOW
        self.purse = Purse(books.service)
        self.grants: list[Grant] = []
        self.streams = 0
        self.ended: set[str] = set()

    def step(self) -> None:
        steps = [self.hold] * 4 + [self.deliver] * 3 + [self.end] * 4 + [self.finalize] * 3
        self.random.choice([*steps, self.late, self.budget, self.give, self.void, self.release, self.wait])()

    def hold(self) -> None:
        stream_id, of = f"s{self.streams}", self.random.choice(({}, KEY, TEAM))
        self.streams += 1
        if self.random.random() < 0.2:
            self.books.receive([start(stream_id, failed_open=self.random.random() < 0.5, **of)], at=self.now)
            return
        most = self.random.randrange(400)
        make = self.random.choice((asked, sliding))
        wanted = {"max_output_tokens": most} if make is asked else {"slice_output_tokens": most + 1}
        (answer,) = self.purse.ask(make(stream_id, lease_seconds=60, **of, **wanted), now=self.now)
        if isinstance(answer, Hold) and self.random.random() < 0.9:
            self.books.receive([start(stream_id, **of)], at=self.now)

    def deliver(self) -> None:
        self.purse.deliver({self._stream(): self.random.randrange(900)}, self.now)

    def end(self) -> None:
        stream_id = self._stream()
        if stream_id not in self.ended:
            self.ended.add(stream_id)
            self.books.receive([end(stream_id, self.random.randrange(900), time=self.now)], at=self.now)

    def late(self) -> None:
        usage = Usage(input_tokens=812, output_tokens=self.random.randrange(900))
        late = end(self._stream(), time=self.now, usage=usage, usage_source=UsageSource.PROVIDER)
        self.books.receive([late], at=self.now)

    def finalize(self) -> None:
        self.books.finalize(self.now)

    def budget(self) -> None:
        limit = str(self.random.randrange(4, 40))
        key = BudgetScope(ScopeKind.API_KEY, "acme", "k")
        team = BudgetScope(ScopeKind.TAG, "acme", tag_name="team", tag_value="x")
        deployment = BudgetScope(ScopeKind.DEPLOYMENT)
        name, scope, window = self.random.choice(
            [
                ("total", ACME, BudgetWindow.TOTAL),
                ("month", ACME, BudgetWindow.MONTH),
                ("day", key, BudgetWindow.DAY),
                ("team", team, BudgetWindow.DAY),
                ("all", deployment, BudgetWindow.MONTH),
                ("prepaid", ACME, BudgetWindow.PREPAID),
            ]
        )
        if name == "prepaid" and self.random.random() < 0.5:
            self.purse.set(name, None, scope=scope, window=window, now=self.now)
            end_budget(engine=self.purse.engine, budget_id=name, by="test", now=self.now)
        elif name != "prepaid":
            action = self.random.choice(list(BudgetAction))
            self.purse.set(name, limit, scope=scope, window=window, now=self.now, action=action)

    def give(self) -> None:
        expires = self.now + timedelta(minutes=self.random.choice((2, 600)))
        self.grants.append(
            give(
                self.books,
                str(self.random.randrange(1, 8)),
                key=f"g{len(self.grants)}",
                at=self.now,
                priority=self.random.choice((1, 500)),
                expires_at=self.random.choice((None, expires)),
                limits=GrantLimits(models=self.random.choice(((), (), ("another",)))),
            )
        )

    def void(self) -> None:
        if self.grants:
            grant_id = self.random.choice(self.grants).grant_id
            void_grant(engine=self.purse.engine, grant_id=grant_id, reason="test", by="test", now=self.now)

    def release(self) -> None:
        try:
            release_hold(engine=self.purse.engine, customer_id="acme", stream_id=self._stream(), now=self.now)
        except (StreamStartedError, UnknownHoldError):
            return

    def wait(self) -> None:
        self.now += timedelta(seconds=self.random.choice((10, 70, 300)))
        expire_holds(engine=self.purse.engine, now=self.now)

    def _stream(self) -> str:
        """One of the newest, most of all."""
        return f"s{max(0, self.streams - self.random.randrange(1, 12))}"


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_are_followed_without_a_difference(recorded: Books, seed: int) -> None:
    play = Play(recorded, seed)
    play.purse.set("total", "20", window=BudgetWindow.TOTAL)
    for _ in range(STEPS):
        play.step()
    proof = proof_of(recorded)
    assert proof.problems == []
    wanted = ("admitted", "settled", "drawn", "limits checked", "postings", "overrun no_hold")
    assert all(proof.counted[name] for name in wanted), proof.counted


def test_many_who_ask_at_once_never_pass_the_limit_together(recorded: Books) -> None:
    purse = Purse(recorded.service)
    purse.set(limit="10")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: purse.ask(asked(f"s{number}"))[0], range(40)))
    # 0.656 cents each.
    assert sum(isinstance(each, Hold) for each in answers) == 15
    proof = proof_of(recorded)
    assert proof.problems == []
    assert len(proof.open_holds) == proof.counted["admitted"] == 15


@pytest.fixture
def booked(rated_database: Database, rated_service: Service) -> Books:
    """A hold whose charge exceeds it and is paid in part by a grant, and a second hold that is open.

    The audit is not run at the end: it would notice as well.
    """
    ensure_journal_partitions(rated_service.engine, now=NOW)
    books = Books(rated_database, rated_service)
    _record(books)
    give(books, "0.3")
    purse = Purse(books.service)
    purse.set()
    purse.hold(asked())
    books.receive([start(), end(output=200)])
    books.finalize()
    purse.hold(asked("open"))
    assert proof_of(books).problems == []
    return books


_GRANT_ENTRY = (
    "customer_id, grant_id, entry_number, kind, usd_cents, balance_usd_cents, released_cents, booked_at, period,"
    " entry_id"
)
# What someone changes beside the product, and what the oracle says to it.
TAMPERED = {
    "more is held than the budget says": (
        "UPDATE holds SET held_usd_cents = held_usd_cents + 200 WHERE stream_id = 'open'",
        "admitted beyond its limit",
    ),
    "a hold holds another amount than its price": (
        "UPDATE holds SET held_usd_cents = held_usd_cents + 1 WHERE stream_id = 'open'",
        "holds 1.656 cents, not 0.656",
    ),
    "a counter is off": (
        "UPDATE budgets SET held_usd_cents = held_usd_cents + 1",
        "says 1.656 held, not 0.656",
    ),
    "less is spent": (
        "UPDATE budget_windows SET spent_usd_cents = spent_usd_cents - 0.1",
        "says 0.806 spent, not 0.906",
    ),
    "a closed hold opens": (
        "UPDATE holds SET state = 'open', closed_at = NULL, settled_usd_cents = NULL WHERE stream_id = 's'",
        "the closed hold of ('acme', 's') was changed",
    ),
    "a hold is settled without a charge": (
        "UPDATE holds SET state = 'settled', closed_at = now(), settled_usd_cents = 1 WHERE stream_id = 'open'",
        "was settled for another amount than its charge, or none",
    ),
    "a hold expires before its lease has ended": (
        "UPDATE holds SET state = 'expired', closed_at = made_at WHERE stream_id = 'open'",
        "expired before its lease had ended",
    ),
    "an open hold is removed": ("DELETE FROM holds WHERE stream_id = 'open'", "was removed"),
    "an overrun has no charge": (
        "INSERT INTO overruns SELECT 'acme', 'x', 's', 'no_hold', 1, 0, now()",
        "overrun x: no_hold 1 0, not None",
    ),
    "an entry counts twice": (
        "INSERT INTO budget_postings SELECT customer_id, 'x', budget_id, window_starts_at, 1, now()"
        " FROM budget_postings",
        "posting x in b",
    ),
    "credit ends before its expiry": (
        f"INSERT INTO grant_entries ({_GRANT_ENTRY}) SELECT customer_id, grant_id, 9, 'expired', -0.1, 0, 0,"
        " now(), period, NULL FROM grant_entries WHERE kind = 'granted'",
        "is before its expiry",
    ),
    "a grant pays for nothing that was booked": (
        f"INSERT INTO grant_entries ({_GRANT_ENTRY}, entry_period) SELECT customer_id, grant_id, 9, 'drawn', -0.1,"
        " 0, 0, now(), period, 'x', period FROM grant_entries WHERE kind = 'granted'",
        "drawn -0.1 for x'], not []",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_the_oracle_notices(booked: Books, what: str) -> None:
    statement, says = TAMPERED[what]
    with psycopg.connect(booked.database.url) as connection:
        connection.execute(statement.encode())
    problems = proof_of(booked).problems
    assert any(says in problem for problem in problems), problems


def test_what_is_written_before_a_budget_ends_and_committed_after_it_does_not_count(booked: Books) -> None:
    """The service writes entries first, and takes the locks last."""
    credit(booked, "-0.1", stream_id=None)
    with psycopg.connect(booked.database.url) as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE more ON COMMIT DROP AS SELECT * FROM manual_adjustments;"
            "UPDATE more SET adjustment_id = 'adj_more'; INSERT INTO manual_adjustments SELECT * FROM more"
        )
        end_budget(engine=booked.service.engine, budget_id="b", by="test", now=NOW)
    assert proof_of(booked).problems == []


def test_credits_move_what_is_spent_and_what_grants_have_paid(recorded: Books) -> None:
    give(recorded, "0.3")
    Purse(recorded.service).set()
    recorded.receive([start(), delivered(), end()])
    recorded.finalize()
    credit(recorded, "-0.2")
    credit(recorded, "0.1", stream_id=None, key="d")
    proof = proof_of(recorded)
    assert proof.problems == []
    assert (proof.counted["restored"], proof.counted["drawn"]) == (1, 2)
    assert Decimal(proof.counted["postings"]) == 3
