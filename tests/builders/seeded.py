"""A service with two months to look at: a history, a closed and pushed month, a backlog, an open stream, drift."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from redis import Redis

from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.lab.demo.history import ALERTS, PROFILES, history
from metering.ledger.entries import ManualKind
from metering.ledger.link_retries import link_retries
from metering.ledger.store.rollups import roll_up_totals
from metering.months.run_invoices import RunRequest, begin_run, close_run
from metering.server.bootstrap import Service
from metering.server.outgoing import close_terms
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.link_customers import create_at_stripe, list_unlinked
from metering.stripe.push import PushState
from metering.stripe.push_due import Pusher, push_due
from metering.stripe.push_invoice import PushTerms
from metering.stripe.put_customer import put_customer
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import NO_REPAIRS
from tests.builders.posted import event
from tests.database import Database
from tests.local_stripe import KEY, LocalStripe
from tests.running_api import Api

UNPRICED, CONFLICTING, OPEN = "no-price", "two-ends", "still-open"


@dataclass(frozen=True, slots=True)
class Seeded:
    """A running API, and what is in it."""

    api: Api
    now: datetime
    period: str  # the last one that is over everywhere, which is closed

    def begin_stream(self, stream_id: str) -> None:
        """Begin a stream now. That of the seed is abandoned once a test finalizes after a quarter of an hour."""
        begin_stream(self.api, stream_id, at=datetime.now(UTC))

    @property
    def service(self) -> Service:
        return self.api.service


def post_history(api: Api, *, now: datetime) -> None:
    """Customers with their names and zones, and their streams, final."""
    for each in PROFILES:
        details = CustomerDetails(name=each.name, time_zone=each.time_zone)
        put_customer(engine=api.service.engine, customer_id=each.customer_id, details=details, now=now)
    for events in history(now=now, seed=7):
        answer = api.post(events).json()
        assert answer["rejected"] == [], answer
    link_retries(engine=api.service.engine, window=api.service.waits.retry_window, now=now, limit=10_000)
    finalize_all(api)
    roll_up_totals(api.service.engine)


def finalize_all(api: Api) -> None:
    """Until nothing is due."""
    for _ in range(20):
        api.finalize()


def post_backlog(api: Api, *, now: datetime) -> None:
    """A stream without a price, one with two different ends, and one that is under way."""
    at = now - timedelta(minutes=3)
    streams = (
        (UNPRICED, "mystery", "model-of-nobody", 1),
        (CONFLICTING, "anthropic", "claude-opus-4.7", 2),
        (OPEN, "anthropic", "claude-opus-4.7", 0),
    )
    for stream_id, provider, model, ends in streams:
        begin_stream(api, stream_id, at=at, provider=provider, model=model)
        events = []
        for number in range(ends):
            usage = {"input_tokens": 812, "output_tokens": 40 + number}
            end = {"stream_id": stream_id, "outcome": "completed", "usage": usage, "usage_source": "provider"}
            moment = (at + timedelta(seconds=number)).isoformat()
            events.append(event("stream-end", end, subject="hooli", time=moment, id=f"{stream_id}:end:{number}"))
        if events:
            assert api.post(events).json()["rejected"] == []
    finalize_all(api)


def begin_stream(
    api: Api, stream_id: str, *, at: datetime, provider: str = "anthropic", model: str = "claude-opus-4.7"
) -> None:
    """A start, and the first tokens."""
    data = {"stream_id": stream_id, "provider": provider, "model": model, "input_tokens": 812}
    tokens = {"stream_id": stream_id, "seq": 1, "output_tokens": 40}
    sent = (("stream-start", data), ("token-delivered", tokens))
    events = [event(kind, data, subject="hooli", time=at.isoformat()) for kind, data in sent]
    assert api.post(events).json()["rejected"] == []


# Beside the demo's; these are reached on any day of a month.
REACHED = (
    {"name": "Anything", "kind": "spend", "scope": "customer", "customer_id": "hooli", "budget_usd_cents": "1",
     "thresholds": ["1"]},
    {"name": "Not as usual", "kind": "daily_change", "scope": "each_customer", "floor_usd_cents": "0",
     "thresholds": ["0.01", "-0.01"]},
)  # fmt: skip


def watch(api: Api, *, now: datetime) -> None:
    """Alerts, some of which occur, and somewhere to tell of them."""
    endpoint = {"url": "https://hooks.example.com/metering", "description": "the channel of finance"}
    assert api.client.post("/v1/webhook-endpoints", json=endpoint).status_code == 201
    for alert in (*ALERTS, *REACHED):
        assert api.client.post("/v1/alerts", json=alert).status_code == 201
    for kind in AlertKind:
        evaluate_alerts(engine=api.service.engine, kind=kind, every=timedelta(minutes=1), now=now)


def book_credit(service: Service, *, now: datetime) -> None:
    """A credit with a reason."""
    adjust_manually(
        engine=service.engine,
        idempotency_key="seed",
        customer_id="wonka",
        stream_id=None,
        kind=ManualKind.CREDIT,
        usd_cents=Decimal(-125),
        reason="goodwill for the outage",
        booked_by="key seed",
        now=now,
    )


def last_month(now: datetime) -> BillingPeriod:
    """The last month that is over in every time zone."""
    return BillingPeriod.containing(at=now - timedelta(days=1), time_zone=ZoneInfo("UTC")).previous


def build_seeded(api: Api, stripe: LocalStripe, database: Database) -> Seeded:
    """Two months of a dozen customers; the first is closed, pushed and compared, a line edited at Stripe."""
    now = datetime.now(UTC)
    post_history(api, now=now)
    close_and_push(api, stripe, redis_url=database.redis_url, name=database.url, now=now)
    book_credit(api.service, now=now)
    post_backlog(api, now=now)
    watch(api, now=now + timedelta(hours=5))
    return Seeded(api, now, str(last_month(now)))


def close_and_push(api: Api, stripe: LocalStripe, *, redis_url: str, name: str, now: datetime) -> None:
    service, terms = api.service, close_terms(api.service.settings)
    period = last_month(now)
    run = begin_run(
        engine=service.engine,
        request=RunRequest(period=period, requested_by="the schedule", force_reason="the month begins"),
        terms=terms,
        now=now,
    )
    close_run(engine=service.engine, run=run, terms=terms, clock=lambda: now)
    limiter = Limiter(redis=Redis.from_url(redis_url), name=name, rates=Rates(in_all=10_000, per_endpoint=10_000))
    pusher = Pusher(
        engine=service.engine,
        port=StripeClientPort(api_key=KEY, api_base=stripe.url, limiter=limiter),
        terms=PushTerms(environment="tests"),
        clock=lambda: datetime.now(UTC) + timedelta(seconds=1),
    )
    unlinked = [each for each in list_unlinked(engine=service.engine) if each.customer_id != "oscorp"]
    create_at_stripe(engine=service.engine, port=pusher.port, environment="tests", customers=unlinked, now=now)
    states: set[PushState] = set()
    while pushed := push_due(pusher=pusher, limit=50, threads=4):
        states |= set(pushed)
    assert PushState.FINAL in states
    invoice = stripe.client.v1.invoices.list().data[0]
    stripe.control.edit(invoice.lines.data[0].id, {"amount": invoice.lines.data[0].amount + 30}, recompute=True)
    reconcile(pusher=pusher, period=period, repair=False, caps=NO_REPAIRS, requested_by="the schedule")
