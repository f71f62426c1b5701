"""What the API accepts, everything after it can process: each field's oddest values through the whole life."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import cycle
from urllib.parse import quote

import httpx2
import psycopg
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from metering.access.scopes import Role
from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts
from metering.audit.receipt_document import verify_document
from metering.audit.run import audit
from metering.db.engine import transaction
from metering.exports.export_month import ExportFormat, ExportKind
from metering.ledger.store.rollups import roll_up_totals
from metering.server.bootstrap import Service
from metering.server.embedded.data_dir import Services
from metering.streams.settlement import NEEDS_PERSON, State
from tests.builders.posted import rates
from tests.builders.seeded import close_and_push, finalize_all, last_month
from tests.dashboard.browsing import browse
from tests.dashboard.reading import links_of
from tests.database import Template, clone
from tests.local_stripe import local_stripe
from tests.running_api import Api, signed_in
from tests.scenarios.odd_values import CONTROLS, TEXTS, Events, middle_of, names_of, odd_streams

pytestmark = pytest.mark.long

COMBINED = 150
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Life:
    """An API with odd streams, a month after they ended."""

    api: Api
    streams: list[Events]
    month: str
    url: str

    @property
    def keys(self) -> list[tuple[str, str]]:
        return sorted(set(names_of(self.streams)))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def life(services: Services, rated_template: Template) -> Iterator[Life]:
    """Every stream is posted, priced where it can be, and final; its month is closed and pushed."""
    with (
        clone(services, rated_template) as database,
        local_stripe() as stripe,
        database.service() as service,
        signed_in(service) as api,
    ):
        now = datetime.now(UTC)
        month = str(last_month(now))
        streams = odd_streams(day=middle_of(month), combined=COMBINED, seed=17)
        _post(api, streams)
        _name_customers(api, streams)
        _watch(api)
        _price(api, streams, month)
        finalize_all(api)
        _abandon(service)
        roll_up_totals(service.engine)
        close_and_push(api, stripe, redis_url=database.redis_url, name=database.url, now=now)
        for kind in AlertKind:
            evaluate_alerts(engine=service.engine, kind=kind, every=timedelta(minutes=1), now=now)
        yield Life(api, streams, month, database.url)


def _post(api: Api, streams: list[Events]) -> None:
    events = [event for stream in streams for event in stream.values()]
    for begin in range(0, len(events), _AT_ONCE):
        answer = api.post(events[begin : begin + _AT_ONCE])
        assert answer.status_code == 200, answer.text
        assert answer.json()["rejected"] == []
        assert answer.json().get("warnings", []) == []


def _name_customers(api: Api, streams: list[Events]) -> None:
    """Names as odd as the ids, and two zones far from each other."""
    customers = sorted({customer_id for customer_id, _ in names_of(streams)})
    for customer_id, name in zip(customers, cycle((*TEXTS, *CONTROLS, "", "🦀" * 256)), strict=False):
        zone = "Pacific/Kiritimati" if len(name) % 2 else "Pacific/Pago_Pago"
        path = f"/v1/customers/{quote(customer_id, safe='')}"
        assert api.client.put(path, json={"name": name, "time_zone": zone}).status_code == 200, (customer_id, name)


def _watch(api: Api) -> None:
    """An alert that each customer reaches, with a name for a spreadsheet."""
    alert = {"name": TEXTS[0], "scope": "each_customer", "kind": "inconsistent_usage", "thresholds": ["1"]}
    assert api.client.post("/v1/alerts", json=alert).status_code == 201


def _price(api: Api, streams: list[Events], month: str) -> None:
    """A rate for each name that has none, odd as it is."""
    asked = {(each["stream-start"]["data"]["provider"], each["stream-start"]["data"]["model"]) for each in streams}
    answered = {
        (end.get("response_provider") or start["provider"], end.get("response_model") or start["model"])
        for start, end in ((each["stream-start"]["data"], each["stream-end"]["data"]) for each in streams)
    }
    for provider, model in sorted(asked | answered - {("anthropic", "claude-opus-4.7")}):
        path = f"/v1/rates/{quote(provider, safe='')}/{quote(model, safe='')}"
        answer = api.client.put(path, json={"effective_from": f"{month}-01T00:00:00Z", "rates": rates("5")})
        assert answer.status_code == 200, (provider, model, answer.text)


def _abandon(service: Service) -> None:
    """Nothing is left that waits."""
    with transaction(service.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM streams WHERE due_at <= now()")).scalar_one() == 0


def test_every_stream_reaches_a_state_and_none_failed(life: Life) -> None:
    states = dict(life.rows("SELECT state, count(*) FROM streams GROUP BY state"))
    assert State.FAILED.value not in states
    assert set(states) <= {State.FINALIZED.value, *NEEDS_PERSON, State.ENDED.value}, states
    assert states["finalized"] > len(life.keys) * 0.8
    assert life.rows("SELECT count(*) FROM streams") == [(len(life.keys),)]


def test_every_stream_can_be_read_with_its_events_and_its_receipt_verifies(life: Life) -> None:
    faulty = []
    # A client that does not compare answers with the description, which allows no leap second in a time.
    plain = life.api.client_with(Role.READ)
    for customer_id, stream_id in life.keys:
        path = f"/v1/streams/{quote(customer_id, safe='')}/{quote(stream_id, safe='')}"
        shape = life.api.client.get(path)
        events = plain.get(f"{path}/events")
        if (shape.status_code, events.status_code) != (200, 200) or not events.json()["data"]:
            faulty.append((path, shape.text, events.text))
            continue
        assert (shape.json()["customer_id"], shape.json()["stream_id"]) == (customer_id, stream_id)
        if shape.json()["state"] == "finalized":
            receipt = life.api.client.get(f"{path}/receipt")
            checks = verify_document(receipt.content)
            faulty += [(path, check) for check in checks if check.fault]
    assert faulty == []


def _pages(client: httpx2.Client, path: str, **query: str) -> list[dict[str, object]]:
    """The rows of all pages."""
    rows: list[dict[str, object]] = []
    cursor: str | None = None
    while True:
        answer = client.get(path, params={**query, "limit": "100", **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, (path, answer.text)
        rows += answer.json()["data"]
        cursor = answer.json().get("next_cursor")
        if cursor is None:
            return rows


def test_lists_have_every_row_page_by_page(life: Life) -> None:
    charges = _pages(life.api.client, "/v1/charges")
    backlog = _pages(life.api.client, "/v1/backlog")
    listed = {(row["customer_id"], row["stream_id"]) for row in (*charges, *backlog)}
    waiting = {tuple(row) for row in life.rows("SELECT customer_id, stream_id FROM streams WHERE state = 'ended'")}
    assert listed | waiting == set(life.keys)
    customers = {row["customer_id"] for row in _pages(life.api.client, "/v1/customers")}
    assert customers == {customer_id for customer_id, _ in life.keys}
    for path in ("/v1/rates", "/v1/invoices", "/v1/alert-occurrences", "/v1/drift", "/v1/audit-log"):
        assert _pages(life.api.client, path)


@pytest.mark.parametrize("granularity", ["none", "hour", "day", "month"])
def test_totals_have_every_group_and_agree_with_the_bookings(life: Life, granularity: str) -> None:
    ((booked,),) = life.rows("SELECT sum(usd_cents) FROM entries WHERE kind <> 'manual'")
    groups = "customer_id,provider,model,api_key_id,outcome,usage_source,retry"
    for grouped in (*groups.split(","), groups):
        query = {"from": "1969-12-31T00:00:00Z", "to": "9998-12-31T00:00:00Z", "group_by": grouped}
        rows = _pages(life.api.client, "/v1/totals", **query, granularity=granularity)
        assert sum(Decimal(str(row["cost_usd_cents"])) for row in rows) == booked


def test_every_page_of_the_dashboard_opens(life: Life) -> None:
    browser = browse(life.api)
    for customer_id in sorted({customer_id for customer_id, _ in life.keys}):
        for page in ("customer", "streams", "backlog", "invoices"):
            browser.get(page, customer_id=customer_id, period=life.month)
    for customer_id, stream_id in life.keys[::3]:
        assert "Verification" in browser.get("stream", customer_id=customer_id, stream_id=stream_id).text
    for page in ("", "customers", "models", "alerts", "drift", "rates", "audit-log", "system", "keys"):
        browser.get(page)
    for provider, model in life.rows("SELECT DISTINCT provider, model FROM rate_cards"):
        browser.get("rate", provider=str(provider), model=str(model))


def test_every_invoice_can_be_shown_and_printed_and_is_at_stripe_or_says_why(life: Life) -> None:
    browser = browse(life.api)
    invoices = _pages(life.api.client, "/v1/invoices")
    assert len(invoices) > 20
    for invoice in invoices:
        path = f"/v1/invoices/{invoice['invoice_id']}"
        assert life.api.client.get(path).status_code == 200
        assert life.api.client.get(f"{path}/statement.html").status_code == 200
        page = browser.get("invoice", invoice_id=str(invoice["invoice_id"])).text
        for link in links_of(page):
            if "/invoice/entries" in link:
                assert browser.http.get(link).status_code == 200, link
    for invoice in invoices[::5]:
        printed = life.api.client.get(f"/v1/invoices/{invoice['invoice_id']}/statement.pdf")
        assert printed.content.startswith(b"%PDF"), printed.text
    unfinished = life.rows(
        "SELECT customer_id, state, problem FROM invoice_pushes WHERE state NOT IN ('final', 'deferred', 'paid')"
    )
    assert unfinished == []


@pytest.mark.parametrize("kind", ExportKind)
def test_every_export_of_the_month_is_whole_in_every_format(life: Life, kind: ExportKind) -> None:
    files = {}
    for format in ExportFormat:
        answer = life.api.client.get(f"/v1/exports/{kind.value}.{format.value}", params={"period": life.month})
        assert answer.status_code == 200
        files[format] = answer.content
    written = list(csv.reader(io.StringIO(files[ExportFormat.CSV].decode("utf-8-sig"), newline="")))
    table = pq.read_table(io.BytesIO(files[ExportFormat.PARQUET]))
    assert len(written) - 1 == table.num_rows > 0
    assert {len(row) for row in written} == {len(table.column_names)}


@pytest.mark.parametrize("view", ["daily_usage", "charges", "invoice_lines", "unbilled", "drift", "rates"])
def test_every_view_of_reporting_can_be_read(life: Life, view: str) -> None:
    assert life.rows(f"SELECT count(*) FROM (SELECT * FROM reporting.{view} OFFSET 0) AS v")[0][0]


def test_metrics_and_the_audit_agree(life: Life) -> None:
    assert life.api.client.get("/metrics").status_code == 200
    report = audit(engine=life.api.service.engine, now=datetime.now(UTC))
    assert report.differences == []
