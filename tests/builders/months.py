"""Books whose months are closed, and pushed to a local Stripe."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from metering.core.clock import utc_now
from metering.customers.store import CustomerDetails
from metering.server.bootstrap import Service
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.push import PushState
from metering.stripe.push_due import Pusher, push_due
from metering.stripe.push_invoice import PushTerms
from metering.stripe.put_customer import put_customer
from tests.builders.books import Books
from tests.builders.events import end, start
from tests.database import Database
from tests.local_stripe import KEY, LocalStripe

NOVEMBER = datetime(2026, 11, 12, 9, tzinfo=UTC)
ENVIRONMENT = "tests"


class Months(Books):
    """Books whose months are pushed to a local Stripe."""

    def __init__(self, database: Database, service: Service, stripe: LocalStripe) -> None:
        super().__init__(database, service)
        self.stripe = stripe
        self.now: Callable[[], datetime] = utc_now
        self.ahead = timedelta()
        redis = Redis.from_url(database.redis_url)
        limiter = Limiter(redis=redis, name=database.url, rates=Rates(in_all=10_000, per_endpoint=10_000))
        self.port = StripeClientPort(api_key=KEY, api_base=stripe.url, limiter=limiter)

    def pusher(self, **terms: object) -> Pusher:
        return Pusher(
            engine=self.service.engine,
            port=self.port,
            terms=PushTerms(environment=ENVIRONMENT, **terms),  # type: ignore[arg-type]
            clock=lambda: utc_now() + self.ahead,
        )

    def use(self, customer_id: str, *, output: int = 40_000, at: datetime = NOVEMBER, name: str = "s") -> None:
        """A stream of 100.406 cents."""
        with self.owner() as connection:
            connection.execute(
                "INSERT INTO customers (customer_id, created_at) VALUES (%s, now()) ON CONFLICT DO NOTHING",
                (customer_id,),
            )
        events = [
            start(name, customer_id=customer_id, time=at),
            end(name, output, customer_id=customer_id, time=at + timedelta(seconds=4)),
        ]
        self.receive(events)
        self.finalize(now=max(at, NOVEMBER) + timedelta(days=15))

    def link(self, customer_id: str, **given: Any) -> str:
        """Make the customer one at Stripe, with what is given."""
        params: Any = {"name": customer_id, **given}
        stripe_customer_id = self.stripe.client.v1.customers.create(params).id
        details = CustomerDetails(stripe_customer_id=stripe_customer_id)
        put_customer(engine=self.service.engine, customer_id=customer_id, details=details, now=utc_now())
        return stripe_customer_id

    def month(self, *customer_ids: str) -> None:
        """A used, linked and closed November."""
        for customer_id in customer_ids:
            self.use(customer_id)
            self.link(customer_id)
        self.close_november()

    def close_november(self) -> None:
        """Close it for everybody, as if its invoices were made at the time of the test."""
        refused = self.close("2026-11")
        assert refused == {}, refused
        with self.owner() as connection:
            connection.execute("UPDATE invoices SET created_at = now()")
            connection.execute("UPDATE invoice_pushes SET due_at = now() WHERE due_at IS NOT NULL")

    def push(self, **terms: object) -> dict[PushState, int]:
        """One round over what is due."""
        return dict(push_due(pusher=self.pusher(**terms), limit=50, threads=4))

    def push_all(self, rounds: int = 30, **terms: object) -> None:
        """Rounds until none is under way, moving the clock on over waits and leases."""
        for _ in range(rounds):
            self.push(**terms)
            states = {row[0] for row in self.rows("SELECT state FROM invoice_pushes WHERE due_at IS NOT NULL")}
            if not states:
                return
            self.ahead += timedelta(seconds=301)
        raise AssertionError(f"still under way after {rounds} rounds: {states}")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.owner() as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """As the owner, who may change facts."""
        with self.owner() as connection:
            connection.execute(statement.encode())

    def at_stripe(self) -> list[tuple[str, int, int]]:
        """(status, subtotal, lines) of all invoices there."""
        found = self.stripe.client.v1.invoices.list({"limit": 100}).data
        return [(each.status or "", each.subtotal, each.lines.total_count or 0) for each in found]
