"""A service with two months to look at: a history, a closed and pushed month, a backlog, an open stream, drift."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.lab.demo.history import ALERTS, PROFILES, history
from metering.ledger.entries import ManualKind
from metering.ledger.link_retries import link_retries
from metering.ledger.store.rollups import roll_up_totals
from metering.server.bootstrap import Service
from metering.stripe.put_customer import put_customer
from tests.api.conftest import Api, event

UNPRICED, CONFLICTING, OPEN = "no-price", "two-ends", "still-open"


@dataclass(frozen=True, slots=True)
class Seeded:
    """A running API, and what is in it."""

    api: Api
    now: datetime
    period: str  # the last one that is over everywhere, which is closed

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
    link_retries(engine=api.service.engine, window=api.service.patience.retry_window, now=now, limit=10_000)
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
        data = {"stream_id": stream_id, "provider": provider, "model": model, "input_tokens": 812}
        events = [event("stream-start", data, subject="hooli", time=at.isoformat())]
        tokens = {"stream_id": stream_id, "seq": 1, "output_tokens": 40}
        events.append(event("token-delivered", tokens, subject="hooli", time=at.isoformat()))
        for number in range(ends):
            usage = {"input_tokens": 812, "output_tokens": 40 + number}
            end = {"stream_id": stream_id, "outcome": "completed", "usage": usage, "usage_source": "provider"}
            moment = (at + timedelta(seconds=number)).isoformat()
            events.append(event("stream-end", end, subject="hooli", time=moment, id=f"{stream_id}:end:{number}"))
        assert api.post(events).json()["rejected"] == []
    finalize_all(api)


# Beside the demo's; these are reached on any day of a month.
REACHED = (
    {"name": "Anything", "kind": "spend", "scope": "customer", "customer_id": "hooli", "budget_usd_cents": "1",
     "thresholds": ["1"]},
    {"name": "More than usual", "kind": "daily_change", "scope": "each_customer", "floor_usd_cents": "0",
     "thresholds": ["0.01"]},
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
