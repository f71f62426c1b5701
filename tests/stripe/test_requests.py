"""Every request that we send to Stripe is one of its description, judged by another validator than the local
Stripe's; and every call that the client can make was made."""

import inspect
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from metering.core.clock import utc_now
from metering.lab.stripe_local.faults import Fault
from metering.stripe.client.client import StripeClientPort
from metering.stripe.link_customers import create_at_stripe, find_links, list_unlinked
from metering.stripe.push import PushState
from metering.stripe.push_due import push_due
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import Caps
from tests.builders import ENVIRONMENT, NOVEMBER, Months
from tests.lab.stripe_local.schemas import problems

FINALIZE = "POST /v1/invoices/{invoice}/finalize"
DRAFTS = ("changed", "more", "less", "long")
FINALS = ("high", "high_and_paid", "low", "twice", "paid", "gone")
METHODS = {name for name, _ in inspect.getmembers(StripeClientPort, inspect.isfunction) if name[0] != "_"}
ENDPOINTS = {
    "GET /v1/customers",
    "POST /v1/customers",
    "GET /v1/invoices",
    "POST /v1/invoices",
    "GET /v1/invoices/{invoice}",
    "DELETE /v1/invoices/{invoice}",
    "GET /v1/invoices/{invoice}/lines",
    "POST /v1/invoices/{invoice}/add_lines",
    "POST /v1/invoices/{invoice}/update_lines",
    "POST /v1/invoices/{invoice}/remove_lines",
    FINALIZE,
    "POST /v1/credit_notes",
}


class Counted:
    """The port, with its calls counted by name."""

    def __init__(self, port: StripeClientPort) -> None:
        self._port = port
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.calls[name] += 1
        found: Callable[..., Any] = getattr(self._port, name)
        return found


def test_every_request_is_one_of_stripes_description_and_every_call_is_made(months: Months) -> None:
    counted = Counted(months.port)
    months.port = counted  # type: ignore[assignment]
    link_everybody(months)
    push_everybody(months)
    asked = months.stripe.control.requests()
    planted = plant(months)
    months.stripe.control.clear_requests()
    report = reconcile(
        pusher=months.pusher(), period=None, repair=True, caps=Caps(cents=10_000, share=Decimal(1)),
        requested_by="test",
    )  # fmt: skip
    assert len(report.found) >= planted
    assert report.left == []
    assert months.rows("SELECT state, count(*) FROM invoice_pushes GROUP BY 1 ORDER BY 1") == [
        ("final", 8),
        ("paid", 2),
    ]
    asked += months.stripe.control.requests()
    assert [problem for each in asked for problem in problems(each["endpoint"], each["params"])] == []
    assert [each for each in asked if each["status"] == 400] == []
    assert {each["endpoint"] for each in asked} >= ENDPOINTS
    assert {name for name in METHODS if not counted.calls[name]} == set()
    assert set(counted.calls) == METHODS


def link_everybody(months: Months) -> None:
    """Made at Stripe, after a look whether they are there already."""
    for customer_id in (*DRAFTS, *FINALS):
        months.use(customer_id, output=400_000)
    engine, port = months.service.engine, months.port
    assert find_links(engine=engine, port=port) == []
    unlinked = list_unlinked(engine=engine)
    create_at_stripe(engine=engine, port=port, environment=ENVIRONMENT, customers=unlinked, now=utc_now())
    assert list_unlinked(engine=engine) == []
    months.use("long", name="t", at=NOVEMBER + timedelta(days=1))
    months.close_november()


def push_everybody(months: Months) -> None:
    """Some to their end, and some that stay drafts; with every setting that changes a request."""
    for customer_id in DRAFTS:
        months.stripe.control.fail_next(FINALIZE, Fault.LOST_REQUEST)
        assert pushed(months, customer_id, days_until_due=14) == {PushState.UNKNOWN: 1}
    for customer_id in FINALS:
        assert pushed(months, customer_id, collect=True) == {PushState.FINAL: 1}
    months.stripe.control.clear_faults()
    lost = [each for each in months.stripe.control.requests() if each["fault"]]
    assert len(lost) == len(DRAFTS)
    months.ahead += timedelta(minutes=6)


def pushed(months: Months, customer_id: str, **terms: object) -> dict[PushState, int]:
    return dict(push_due(pusher=months.pusher(**terms), limit=1, threads=1, only=customer_id))


def plant(months: Months) -> int:
    """A drift for each customer; how many."""
    stripe, control = months.stripe.client.v1, months.stripe.control
    invoices = {
        row[0]: stripe.invoices.retrieve(str(row[1]))
        for row in months.rows("SELECT customer_id, stripe_invoice_id FROM invoice_pushes")
    }

    def edit(customer_id: str, cents: int) -> None:
        line = invoices[customer_id].lines.data[0]
        control.edit(line.id, {"amount": line.amount + cents}, recompute=True)

    edit("changed", 30)
    edit("high", 30)
    edit("high_and_paid", 30)
    edit("low", -60)
    fees: Any = {"lines": [{"amount": 5, "description": f"fee {number}"} for number in range(15)]}
    stripe.invoices.add_lines(invoices["more"].id, {"lines": fees["lines"][:1]})
    stripe.invoices.add_lines(invoices["long"].id, fees)
    gone: Any = {"id": invoices["less"].lines.data[0].id, "behavior": "delete"}
    stripe.invoices.remove_lines(invoices["less"].id, {"lines": [gone]})
    first = invoices["twice"]
    copy: Any = {"customer": first.customer, "metadata": first.metadata.to_dict() if first.metadata else {}}
    stripe.invoices.create(copy)
    for customer_id in ("high_and_paid", "paid"):
        stripe.invoices.pay(invoices[customer_id].id)
    control.remove(invoices["gone"].id)
    return len(invoices)
