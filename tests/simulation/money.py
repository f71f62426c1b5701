"""Budgets, holds and grants in a simulation: what gateways ask for and admins set, and the proof at the end."""

import random
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from metering.access.store.idempotency import RequestInFlightError
from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.admit_holds import admit_holds
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.expire_holds import expire_holds
from metering.budgets.extend_holds import extend_delivering
from metering.budgets.holds import HoldMode, HoldRequest
from metering.budgets.set_budget import BudgetTerms, end_budget, set_budget
from metering.budgets.store.locks import share_and_lock
from metering.credits.create_grant import create_grant
from metering.credits.end_grant import void_grant
from metering.credits.grant import Funding, GrantLimits
from metering.credits.terms import GrantTerms
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.lab.money.history import record_history
from metering.lab.money.proof import Proof, prove
from metering.server.bootstrap import Service
from tests.database import Database
from tests.scenarios.oracle import instant
from tests.simulation.gateways import Gateways

# A long one lasts until the stream begins, whatever time passes at once.
_LEASES = (timedelta(minutes=10), timedelta(days=12), timedelta(days=12))
_CHARGED = "SELECT customer_id, stream_id FROM charges"


class Money:
    """What happens to the money of a run's customers. One of them is prepaid, and its holds do not slide."""

    def __init__(self, source: random.Random, database: Database, gateways: Gateways) -> None:
        self._random, self._url = source, database.url
        self.reached: Counter[str] = Counter()
        self._customers = gateways.customers
        self._prepaid = self._customers[0]
        events = gateways.events
        starts = [each for each in events if each["type"] == "stream-start" and "model" in each["data"]]
        self._starts = sorted(starts, key=lambda each: instant(each["time"]))
        self._grants: list[str] = []
        self._asked: list[HoldRequest] = []
        with psycopg.connect(database.url) as connection:
            record_history(connection)

    def act(self, service: Service, now: datetime) -> None:
        """A gateway asks for holds, or an admin does something."""
        self._random.choice((self.hold, self.hold, self.hold, self.budget, self.grant, self.grant))(service, now)

    def hold(self, service: Service, now: datetime) -> None:
        """Gateways ask for the holds of some streams, together, as the writer has it; some deliver at once."""
        wanted = [self._request(now) for _ in range(self._random.randint(1, 4))]
        with transaction(service.engine) as connection:
            self._lock(connection, {each.customer_id for each in wanted})
            prices = service.price_books.current(connection)
            answers = admit_holds(connection, wanted, prices=prices, now=now)
        self._asked += wanted
        self.reached["holds refused"] += sum(isinstance(each, BudgetExhaustedError) for each in answers)
        if self._random.random() < 0.7:
            self.deliver(service, now)

    def deliver(self, service: Service, now: datetime) -> None:
        """A stream has delivered more than half of its slice."""
        if not self._asked:
            return
        # Others have been charged since, or their leases have ended.
        key = self._random.choice(self._asked[-6:]).key
        with transaction(service.engine) as connection:
            self._lock(connection, {key[0]})
            prices = service.price_books.current(connection)
            extend_delivering(connection, {key: self._random.randrange(40_000)}, prices=prices, now=now)

    def expire(self, service: Service, now: datetime) -> None:
        """A worker looks for leases that have ended."""
        expire_holds(engine=service.engine, now=now)

    def budget(self, service: Service, now: datetime) -> None:
        """An admin sets a budget, or ends it; it may begin again."""
        customer_id = self._random.choice(self._customers)
        scope = BudgetScope(ScopeKind.CUSTOMER, customer_id)
        window = self._random.choice(
            (BudgetWindow.TOTAL, BudgetWindow.TOTAL, BudgetWindow.DAY, BudgetWindow.MONTH)
        )
        if customer_id == self._prepaid:
            window = BudgetWindow.PREPAID
        elif self._random.random() < 0.2:
            scope = BudgetScope(ScopeKind.DEPLOYMENT)
        name = f"{scope.customer_id or 'all'}-{window}"
        # Of a window with an end, the oracle does not know which one a hold was extended in.
        refuses = window in (BudgetWindow.TOTAL, BudgetWindow.PREPAID)
        limit = Decimal(self._random.randrange(self._random.choice((50, 20_000)))) / 10
        terms = BudgetTerms(
            scope=scope,
            window=window,
            limit_usd_cents=None if window is BudgetWindow.PREPAID else limit,
            action=BudgetAction.REFUSE if refuses else BudgetAction.WARN,
        )
        try:
            set_budget(engine=service.engine, budget_id=name, terms=terms, by="simulation", now=now)
        except UnknownCustomerError:
            return
        self.reached["budgets set"] += 1
        if self._random.random() < 0.35:
            end_budget(engine=service.engine, budget_id=name, by="simulation", now=now)
            self.reached["budgets ended"] += 1

    def grant(self, service: Service, now: datetime) -> None:
        """An admin makes a grant, or voids one."""
        if self._grants and self._random.random() < 0.15:
            grant_id = self._random.choice(self._grants)
            void_grant(engine=service.engine, grant_id=grant_id, reason="simulated", by="simulation", now=now)
            return
        terms = GrantTerms(
            customer_id=self._random.choice(self._customers),
            # Little enough that most invoices are not prepaid.
            amount_usd_cents=Decimal(self._random.randint(1, 3 * 10**6)).scaleb(-4),
            paid_usd_cents=Decimal(0),
            funding=Funding.NONE,
            reason="simulated",
            priority=self._random.choice((1, 500)),
            expires_at=self._random.choice((None, now + timedelta(days=self._random.randint(1, 20)))),
            limits=GrantLimits(models=self._random.choice(((), (), ("claude-opus-4.7",)))),
        )
        key = f"grant {self._random.random()}"
        try:
            made = create_grant(engine=service.engine, idempotency_key=key, terms=terms, by="simulation", now=now)
        except (UnknownCustomerError, RequestInFlightError):
            return
        self._grants.append(made.grant_id)

    def check(self) -> Proof:
        """Every commit kept to the limits, all is accounted for, and no stream with a charge holds something."""
        with psycopg.connect(self._url) as connection:
            proof = prove(connection)
            charged = set(connection.execute(_CHARGED).fetchall())
        assert proof.problems == [], proof.problems
        assert not charged & set(proof.open_holds)
        return proof

    def _request(self, now: datetime) -> HoldRequest:
        """For one of the streams that begin next, most of all."""
        ahead = [each for each in self._starts if instant(each["time"]) > now - timedelta(hours=2)]
        start = self._random.choice(ahead[:4] or self._starts)
        data: dict[str, Any] = start["data"]
        sliding = start["subject"] != self._prepaid and self._random.random() < 0.5
        return HoldRequest(
            customer_id=start["subject"],
            stream_id=data["stream_id"],
            provider=data["provider"],
            model=data["model"],
            input_tokens=data.get("input_tokens") or 0,
            mode=HoldMode.SLIDING if sliding else HoldMode.WORST_CASE,
            max_output_tokens=None if sliding else self._random.randrange(4_000),
            slice_output_tokens=self._random.randint(1, 2_000),
            lease_seconds=int(self._random.choice(_LEASES).total_seconds()),
        )

    @staticmethod
    def _lock(connection: Any, customer_ids: set[str]) -> None:
        share_and_lock(connection, customer_ids)
