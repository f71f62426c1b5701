"""A month has one figure: lists, totals, previews, pages, exports and the invoice agree in every zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from metering.alerts.queries.customer_figures import customer_months
from metering.core.period import BillingPeriod
from metering.customers.queries.customers import list_customers
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.ledger.store.rollups import roll_up_totals
from metering.months.preview_month import preview_month
from metering.months.run_invoices import RunRequest
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.builders.books import CLOSE_TERMS
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import amounts_of, rows_of
from tests.exports.files import csv_rows
from tests.running_api import Api, signed_in

pytestmark = pytest.mark.long

# Whole hours, half hours and quarters; clocks that change by half an hour, at a month's edge, or not at all.
ZONES = (
    "UTC", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham", "America/St_Johns",
    "Australia/Eucla", "Asia/Tehran", "Pacific/Marquesas", "Australia/Adelaide", "Asia/Yangon", "America/Havana",
    "Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kabul", "Europe/London",
)  # fmt: skip
NOVEMBER = BillingPeriod(2026, 11)
SECOND = timedelta(seconds=1)
LATER = datetime(2026, 12, 4, tzinfo=UTC)


@pytest.fixture
def api(books: Books) -> Iterator[Api]:
    with signed_in(books.service) as running:
        yield running


def add_customer(books: Books, customer_id: str, time_zone: str) -> None:
    details, now = CustomerDetails(time_zone=time_zone), datetime(2026, 10, 1, tzinfo=UTC)
    put_customer(engine=books.service.engine, customer_id=customer_id, details=details, now=now)


def use(books: Books, customer_id: str, at: datetime, *, output: int) -> None:
    name = f"{at:%m-%dT%H-%M-%S}"
    begun = start(name, customer_id=customer_id, time=at - SECOND)
    books.receive([begun, end(name, output, customer_id=customer_id, time=at)], at=at)


def book_around_its_edges(books: Books, customer_id: str, period: BillingPeriod, zone: ZoneInfo) -> None:
    """Streams in the first and last minutes of a month, and just outside of it; each has its own amount."""
    starts_at, ends_at = (each.start(time_zone=zone).astimezone(UTC) for each in (period, period.next))
    for place, at in enumerate(
        (
            starts_at - SECOND, starts_at, starts_at + timedelta(minutes=14), starts_at + timedelta(minutes=29),
            starts_at + timedelta(minutes=31), starts_at + timedelta(minutes=59), starts_at + timedelta(days=9),
            ends_at - timedelta(minutes=46), ends_at - timedelta(minutes=31), ends_at - timedelta(minutes=14),
            ends_at - SECOND, ends_at,
        )
    ):  # fmt: skip
        use(books, customer_id, at, output=40_000 + 1_000 * 2**place)


def listed(books: Books, now: datetime) -> dict[str, Decimal]:
    with transaction(books.service.engine) as connection:
        found = list_customers(connection, now=now, only=None, after="", limit=1000)
    return {each.customer_id: each.month_to_date_usd_cents for each in found}


def in_totals(api: Api, customer_id: str, zone: str, period: BillingPeriod) -> tuple[Decimal, Decimal]:
    """The month of a customer in totals by month, and summed from its days."""
    params = {"customer_id": customer_id, "time_zone": zone, "from": f"{period.previous}-20T00:00:00Z",
              "to": f"{period.next}-10T00:00:00Z", "limit": 1000}  # fmt: skip
    zone_info = ZoneInfo(zone)
    sums = []
    for granularity in ("month", "day"):
        answer = api.client.get("/v1/totals", params={**params, "granularity": granularity}).json()
        ours = [
            row
            for row in answer["data"]
            if BillingPeriod.containing(at=datetime.fromisoformat(row["start"]), time_zone=zone_info) == period
        ]
        sums.append(sum((Decimal(row["cost_usd_cents"]) for row in ours), Decimal(0)))
        if granularity == "month":
            starts = [datetime.fromisoformat(row["start"]) for row in ours]
            assert starts == [period.start(time_zone=zone_info).astimezone(UTC)]
    return sums[0], sums[1]


def on_its_page(browser: Browser, customer_id: str, period: BillingPeriod) -> tuple[Decimal, Decimal]:
    """The month on the customer's page: by model, and in the chart by day."""
    query = {"customer_id": customer_id, "month": str(period)}
    sums = []
    for table in ("models", "cost-by-day"):
        rows = rows_of(browser.get("customer", **query, csv=table).text)
        amounts = [row["cost_usd" if table == "models" else "total_usd"] for row in rows]
        sums.append(sum(map(Decimal, amounts), Decimal(0)))
    return sums[0], sums[1]


