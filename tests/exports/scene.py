"""Books with a closed November and an open December, in which everything happens that an export has a row for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg

from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.ledger.entries import ManualKind
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_markup
from metering.server.bootstrap import Service
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.database import Database

# A name that a spreadsheet would take for a formula, and a file for more than one cell.
HOSTILE = '=HYPERLINK("http://x","a")'
ZONE = "America/New_York"
# Of the random months, and of what `more_charges` books.
MONTHS = 7
SKIPPED = (3,)  # closed together with the month after
CHARGES = 1_500
MANY = 30_000
LATER = datetime(2026, 12, 10, tzinfo=UTC)
# In New York this is still 12 November.
NIGHT = datetime(2026, 11, 13, 3, 30, 0, 250_000, tzinfo=UTC)


class Scene(Books):
    """Books of two customers."""

    def customer(self, customer_id: str, **details: str) -> None:
        put_customer(
            engine=self.service.engine,
            customer_id=customer_id,
            details=CustomerDetails(**details),
            now=datetime(2026, 10, 1, tzinfo=UTC),
        )

    def use(
        self, name: str, at: datetime, *, booked: datetime, customer_id: str = "acme", **changes: object
    ) -> None:
        """A stream of 37 output tokens, finalized."""
        ended = end(name, time=at + timedelta(seconds=4), customer_id=customer_id)
        self.receive([start(name, time=at, customer_id=customer_id, **changes), ended], at=booked)
        self.finalize(now=booked)

    def price(self, provider: str, model: str, usd_per_million: str) -> None:
        """Rates of a model, the same for input and output."""
        kinds = (UsageKind.INPUT, UsageKind.OUTPUT)
        set_rate(
            engine=self.service.engine,
            provider=provider,
            model=model,
            effective_from=datetime(2026, 10, 1, tzinfo=UTC),
            rates=[Rate(kind=kind, usd_per_million=Decimal(usd_per_million)) for kind in kinds],
            set_by="test",
            now=datetime(2026, 10, 1, tzinfo=UTC),
        )

    def end_again(
        self, name: str, output: int, at: datetime, *, booked: datetime, customer_id: str = "acme"
    ) -> None:
        """What the upstream says of it comes later."""
        source = UsageSource.PROVIDER
        self.receive([end(name, output, time=at, customer_id=customer_id, usage_source=source)], at=booked)
        self.finalize(now=booked)

    def by_hand(self, kind: ManualKind, cents: str, *, now: datetime, stream_id: str | None = None) -> str:
        made = adjust_manually(
            engine=self.service.engine,
            idempotency_key=f"{kind} {cents} {stream_id}",
            customer_id="acme",
            stream_id=stream_id,
            kind=kind,
            usd_cents=Decimal(cents),
            reason='-2+3 for "you",\r\nsorry',
            booked_by="key_admin",
            now=now,
        )
        return made.adjustment_id


def play(database: Database, service: Service) -> Scene:
    """Two customers' November is closed; December has late usage, adjustments of November, and a correction."""
    scene = Scene(database, service)
    scene.customer("acme", name=HOSTILE, time_zone=ZONE)
    scene.customer("plain")
    set_markup(
        engine=service.engine,
        customer_id="acme",
        percent=Decimal("-12.5"),
        effective_from=datetime(2026, 11, 1, tzinfo=UTC),
        set_by="test",
        now=datetime(2026, 10, 1, tzinfo=UTC),
    )
    november = datetime(2026, 11, 20, tzinfo=UTC)
    scene.receive(
        [
            start("s1", time=NIGHT, api_key_id="@key", tags={"team": "search", "cost": "+1"}, service_tier="flex"),
            end(
                "s1",
                time=NIGHT + timedelta(seconds=4),
                outcome=Outcome.CANCELLED,
                usage=Usage(input_tokens=812, output_tokens=120_037, cache_read_input_tokens=200),
                usage_source=UsageSource.PROVIDER,
                response_model="claude-opus-4.7",
            ),
        ],
        at=november,
    )
    scene.finalize(now=november)
    scene.use("s2", NIGHT + timedelta(hours=9), booked=november)
    scene.end_again("s2", 90_000, NIGHT + timedelta(hours=10), booked=november)
    scene.use("other", NIGHT, booked=november, customer_id="plain")
    scene.customer("=1+1", name="+2")
    scene.price("=up/stream", "@100%/model%2F", "3")
    hostile = {"provider": "=up/stream", "model": "@100%/model%2F", "api_key_id": "-key", "service_tier": "\tx"}
    scene.use("+s", NIGHT, booked=november, customer_id="=1+1", **hostile)
    scene.by_hand(ManualKind.CREDIT, "-12.25", now=november)
    assert scene.close("2026-11", force_reason="for the test") == {}
    scene.use("late", NIGHT + timedelta(days=1), booked=LATER)
    # One that contradicts what was said, so all is taken back; and one that knows better.
    scene.end_again("s1", 130_000, NIGHT + timedelta(seconds=5), booked=LATER)
    scene.end_again("other", 50_000, NIGHT + timedelta(seconds=5), booked=LATER, customer_id="plain")
    scene.by_hand(ManualKind.CORRECTION, "3.5", now=LATER, stream_id="s2")
    return scene


def more_charges(database: Database, customer_id: str) -> None:
    """Many charges in the open December."""
    with psycopg.connect(database.url) as connection:
        connection.execute(
            "INSERT INTO customers (customer_id, created_at) VALUES (%s, now()) ON CONFLICT DO NOTHING",
            (customer_id,),
        )
        connection.execute(
            """
            INSERT INTO charges (customer_id, stream_id, charge_id, booked_at, period, outcome, provider, model,
                started_at, ended_at, usage_source, input_unknown, cancel_policy, rate_card_id, rated_model, lines,
                usd_cents)
            SELECT %(customer_id)s, 'm' || n, 'ch_m' || n, at, '2026-12', 'completed', 'openai', repeat('m', 1000),
                at, at, 'provider', false, 'delivered', 'rc', 'm', '[]', 0
            FROM (SELECT n, timestamptz '2026-12-01' + n * interval '1 s' AS at
                  FROM generate_series(1, %(count)s) AS n) AS drawn
            """,
            {"customer_id": customer_id, "count": MANY},
        )
