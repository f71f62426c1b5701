"""A customer's time zone that is unusable: it is refused where it enters, and a stored one touches nobody else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.core.period import BillingPeriod
from metering.customers.store import CustomerDetails
from metering.ledger.store.open_periods import OpenPeriods, UnusableTimeZoneError, open_customer
from metering.months.preview_month import preview_month
from metering.months.run_invoices import RunRequest
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.builders.books import CLOSE_TERMS
from tests.command_line import CommandLine
from tests.dashboard.browsing import browse
from tests.exports.files import csv_rows
from tests.metrics import scrape_work
from tests.reporting.views import read
from tests.running_api import Api, signed_in

NOVEMBER = datetime(2026, 11, 12, 9, tzinfo=UTC)
LAST_NIGHT = datetime(2026, 11, 30, 20, tzinfo=UTC)
BAD = ["localtime", "posixrules", "Mars/Olympus", "europe/berlin", "right/Europe/Berlin", "FOO3", ""]


@pytest.fixture
def api(books: Books) -> Iterator[Api]:
    with signed_in(books.service) as running:
        yield running


def plant(books: Books, customer_id: str, time_zone: str) -> None:
    """A row as a restored backup, or an older release, left it, and as the migration found it."""
    with books.owner() as connection:
        connection.execute(
            "INSERT INTO customers (customer_id, time_zone, created_at) VALUES (%s, %s, '2026-10-01')"
            " ON CONFLICT (customer_id) DO UPDATE SET time_zone = excluded.time_zone",
            (customer_id, time_zone),
        )
        connection.execute(
            "INSERT INTO audit_log (at, actor, door, kind, action, subject, after) VALUES (now(), 'migrate',"
            " 'migration', 'customer', 'known', %s, json_build_object('time_zone', %s::text))",
            (customer_id, time_zone),
        )


def use(books: Books, customer_id: str, name: str, at: datetime) -> None:
    """A stream of 100.406 cents."""
    plant_if_missing = "INSERT INTO customers (customer_id, created_at) VALUES (%s, now()) ON CONFLICT DO NOTHING"
    with books.owner() as connection:
        connection.execute(plant_if_missing, (customer_id,))
    ended = end(name, 40_000, customer_id=customer_id, time=at)
    books.receive([start(name, customer_id=customer_id, time=at - timedelta(seconds=4)), ended], at=at)


@pytest.fixture(params=BAD)
def bad(books: Books, request: pytest.FixtureRequest) -> str:
    """An unusable zone, of a customer with a stream in November; another customer has one as well."""
    name: str = request.param
    for customer_id, zone in (("acme", "Asia/Kolkata"), ("bad", name), ("zoe", "America/Los_Angeles")):
        plant(books, customer_id, zone)
        use(books, customer_id, "s", NOVEMBER)
    assert books.finalize(now=NOVEMBER + timedelta(minutes=1)).charged == 3
    return name


@pytest.mark.parametrize(
    ("name", "says"),
    [("localtime", "such as Europe/Berlin"), ("posixrules", "such as"), ("Factory", "such as"),
     ("europe/berlin", "did you mean Europe/Berlin?"), ("posix/Asia/Tokyo", "did you mean Asia/Tokyo?"),
     ("right/Asia/Tokyo", "did you mean Asia/Tokyo?"), ("Europe/Berlni", "did you mean Europe/Berlin?"),
     ("UTC+2", ""), ("", ""), ("Mars/Olympus", "such as"), ("CET", "different rules"), ("MET", "different rules"),
     ("Europe/Berlin\0", "")],
)  # fmt: skip
def test_an_unusable_zone_is_refused_by_name_wherever_one_enters(
    books: Books, api: Api, name: str, says: str
) -> None:
    given = api.client.put("/v1/customers/acme", json={"time_zone": name})
    times = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    asked = api.client.get("/v1/totals", params={**times, "granularity": "day", "time_zone": name})
    for answer in (given, asked):
        assert answer.status_code == 422
        assert "time_zone: " in answer.json()["detail"]
        assert says in answer.json()["detail"]
    if "\0" not in name:
        metering = CommandLine(books.database)
        ended = metering.run("customers", "set", "acme", "--time-zone", name)
        assert ended.returncode == 1
        assert "time_zone: " in ended.stderr
    assert api.client.get("/v1/customers").json()["data"] == []


@pytest.mark.parametrize("name", ["UTC", "Asia/Kolkata", "Pacific/Chatham", "US/Pacific", "Etc/GMT+12", "EST"])
def test_iana_names_are_accepted(api: Api, name: str) -> None:
    assert api.client.put("/v1/customers/acme", json={"time_zone": name}).json()["time_zone"] == name


def test_a_zone_that_only_one_of_both_knows_or_knows_differently_is_refused(books: Books, api: Api) -> None:
    """As after an upgrade of PostgreSQL, or with its data of another year."""
    for local_time, says in (
        ("NULL", "PostgreSQL does not know the time zone 'Asia/Tokyo'"),
        ("'Asia/Seoul'", ""),
        ("'Asia/Kolkata'", "different rules for 'Asia/Tokyo' on 20"),
    ):
        with books.owner() as connection:
            connection.execute(
                "CREATE OR REPLACE FUNCTION known_time_zone(name text) RETURNS text STABLE STRICT LANGUAGE sql"
                f" AS $$ SELECT CASE WHEN name = 'Asia/Tokyo' THEN {local_time} ELSE name END $$"
            )
        answer = api.client.put("/v1/customers/acme", json={"time_zone": "Asia/Tokyo"})
        assert answer.status_code == (422 if says else 200)
        assert says in answer.json().get("detail", "")
        assert api.client.put("/v1/customers/zoe", json={"time_zone": "Asia/Seoul"}).status_code == 200


def test_lists_metrics_exports_views_and_pages_go_on(books: Books, api: Api, bad: str) -> None:
    found = {each["customer_id"]: each for each in api.client.get("/v1/customers").json()["data"]}
    assert list(found) == ["acme", "bad", "zoe"]
    assert found["bad"]["time_zone"] == bad
    metrics = scrape_work(books.service)
    assert metrics("metering_part_unread", part="months") == 0
    assert metrics("metering_customers_time_zone_unusable") == 1
    for kind in ("charges", "focus"):
        rows = csv_rows(books.service.engine, kind)
        assert {row.get("customer_id") or row["BillingAccountId"] for row in rows} == {"acme", "bad", "zoe"}
    assert {row["customer_id"] for row in read(books.database, "SELECT * FROM reporting.unbilled")} == set(found)
    for kind in AlertKind:
        evaluate_alerts(engine=books.service.engine, kind=kind, every=timedelta(), now=NOVEMBER)
    browser = browse(api)
    for page in ("", "customers?month=2026-11", "customers?q=a", "customers?q=zoe", "customer?customer_id=acme",
                 "invoices", "backlog", "streams"):  # fmt: skip
        browser.get(page)
    shown = browser.get("customer?customer_id=bad&month=2026-11").text
    assert "cannot be closed until an admin sets another time zone" in shown
    assert "$1.00" in shown
    browser.http.close()


@pytest.mark.usefixtures("bad")
def test_the_doctor_names_the_customer_the_reason_and_the_cure(books: Books) -> None:
    metering = CommandLine(books.database)
    ended = metering.run("doctor")
    assert ended.returncode == 1
    line = next(line for line in ended.stdout.splitlines() if line.startswith("time zones"))
    assert "FAILED" in line
    plant(books, "bad", "Europe/Berlin")
    line = next(line for line in metering.run("doctor").stdout.splitlines() if line.startswith("time zones"))
    assert "all are usable" in line


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("forced", [False, True])
def test_only_the_month_of_that_customer_stays_open_until_it_has_another_zone(books: Books, forced: bool) -> None:
    terms = {"force_reason": "the books are due"} if forced else {}
    request = RunRequest(
        period=BillingPeriod(2026, 11), requested_by="test", force_reason=terms.get("force_reason")
    )
    engine, later = books.service.engine, datetime(2026, 12, 4, tzinfo=UTC)
    preview = preview_month(engine=engine, request=request, terms=CLOSE_TERMS, now=later)
    assert [each.customer_id for each in preview.invoices] == ["acme", "zoe"]
    assert list(preview.held_up) == ["bad"]
    refused = books.close("2026-11", **terms)
    assert list(refused) == ["bad"]
    assert "set another with `metering customers set`" in refused["bad"]
    assert [len(books.invoices(each)) for each in ("acme", "bad", "zoe")] == [1, 0, 1]
    put_customer(
        engine=engine, customer_id="bad", details=CustomerDetails(time_zone="Europe/Berlin"), now=NOVEMBER
    )
    assert books.close("2026-11") == {}
    (stored,) = books.invoices("bad")
    assert (stored.closed.time_zone, stored.invoice.exact_usd_cents) == ("Europe/Berlin", Decimal("100.406"))


def test_a_customer_that_was_marked_before_its_zone_became_unusable_is_not_invoiced(books: Books) -> None:
    for customer_id in ("acme", "bad", "zoe"):
        use(books, customer_id, "s", NOVEMBER)
    books.finalize(now=NOVEMBER + timedelta(minutes=1))
    plant(books, "bad", "localtime")
    with books.owner() as connection:
        connection.execute("UPDATE customers SET closed_through = '2026-11'")
    refused = books.close("2026-11")
    assert list(refused) == ["bad"]
    assert [len(books.invoices(each)) for each in ("acme", "bad", "zoe")] == [1, 0, 1]
    plant(books, "bad", "Europe/Berlin")
    assert books.close("2026-11") == {}
    assert len(books.invoices("bad")) == 1


def test_a_stream_is_booked_unless_its_month_depends_on_the_zone(books: Books) -> None:
    plant(books, "bad", "localtime")
    for name, at in (("middle", NOVEMBER), ("edge", LAST_NIGHT)):
        use(books, "bad", name, at)
        use(books, "acme", name, at)
    now = LAST_NIGHT + timedelta(minutes=1)
    assert books.finalize(now=now).charged == 3
    assert books.finalize(now=now).claimed == 0  # it is not tried all the time
    with books.owner() as connection:
        query = "SELECT state, due_at FROM streams WHERE customer_id = 'bad' AND stream_id = 'edge'"
        assert connection.execute(query).fetchone() == ("ended", now + timedelta(minutes=15))
    plant(books, "bad", "Asia/Tokyo")
    assert books.finalize(now=now + timedelta(minutes=15)).charged == 1
    with books.owner() as connection:
        found = connection.execute("SELECT stream_id, period FROM charges WHERE customer_id = 'bad' ORDER BY 1")
        assert found.fetchall() == [("edge", "2026-12"), ("middle", "2026-11")]


def test_a_credit_at_the_edge_of_a_month_is_refused_with_the_cure() -> None:
    periods = OpenPeriods({"bad": open_customer("localtime", None), "shut": open_customer("localtime", "2026-12")})
    with pytest.raises(UnusableTimeZoneError, match=r"'localtime' of customer 'bad' is unusable.*set another"):
        periods.period(customer_id="bad", at=LAST_NIGHT)
    assert periods.period(customer_id="bad", at=NOVEMBER) == "2026-11"
    assert periods.period(customer_id="shut", at=LAST_NIGHT) == "2027-01"
