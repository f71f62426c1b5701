"""Top-ups in a worker: a low balance is bought, invoiced, and counts once it is paid; nothing without Stripe."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from pydantic import SecretStr

from metering.core.clock import utc_now
from metering.credits.buy_top_ups import set_top_up
from metering.credits.top_up import TopUp
from metering.server.bootstrap import Service
from tests.builders import Months
from tests.local_stripe import KEY
from workers.top_ups import TopUps


@pytest.fixture
def months(months: Months) -> Months:
    months.use("acme")
    months.link("acme")
    top_up = TopUp(
        customer_id="acme",
        when_below_usd_cents=Decimal(1000),
        buy_usd_cents=Decimal(5000),
        at_most_a_day=1,
        set_at=utc_now(),
        set_by="test",
    )
    set_top_up(engine=months.service.engine, top_up=top_up, by="finance", now=utc_now())
    return months


@pytest.fixture
def service(months: Months) -> Iterator[Service]:
    settings = {"stripe_api_key": SecretStr(KEY), "stripe_api_base": months.stripe.url}
    with months.database.service(**settings) as built:
        yield built


def work(service: Service) -> None:
    """What one look does; each worker waits a while between two."""
    TopUps(lambda: service).work()


def test_a_low_balance_is_topped_up_and_counts_once_it_is_paid(months: Months, service: Service) -> None:
    for _ in range(2):
        work(service)
    assert months.rows("SELECT state FROM grants") == [("pending",)]
    ((status, subtotal, lines),) = months.at_stripe()
    assert (status, subtotal, lines) == ("open", 5000, 1)
    (invoice,) = months.stripe.client.v1.invoices.list({}).data
    months.stripe.client.v1.invoices.pay(invoice.id or "")
    months.execute("UPDATE grant_invoices SET due_at = now()")
    work(service)
    assert months.rows("SELECT state, balance_usd_cents FROM grants") == [("active", 5000)]


def test_a_worker_looks_only_so_often(months: Months, service: Service) -> None:
    worker = TopUps(lambda: service)
    worker.work()
    months.stripe.control.clear_requests()
    months.execute("UPDATE grant_invoices SET due_at = now()")
    worker.work()
    assert months.stripe.requests() == []


def test_without_a_stripe_key_nothing_is_bought(months: Months) -> None:
    work(months.service)
    assert months.rows("SELECT count(*) FROM grants") == [(0,)]


def test_a_key_that_stripe_refuses_is_logged_and_tried_again_later(
    months: Months, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"stripe_api_key": SecretStr("wrong"), "stripe_api_base": months.stripe.url}
    with months.database.service(**settings) as built:
        work(built)
    assert "Stripe does not accept STRIPE_API_KEY" in caplog.text
    assert months.rows("SELECT state FROM grants") == [("pending",)]
