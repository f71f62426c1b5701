"""Budgets and holds on books: what tests set, ask for and look at."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import text

from metering.budgets.admit_holds import admit_holds
from metering.budgets.budget import Budget, BudgetAction, BudgetScope, BudgetWindow, ScopeKind, Standing
from metering.budgets.extend_holds import extend_delivering
from metering.budgets.holds import Hold, HoldMode, HoldRequest
from metering.budgets.queries.budgets import get_budget
from metering.budgets.set_budget import BudgetTerms, set_budget
from metering.budgets.store.holds import read_holds
from metering.budgets.store.locks import share_and_lock
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.server.bootstrap import Service
from tests.builders.events import NOW

ACME = BudgetScope(ScopeKind.CUSTOMER, "acme")


def asked(stream_id: str = "s", **changes: object) -> HoldRequest:
    """A request for a hold of the stream that `builders.events.start` begins: 812 tokens in, 100 out at most.

    With the catalogue's prices for claude-opus-4.7 (5 and 25 dollars a million), it needs 0.406 + 0.25 cents.
    """
    given = {
        "customer_id": "acme",
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "input_tokens": 812,
        "max_output_tokens": 100,
        **changes,
    }
    return HoldRequest(stream_id=stream_id, **given)  # type: ignore[arg-type]


def sliding(stream_id: str = "s", slice_output_tokens: int = 100, **changes: object) -> HoldRequest:
    """A request for a sliding hold."""
    given: dict[str, object] = {"max_output_tokens": None, **changes}
    return asked(stream_id, mode=HoldMode.SLIDING, slice_output_tokens=slice_output_tokens, **given)


class Purse:
    """The budgets of a service, as an admin and a gateway see them."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine = service.engine
        with transaction(self.engine) as connection:
            connection.execute(
                text(
                    "INSERT INTO customers (customer_id, time_zone, created_at) VALUES ('acme', 'UTC', now())"
                    " ON CONFLICT DO NOTHING"
                )
            )

    def set(
        self,
        budget_id: str = "b",
        limit: str | None = "100",
        *,
        scope: BudgetScope = ACME,
        window: BudgetWindow = BudgetWindow.MONTH,
        now: datetime = NOW,
        action: BudgetAction = BudgetAction.REFUSE,
        unknown_price: str | None = None,
    ) -> Budget:
        terms = BudgetTerms(
            scope=scope,
            window=window,
            limit_usd_cents=None if limit is None else Decimal(limit),
            action=action,
            unknown_price_usd_cents=None if unknown_price is None else Decimal(unknown_price),
        )
        return set_budget(engine=self.engine, budget_id=budget_id, terms=terms, by="test", now=now)

    def ask(self, *requests: HoldRequest, now: datetime = NOW) -> list[Hold | MeteringError]:
        """As the writer does for a group of requests."""
        with transaction(self.engine) as connection:
            share_and_lock(connection, {each.customer_id for each in requests})
            prices = self.service.price_books.current(connection)
            return admit_holds(connection, requests, prices=prices, now=now)

    def hold(self, request: HoldRequest, now: datetime = NOW) -> Hold:
        """The hold of a request that fits."""
        (answer,) = self.ask(request, now=now)
        assert isinstance(answer, Hold), answer
        return answer

    def deliver(self, delivered: Mapping[str, int], now: datetime = NOW) -> Sequence[str]:
        """The streams of acme that have to end after they delivered so much."""
        with transaction(self.engine) as connection:
            share_and_lock(connection, {"acme"})
            prices = self.service.price_books.current(connection)
            keys = {("acme", stream_id): tokens for stream_id, tokens in delivered.items()}
            stopped = extend_delivering(connection, keys, prices=prices, now=now)
            return [stream_id for _, stream_id in stopped]

    def standing(self, budget_id: str = "b", now: datetime = NOW) -> Standing:
        with transaction(self.engine) as connection:
            found = get_budget(connection, budget_id=budget_id, now=now)
        assert found is not None
        return found.standing

    def figures(self, budget_id: str = "b", now: datetime = NOW) -> tuple[str, str]:
        """(spent, held) in cents."""
        standing = self.standing(budget_id, now)
        return f"{standing.spent_usd_cents.normalize():f}", f"{standing.held_usd_cents.normalize():f}"

    def stored(self, stream_id: str = "s") -> Hold:
        with transaction(self.engine) as connection:
            return read_holds(connection, [("acme", stream_id)])["acme", stream_id]

    def overruns(self) -> list[tuple[str, str, str]]:
        """(stream, reason, cents) in the order of their streams."""
        with transaction(self.engine) as connection:
            rows = connection.execute(text("SELECT stream_id, reason, usd_cents FROM overruns ORDER BY 1, 2"))
            return [(row.stream_id, row.reason, f"{row.usd_cents.normalize():f}") for row in rows]