def exported(books: Books, kind: str, column: str, of: str, period: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for row in csv_rows(books.service.engine, kind, period):
        sums[row[of]] = sums.get(row[of], Decimal(0)) + Decimal(row[column])
    return sums


def alerted(books: Books, now: datetime) -> dict[str, Decimal]:
    """The spend of November that alerts of customers compare."""
    with transaction(books.service.engine) as connection:
        figures = customer_months(now=now, time_zones=ZONES, only=None)
        rows = connection.execute(text(figures.query), figures.parameters).all()
    return {row.customer_id: row.usd_cents for row in rows if row.alert_window == "2026-11"}


@pytest.mark.parametrize("rolled_up", [False, True])
def test_every_screen_shows_the_amount_of_the_invoice(books: Books, api: Api, rolled_up: bool) -> None:
    browser = browse(api)
    for zone in ZONES:
        add_customer(books, zone, zone)
        book_around_its_edges(books, zone, NOVEMBER, ZoneInfo(zone))
    while books.finalize(now=LATER, limit=1000).claimed:
        pass
    if rolled_up:
        roll_up_totals(books.service.engine)
    engine, middle = books.service.engine, datetime(2026, 11, 15, tzinfo=UTC)
    request = RunRequest(period=NOVEMBER, requested_by="test")
    preview = preview_month(engine=engine, request=request, terms=CLOSE_TERMS, now=LATER)
    expected = {each.customer_id: each.exact_usd_cents for each in preview.invoices if each.period == NOVEMBER}
    assert set(expected) == set(ZONES)
    assert len(set(expected.values())) == 1
    to_date, spent = listed(books, middle), alerted(books, middle)
    charges = exported(books, "charges", "cost_usd_cents", "customer_id", "2026-11")
    focus = exported(books, "focus", "BilledCost", "BillingAccountId", "2026-11")
    for zone in ZONES:
        shown = {
            "customers": to_date[zone],
            "alerts": spent[zone],
            "charges": charges[zone],
            "focus": focus[zone].scaleb(2),
            **dict(zip(("totals by month", "totals by day"), in_totals(api, zone, zone, NOVEMBER), strict=True)),
        }
        assert set(shown.values()) == {expected[zone]}, (zone, shown, expected[zone])
        assert set(on_its_page(browser, zone, NOVEMBER)) == {expected[zone].scaleb(-2)}, zone
    assert books.close("2026-10") == books.close("2026-11") == {}
    for zone in ZONES:
        (invoice,) = (each.invoice for each in books.invoices(zone) if each.invoice.period == NOVEMBER)
        assert invoice.exact_usd_cents == expected[zone]
        assert set(on_its_page(browser, zone, NOVEMBER)) == {expected[zone].scaleb(-2)}, zone
    assert listed(books, middle) == to_date
    browser.http.close()


def of_all(api: Api, period: str) -> dict[str, dict[str, Decimal]]:
    """A month of all customers, by customer: in totals of the month, on the customers page, and among streams."""
    browser = browse(api)
    shown: dict[str, dict[str, Decimal]] = {}
    rows = api.client.get(f"/v1/totals/months/{period}", params={"group_by": "customer_id", "limit": 1000}).json()
    shown["totals"] = {row["customer_id"]: Decimal(row["cost_usd_cents"]) for row in rows["data"]}
    for name, path, table in (("customers", "customers", "customers"), ("overview", "", "top")):
        found = rows_of(browser.get(path, month=period, csv=table).text)
        shown[name] = {row["customer_id"]: Decimal(row["cost_usd"]).scaleb(2) for row in found}
    streams: dict[str, Decimal] = {}
    for row in rows_of(browser.get("streams", month=period, csv="streams").text):
        streams[row["customer_id"]] = streams.get(row["customer_id"], Decimal(0)) + Decimal(
            row["cost_usd"]
        ).scaleb(2)
    shown["streams"] = streams
    by_day = rows_of(browser.get("", month=period, csv="cost-by-day").text)
    assert sum(Decimal(row["total_usd"]).scaleb(2) for row in by_day) == sum(streams.values())
    days = api.client.get(f"/v1/totals/months/{period}", params={"by_day": "true", "limit": 1000}).json()["data"]
    assert {row["start"][:7] for row in days} == {period}
    assert [Decimal(row["cost_usd_cents"]) for row in days] == [
        amount for row in by_day if (amount := Decimal(row["total_usd"]).scaleb(2))
    ]
    browser.http.close()
    return shown


@pytest.mark.parametrize("rolled_up", [False, True])
def test_a_month_of_all_customers_sums_the_months_of_their_invoices(
    books: Books, api: Api, rolled_up: bool
) -> None:
    for zone in ZONES:
        add_customer(books, zone, zone)
        book_around_its_edges(books, zone, NOVEMBER, ZoneInfo(zone))
    while books.finalize(now=LATER, limit=1000).claimed:
        pass
    if rolled_up:
        roll_up_totals(books.service.engine)
    before = of_all(api, "2026-11")
    assert books.close("2026-10") == books.close("2026-11") == {}
    expected = {
        zone: each.invoice.exact_usd_cents
        for zone in ZONES
        for each in books.invoices(zone)
        if each.invoice.period == NOVEMBER
    }
    for shown in (before, of_all(api, "2026-11")):
        assert shown == dict.fromkeys(("totals", "customers", "overview", "streams"), expected)


def test_each_day_of_a_month_of_all_customers_leads_to_streams_that_sum_to_it(books: Books, api: Api) -> None:
    for zone in ZONES:
        add_customer(books, zone, zone)
        book_around_its_edges(books, zone, NOVEMBER, ZoneInfo(zone))
    books.finalize(now=LATER, limit=1000)
    browser = browse(api)
    by_day = rows_of(browser.get("", month="2026-11", csv="cost-by-day").text)
    for row in by_day:
        day = datetime.fromisoformat(row["day"]).replace(tzinfo=UTC)
        query = {"month": "2026-11", "from": f"{day:%Y-%m-%d}", "to": f"{day + timedelta(days=1):%Y-%m-%d}"}
        page = browser.get("streams", **query)
        found = rows_of(browser.get("streams", csv="streams", **query).text)
        assert sum((Decimal(each["cost_usd"]) for each in found), Decimal(0)) == Decimal(row["total_usd"])
        assert amounts_of(page.text)[0].usd == Decimal(row["total_usd"])
    browser.http.close()


def test_a_day_has_one_figure_in_exports_and_totals(books: Books, api: Api) -> None:
    for zone in ZONES:
        add_customer(books, zone, zone)
        book_around_its_edges(books, zone, NOVEMBER, ZoneInfo(zone))
    books.finalize(now=LATER, limit=1000)
    days: dict[tuple[str, str], Decimal] = {}
    for row in csv_rows(books.service.engine, "focus", "2026-11"):
        key = (row["BillingAccountId"], row["ChargePeriodStart"])
        days[key] = days.get(key, Decimal(0)) + Decimal(row["BilledCost"]).scaleb(2)
    for zone in ZONES:
        bounds = [each.start(time_zone=ZoneInfo(zone)).astimezone(UTC) for each in (NOVEMBER, NOVEMBER.next)]
        params = {"customer_id": zone, "time_zone": zone, "granularity": "day",
                  "from": bounds[0].isoformat(), "to": bounds[1].isoformat()}  # fmt: skip
        rows = api.client.get("/v1/totals", params=params).json()["data"]
        of_zone = {start: usd_cents for (customer, start), usd_cents in days.items() if customer == zone}
        assert {row["start"]: Decimal(row["cost_usd_cents"]) for row in rows} == of_zone


def test_a_month_that_begins_where_one_of_another_zone_ended_has_one_figure(books: Books, api: Api) -> None:
    """October was closed in Los Angeles; then the customer moved to Kolkata."""
    add_customer(books, "acme", "America/Los_Angeles")
    for at in ("2026-10-31T18:00Z", "2026-10-31T19:00Z", "2026-11-01T06:59:59Z", "2026-11-01T07:00Z",
               "2026-11-30T18:29:59Z", "2026-11-30T18:30Z"):  # fmt: skip
        use(books, "acme", datetime.fromisoformat(at), output=40_000)
    books.finalize(now=datetime(2026, 11, 2, tzinfo=UTC))
    assert books.close("2026-10") == {}
    details = CustomerDetails(time_zone="Asia/Kolkata")
    put_customer(engine=books.service.engine, customer_id="acme", details=details, now=LATER)
    books.finalize(now=LATER)
    while_open = of_all(api, "2026-11")
    assert books.close("2026-11") == {}
    october, november = books.invoices()
    assert while_open == of_all(api, "2026-11")
    assert october.closed.ends_at == november.closed.starts_at == datetime(2026, 11, 1, 7, tzinfo=UTC)
    browser = browse(api)
    middle = datetime(2026, 11, 15, tzinfo=UTC)
    assert listed(books, middle)["acme"] == november.invoice.exact_usd_cents
    for stored in (october, november):
        of_month = of_all(api, str(stored.invoice.period))
        assert all(each == {"acme": stored.invoice.exact_usd_cents} for each in of_month.values())
        shown = on_its_page(browser, "acme", stored.invoice.period)
        assert set(shown) == {stored.invoice.exact_usd_cents.scaleb(-2)}, str(stored.invoice.period)
    browser.http.close()
