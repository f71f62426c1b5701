"""The month-end page: who is blocked, who is ready, what will be billed; an admin closes and pushes from it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import import_module

import pytest

from metering.access.scopes import Role
from metering.core.clock import utc_now
from metering.core.time_zones import UTC_ZONE
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.ledger.store.rollups import roll_up_totals
from metering.months.run_invoices import close_run
from metering.months.store.runs import open_run
from metering.server.outgoing import close_terms
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.builders.seeded import last_month
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import rows_of
from tests.running_api import Api, signed_in

# The last month that is over, in every time zone.
PERIOD = last_month(utc_now())
MIDDLE = PERIOD.start(time_zone=UTC_ZONE) + timedelta(days=14)


@pytest.fixture
def api(books: Books) -> Iterator[Api]:
    with signed_in(books.service) as running:
        yield running


@pytest.fixture
def admin(api: Api) -> Browser:
    return browse(api)


def use(books: Books, customer_id: str, *, ends: bool = True) -> None:
    at: datetime = MIDDLE
    put_customer(
        engine=books.service.engine, customer_id=customer_id, details=CustomerDetails(), now=at - timedelta(days=1)
    )
    begun = start("s", customer_id=customer_id, time=at)
    ended = end("s", 40_000, customer_id=customer_id, time=at + timedelta(seconds=4))
    books.receive([begun, ended] if ends else [begun], at=at)
    if ends:
        books.finalize(now=utc_now())


def rows(admin: Browser) -> dict[str, dict[str, str]]:
    found = rows_of(admin.get("month-end", csv="month-end", month=str(PERIOD)).text)
    return {row["customer_id"]: row for row in found}


def close(admin: Browser, *, confirm: str) -> int:
    fields = {"token": admin.token(), "month": str(PERIOD), "confirm": confirm}
    return admin.http.post("/dashboard/month-end/close", data=fields).status_code


def test_each_customer_is_blocked_or_ready_with_what_it_will_bill(books: Books, admin: Browser) -> None:
    use(books, "acme")
    use(books, "bolt", ends=False)
    found = rows(admin)
    assert (found["acme"]["status"], found["bolt"]["status"]) == ("ready", "blocked")
    assert Decimal(found["acme"]["billed_usd"]) == Decimal("1.00")
    page = admin.get("month-end", month=str(PERIOD)).text
    assert "1 stream may still settle: s (open)" in page
    assert "/dashboard/backlog?customer_id=bolt" in page


def test_an_admin_closes_the_month_and_sees_its_progress_and_its_invoices(books: Books, admin: Browser) -> None:
    use(books, "acme")
    assert close(admin, confirm="yes") == 422
    assert close(admin, confirm=str(PERIOD)) == 303
    page = admin.get("month-end", done="close").text
    assert f"Closing {PERIOD}" in page
    assert "Closing has begun" in page
    with transaction(books.service.engine) as connection:
        run = open_run(connection)
    assert run is not None
    close_run(engine=books.service.engine, run=run, terms=close_terms(books.service.settings), clock=utc_now)
    row = rows(admin)["acme"]
    assert row["status"] == "closed"
    assert row["invoice"].startswith(f"{PERIOD}-")
    assert f"Closing {PERIOD}" not in admin.get("month-end", month=str(PERIOD)).text


def test_waiting_invoices_are_pushed_again_and_the_log_says_who_did_it(
    books: Books, api: Api, admin: Browser
) -> None:
    use(books, "acme")
    assert close(admin, confirm=str(PERIOD)) == 303
    with transaction(books.service.engine) as connection:
        run = open_run(connection)
    assert run is not None
    close_run(engine=books.service.engine, run=run, terms=close_terms(books.service.settings), clock=utc_now)
    with books.service.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE invoice_pushes SET state = 'stuck', due_at = NULL, problem = 'x'")
    assert rows(admin)["acme"]["status"] == "stuck"
    fields = {"token": admin.token(), "month": str(PERIOD)}
    assert admin.http.post("/dashboard/month-end/push", data=fields).status_code == 303
    assert rows(admin)["acme"]["status"] == "closed"
    logged = api.client.get("/v1/audit-log", params={"kind": "invoices"}).json()["data"]
    assert [each["action"] for each in logged] == ["push", "close"]


def test_a_month_that_is_not_over_is_refused_with_when_it_can_be_closed(books: Books, admin: Browser) -> None:
    use(books, "acme")
    month = str(PERIOD.next)
    answer = admin.http.post(
        "/dashboard/month-end/close", data={"token": admin.token(), "month": month, "confirm": month}
    )
    assert answer.status_code == 422
    assert f"{month} can be closed from" in answer.text


def test_a_reader_sees_the_page_and_closes_nothing(books: Books, api: Api) -> None:
    use(books, "acme")
    reader = browse(api, Role.READ)
    page = reader.get("month-end").text
    assert "needs a key with role admin" in page
    assert "Close the month" not in page
    assert close(reader, confirm=str(PERIOD)) == 403
    bound = browse(api, Role.READ, customer_id="acme")
    assert bound.http.get("/dashboard/month-end").status_code == 404


def test_a_month_without_customers_says_so(admin: Browser) -> None:
    assert "No customer has a month to close" in admin.get("month-end").text


@pytest.mark.parametrize("rolled_up", [False, True])
def test_drafts_of_many_streams_are_worked_out_when_asked_for(
    books: Books, admin: Browser, monkeypatch: pytest.MonkeyPatch, rolled_up: bool
) -> None:
    use(books, "acme")
    use(books, "bolt")
    more = {"customer_id": "bolt", "time": MIDDLE}
    books.receive([start("more", **more), end("more", 80_000, **more)], at=MIDDLE)
    books.finalize(now=utc_now())
    if rolled_up:
        roll_up_totals(books.service.engine)
    everything = admin.get("month-end", month=str(PERIOD)).text
    assert "$1.00" in everything
    assert "Work out all amounts" not in everything
    monkeypatch.setattr(import_module("metering.dashboard.pages.month_end"), "_MOST_STREAMS", 2)
    some = admin.get("month-end", month=str(PERIOD)).text
    assert "$1.00" in some
    assert "$3.0" in everything
    assert "$3.0" not in some
    assert "The drafts of 1 customer with many streams" in some
    assert "in 1 draft invoice shown here" in some
    assert "$3.0" in admin.get("month-end", month=str(PERIOD), amounts="all").text
    assert len(rows(admin)) == 2
    assert Decimal(rows(admin)["bolt"]["billed_usd"]) == 3
    assert close(admin, confirm=str(PERIOD)) == 303
    assert "$3.0" not in admin.get("month-end", month=str(PERIOD), amounts="all").text
