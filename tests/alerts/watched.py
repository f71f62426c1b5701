"""Books whose amounts are watched."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from metering.alerts.alerts import Alert, AlertKind, AlertScope, AlertTerms
from metering.alerts.announce_budgets import Announcement, announce_exhausted, announce_refusals
from metering.alerts.evaluate_alerts import Evaluation, evaluate_alerts
from metering.alerts.manage_alerts import create_alert
from metering.alerts.manage_endpoints import create_endpoint
from metering.alerts.queries.alerts import OccurrenceFilter, OccurrenceView, list_occurrences
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage
from metering.ledger.entries import ManualKind
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
# Output tokens of claude-opus-4.7 that cost a cent.
TOKENS_PER_CENT = 400
EVERY = timedelta(minutes=1)


class Watched(Books):
    """Books whose amounts are watched."""

    def customer(self, customer_id: str, time_zone: str = "UTC") -> None:
        details = CustomerDetails(time_zone=time_zone)
        put_customer(engine=self.service.engine, customer_id=customer_id, details=details, now=NOW)

    def use(
        self,
        customer_id: str,
        cents: Decimal | int,
        at: datetime,
        name: str | None = None,
        started: Mapping[str, Any] | None = None,
        **end_: Any,
    ) -> str:
        """Book a stream of so many cents that ends then, and finalize it; `started` are fields of its start."""
        stream_id = name or f"{customer_id}-{at.isoformat()}-{cents}"
        tokens = int(Decimal(cents) * TOKENS_PER_CENT)
        given = {
            "usage": Usage(input_tokens=0, output_tokens=tokens),
            "usage_source": UsageSource.PROVIDER,
            **end_,
        }
        with psycopg.connect(self.database.url) as connection:
            connection.execute(
                "INSERT INTO customers (customer_id, created_at) VALUES (%s, now()) ON CONFLICT DO NOTHING",
                (customer_id,),
            )
        self.receive(
            [
                start(
                    stream_id,
                    customer_id=customer_id,
                    time=at - timedelta(seconds=5),
                    input_tokens=None,
                    **(started or {}),
                ),
                end(stream_id, customer_id=customer_id, time=at, **given),
            ]
        )
        self.finalize(now=max(at, NOW) + timedelta(minutes=1))
        return stream_id

    def abandon(self, customer_id: str, cents: int, at: datetime) -> None:
        """Book a stream that fell silent after so many cents were delivered."""
        self.use(customer_id, cents, at, outcome=Outcome.ABANDONED)

    def alert(
        self, kind: AlertKind, *thresholds: int | str, customer_id: str | None = None, **terms: Any
    ) -> Alert:
        scope = AlertScope.CUSTOMER if customer_id else terms.pop("scope", AlertScope.EACH_CUSTOMER)
        return create_alert(
            engine=self.service.engine,
            name=terms.pop("name", str(kind)),
            terms=AlertTerms(
                kind=kind,
                scope=scope,
                customer_id=customer_id,
                thresholds=tuple(Decimal(threshold) for threshold in thresholds),
                **{key: Decimal(value) if key.endswith("cents") else value for key, value in terms.items()},
            ),
            created_by="test",
            now=NOW,
        )

    def evaluate(self, kind: AlertKind, now: datetime = NOW, **terms: Any) -> Evaluation:
        """One evaluation, due or not."""
        self.execute(f"UPDATE alert_evaluations SET due_at = 'epoch' WHERE kind = '{kind}'")
        found = evaluate_alerts(engine=self.service.engine, kind=kind, every=EVERY, now=now, **terms)
        assert found is not None
        return found

    def credit(self, customer_id: str, stream_id: str | None, cents: Decimal | int, at: datetime = NOW) -> None:
        """Book a credit (below 0) or a correction."""
        adjust_manually(
            engine=self.service.engine,
            idempotency_key=f"{customer_id} {stream_id} {cents} {at}",
            customer_id=customer_id,
            stream_id=stream_id,
            kind=ManualKind.CREDIT if cents < 0 else ManualKind.CORRECTION,
            usd_cents=Decimal(cents),
            reason="test",
            booked_by="test",
            now=at,
        )

    def announce_exhausted(self, now: datetime = NOW, **terms: Any) -> Announcement:
        """Announce exhausted budgets, due or not."""
        self.execute("UPDATE alert_evaluations SET due_at = 'epoch' WHERE kind = 'budget.exhausted'")
        found = announce_exhausted(engine=self.service.engine, every=EVERY, now=now, **terms)
        assert found is not None
        return found

    def announce_refusals(self, now: datetime = NOW, **terms: Any) -> Announcement:
        """Announce refused holds, due or not."""
        self.execute("UPDATE alert_evaluations SET due_at = 'epoch' WHERE kind = 'hold.refused'")
        found = announce_refusals(engine=self.service.engine, every=EVERY, now=now, **terms)
        assert found is not None
        return found

    def messages(self, type: str) -> list[dict[str, Any]]:
        """The data of the messages of a type, in the order of their deliveries."""
        bodies = self.rows(f"SELECT body FROM webhook_deliveries WHERE type = '{type}' ORDER BY created_at, body")
        return [json.loads(body)["data"] for (body,) in bodies]

    def occurred(self, kind: AlertKind, now: datetime = NOW) -> set[tuple[str, str, str]]:
        """Evaluate, and tell what has occurred by now: (customer, window, threshold)."""
        self.evaluate(kind, now)
        return {(each.customer_id, each.alert_window, str(each.threshold)) for each in self.occurrences()}

    def endpoint(self, url: str = "https://hooks.example.com/", types: Sequence[str] = ()) -> tuple[str, str]:
        """A new endpoint's id and secret."""
        made, secret = create_endpoint(
            engine=self.service.engine,
            url=url,
            description="test",
            types=types,
            allow_private=True,
            created_by="test",
            now=NOW,
        )
        return made.endpoint_id, secret

    def occurrences(self, **where: Any) -> list[OccurrenceView]:
        with transaction(self.service.engine) as connection:
            found = list_occurrences(connection, where=OccurrenceFilter(**where), before=None, limit=1000)
        return list(found)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.url) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """As the owner, who may change facts."""
        with psycopg.connect(self.database.url) as connection:
            connection.execute(statement.encode())
