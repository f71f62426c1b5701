"""A seeded service, made once for all tests that only look; and one of a test's own."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from redis import Redis

from metering.access.store.keys import Role
from metering.months.run_invoices import RunRequest, begin_run, close_run
from metering.server.bootstrap import Service, build_service, close_terms
from metering.server.embedded.data_dir import Services
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.link_customers import create_at_stripe, list_unlinked
from metering.stripe.push import PushState
from metering.stripe.push_due import Pusher, push_due
from metering.stripe.push_invoice import PushTerms
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import NO_REPAIRS
from tests.api.conftest import Api, signed_in
from tests.dashboard.seeding import Seeded, book_credit, last_month, post_backlog, post_history, watch
from tests.database import clone
from tests.local_stripe import KEY, LocalStripe, local_stripe


@pytest.fixture(scope="session")
def seeded(services: Services, rated_template: str) -> Iterator[Seeded]:
    """Two months of a dozen customers; the first is closed, pushed and compared, a line edited at Stripe."""
    now = datetime.now(UTC)
    with (
        clone(services, rated_template) as database,
        local_stripe() as stripe,
        signed_in(build_service(database.settings())) as api,
    ):
        post_history(api, now=now)
        period = last_month(now)
        _close_and_push(api, stripe, redis_url=database.redis_url, name=database.url, now=now)
        book_credit(api.service, now=now)
        post_backlog(api, now=now)
        watch(api, now=now + timedelta(hours=5))
        yield Seeded(api, now, str(period))


def _close_and_push(api: Api, stripe: LocalStripe, *, redis_url: str, name: str, now: datetime) -> None:
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


class Browser:
    """A session with the dashboard, as a browser keeps one, without scripts."""

    def __init__(self, api: Api, role: Role = Role.ADMIN, customer_id: str | None = None) -> None:
        self.http = httpx2.Client(base_url=api.url, timeout=20)
        with api.client_with(role, customer_id) as signed:
            self.key = signed.headers["authorization"].removeprefix("Bearer ")

    def sign_in(self, key: str | None = None, **headers: str) -> httpx2.Response:
        """Send the form."""
        return self.http.post("/dashboard/sign-in", data={"key": key or self.key}, headers=headers)

    def token(self) -> str:
        """The session's token, as the forms have it."""
        found = re.search(r'name="token" value="(\w+)"', self.get("").text)
        assert found is not None
        return found[1]

    def get(self, path: str, **query: str) -> httpx2.Response:
        """A page, which is there."""
        answer = self.http.get(f"/dashboard/{path}", params=query or None)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
def admin(seeded: Seeded) -> Iterator[Browser]:
    """Signed in with an admin key."""
    yield from _signed_in(Browser(seeded.api))


@pytest.fixture
def reader(seeded: Seeded) -> Iterator[Browser]:
    """Signed in with a read key."""
    yield from _signed_in(Browser(seeded.api, Role.READ))


@pytest.fixture
def bound(seeded: Seeded) -> Iterator[Browser]:
    """Signed in with a key that sees one customer only: hooli."""
    yield from _signed_in(Browser(seeded.api, Role.READ, "hooli"))


@pytest.fixture(scope="session")
def empty(services: Services, rated_template: str) -> Iterator[Browser]:
    """Signed in where nothing has happened yet."""
    with clone(services, rated_template) as database, signed_in(build_service(database.settings())) as api:
        yield from _signed_in(Browser(api))


def _signed_in(browser: Browser) -> Iterator[Browser]:
    assert browser.sign_in().status_code == 303
    yield browser
    browser.http.close()


@pytest.fixture
def api(rated_service: Service) -> Iterator[Api]:
    """An API on a database of this test's own."""
    with signed_in(rated_service) as running:
        yield running
