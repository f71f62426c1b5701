"""Grants that Stripe invoices: one invoice each, whatever fails, and active only once it is read as paid."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.core.clock import utc_now
from metering.credits.buy_top_ups import buy_top_ups, set_top_up
from metering.credits.create_grant import create_grant
from metering.credits.end_grant import void_grant
from metering.credits.grant import Funding, Grant
from metering.credits.terms import GrantTerms
from metering.credits.top_up import TopUp
from metering.lab.stripe_local.faults import Fault
from metering.stripe.invoice_grants import invoice_grants
from metering.stripe.snapshot import StripeEvent
from metering.stripe.take_stripe_event import take_stripe_event
from tests.builders import Months

CALLS = (
    "GET /v1/invoices",
    "POST /v1/invoices",
    "POST /v1/invoices/{invoice}/add_lines",
    "POST /v1/invoices/{invoice}/finalize",
    "GET /v1/invoices/{invoice}",
)
RIGHT = [("open", 5000, 1)]


class Killed(BaseException):
    """The process died."""


@pytest.fixture
def months(months: Months) -> Months:
    months.use("acme")
    months.link("acme")
    return months


def sold(months: Months) -> Grant:
    return create_grant(
        engine=months.service.engine,
        idempotency_key="order",
        terms=GrantTerms(
            customer_id="acme",
            amount_usd_cents=Decimal(6000),
            paid_usd_cents=Decimal(5000),
            funding=Funding.INVOICE,
            reason="order",
        ),
        by="finance",
        now=utc_now(),
    )


def work(months: Months, rounds: int = 20) -> None:
    """Rounds over what is due, each after the waits and leases of the one before."""
    for _ in range(rounds):
        invoice_grants(pusher=months.pusher(), limit=50)
        months.ahead += timedelta(minutes=16)


def state(months: Months) -> list[tuple[Any, ...]]:
    return months.rows(
        "SELECT i.state, g.state, g.balance_usd_cents FROM grant_invoices i"
        " JOIN grants g USING (customer_id, grant_id) ORDER BY i.created_at"
    )


def pay(months: Months) -> None:
    for each in months.stripe.client.v1.invoices.list({"status": "open"}).data:
        months.stripe.client.v1.invoices.pay(each.id or "")


def test_a_grant_is_active_once_its_invoice_is_read_back_as_paid(months: Months) -> None:
    grant = sold(months)
    work(months, 1)
    assert (months.at_stripe(), state(months)) == (RIGHT, [("open", "pending", 0)])
    (invoice,) = months.stripe.client.v1.invoices.list({}).data
    assert (invoice.metadata or {})["metering_grant"] == f"tests/grant/{grant.grant_id}"
    pay(months)
    work(months, 1)
    assert state(months) == [("paid", "active", 6000)]
    months.stripe.control.clear_requests()
    work(months)
    assert months.stripe.requests() == []


def test_an_event_wakes_the_invoice_and_is_not_believed(months: Months) -> None:
    sold(months)
    work(months, 1)
    (invoice,) = months.stripe.client.v1.invoices.list({}).data
    event = StripeEvent(
        stripe_event_id="evt_1", type="invoice.paid", stripe_object_id=invoice.id, created_at=utc_now()
    )
    take_stripe_event(engine=months.service.engine, event=event, now=utc_now())
    months.ahead = timedelta()
    invoice_grants(pusher=months.pusher(), limit=50)
    assert state(months) == [("open", "pending", 0)]


@pytest.mark.parametrize("endpoint", CALLS)
@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.SLOW])
def test_whatever_a_call_ends_in_there_is_one_invoice_and_one_grant(
    months: Months, endpoint: str, fault: Fault
) -> None:
    sold(months)
    months.stripe.control.fail_next(endpoint, fault)
    work(months, 6)
    assert months.at_stripe() == RIGHT
    pay(months)
    work(months, 3)
    assert state(months) == [("paid", "active", 6000)]
    assert months.rows("SELECT count(*) FROM grant_entries WHERE kind = 'granted'") == [(1,)]


def _dying(port: Any, name: str, *, after: bool) -> Any:
    class Dying:
        def __getattr__(self, wanted: str) -> Callable[..., Any]:
            call = getattr(port, wanted)
            if wanted != name:
                return call  # type: ignore[no-any-return]

            def die(**arguments: Any) -> Any:
                if after:
                    list(call(**arguments)) if name == "list_invoices" else call(**arguments)
                raise Killed

            return die

    return Dying()


@pytest.mark.parametrize(
    "name", ["list_invoices", "create_invoice", "change_lines", "finalize_invoice", "get_invoice"]
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_that_dies_at_any_call_leaves_it_to_the_next(months: Months, name: str, after: bool) -> None:
    sold(months)
    pusher = months.pusher()
    with pytest.raises(Killed):
        invoice_grants(pusher=replace(pusher, port=_dying(pusher.port, name, after=after)), limit=1)
    months.ahead += timedelta(minutes=5)
    work(months, 4)
    assert months.at_stripe() == RIGHT
    pay(months)
    work(months, 2)
    assert state(months) == [("paid", "active", 6000)]


def test_a_draft_that_a_person_has_changed_is_made_anew(months: Months) -> None:
    sold(months)
    pusher = months.pusher()
    with pytest.raises(Killed):
        invoice_grants(pusher=replace(pusher, port=_dying(pusher.port, "finalize_invoice", after=False)), limit=1)
    (draft,) = months.stripe.client.v1.invoices.list({}).data
    extra: Any = {"lines": [{"amount": 7, "description": "by hand"}]}
    months.stripe.client.v1.invoices.add_lines(draft.id or "", extra)
    months.ahead += timedelta(minutes=5)
    work(months, 5)
    assert months.at_stripe() == RIGHT


def test_the_invoice_of_a_voided_grant_is_not_made_and_a_void_invoice_ends_its_grant(months: Months) -> None:
    grant = sold(months)
    void_grant(engine=months.service.engine, grant_id=grant.grant_id, reason="no", by="finance", now=utc_now())
    work(months, 2)
    assert (months.at_stripe(), state(months)) == ([], [("void", "voided", 0)])


def test_an_invoice_that_is_void_at_stripe_ends_its_grant(months: Months) -> None:
    sold(months)
    work(months, 1)
    (invoice,) = months.stripe.client.v1.invoices.list({}).data
    months.stripe.client.v1.invoices.void_invoice(invoice.id or "")
    work(months, 2)
    assert state(months) == [("void", "voided", 0)]


def top_up(months: Months, **terms: Any) -> None:
    wanted = {"when_below_usd_cents": Decimal(1000), "buy_usd_cents": Decimal(5000), "at_most_a_day": 2, **terms}
    given = TopUp(customer_id="acme", set_at=utc_now(), set_by="test", **wanted)
    set_top_up(engine=months.service.engine, top_up=given, by="finance", now=utc_now())


def test_a_low_balance_buys_one_grant_until_that_is_paid_and_so_many_a_day(months: Months) -> None:
    top_up(months)
    now = utc_now()
    assert [buy_top_ups(engine=months.service.engine, now=now) for _ in range(3)] == [1, 0, 0]
    work(months, 1)
    pay(months)
    work(months, 1)
    assert state(months) == [("paid", "active", 5000)]
    assert buy_top_ups(engine=months.service.engine, now=now) == 0
    months.execute("UPDATE grants SET balance_usd_cents = 999")
    assert [buy_top_ups(engine=months.service.engine, now=utc_now()) for _ in range(2)] == [1, 0]
    work(months, 1)
    pay(months)
    work(months, 1)
    months.execute("UPDATE grants SET balance_usd_cents = 1")
    assert buy_top_ups(engine=months.service.engine, now=utc_now()) == 0
    assert buy_top_ups(engine=months.service.engine, now=utc_now() + timedelta(hours=25)) == 1


def test_a_top_up_of_0_a_day_or_without_a_stripe_customer_buys_nothing(months: Months) -> None:
    top_up(months, at_most_a_day=0)
    assert buy_top_ups(engine=months.service.engine, now=utc_now()) == 0
    top_up(months)
    months.execute("UPDATE customers SET stripe_customer_id = NULL")
    assert buy_top_ups(engine=months.service.engine, now=utc_now()) == 0
