"""docs/tutorials/connect-stripe.md names every call that the client makes, and events that the service acts on."""

import inspect
import re
from collections.abc import Iterator

import pytest

from metering.server.settings import Settings, variable_of
from metering.stripe.client.client import StripeClientPort
from metering.stripe.customer_links import METADATA_KEYS
from tests.builders import Months
from tests.database import Database
from tests.docs.pages import DOCS
from tests.local_stripe import LocalStripe, local_stripe
from tests.running_api import run_server
from tests.waiting import eventually

PAGE = (DOCS / "tutorials/connect-stripe.md").read_text()
SECRET = "whsec_tests"
CHANGES = ("add_lines", "update_lines", "remove_lines")
PERMISSIONS = {"customers": "Customers", "invoices": "Invoices", "credit_notes": "Credit notes"}


def calls_of_the_client() -> set[str]:
    """The names that the client gives to its calls, for its rate limits."""
    found = re.findall(r'"((?:GET|POST|DELETE) /v1/[^"]+)"', inspect.getsource(StripeClientPort))
    names = set(found)
    lines = "POST /v1/invoices/{{invoice}}/{change}"
    assert lines in names
    return {*names - {lines}, *(lines.format(change=change) for change in CHANGES)}


def test_the_key_needs_permissions_for_exactly_the_calls_of_the_client() -> None:
    rows = re.findall(r"^\| ([\w ]+) \| Write \| (.*) \|$", PAGE, flags=re.MULTILINE)
    named = {
        (call, resource) for resource, rest in rows for call in re.findall(r"`((?:GET|POST|DEL)[^`]+)`", rest)
    }
    assert named == {(call, PERMISSIONS[call.split("/")[2]]) for call in calls_of_the_client()}


def test_the_page_has_the_settings_marks_and_metadata_that_there_are() -> None:
    settings = {variable_of(name) for name in Settings.model_fields}
    assert set(re.findall(r"`?\b((?:METERING|STRIPE)_[A-Z_]+)\b", PAGE)) <= settings
    assert [key for key in METADATA_KEYS if f"`{key}`" not in PAGE] == []


@pytest.fixture
def running_stripe(rated_database: Database) -> Iterator[LocalStripe]:
    """One that posts its events where the page sends them."""
    [path] = set(re.findall(r"(/v1/stripe/webhook)\b", PAGE))
    with (
        rated_database.service(stripe_webhook_secret=SECRET) as service,
        run_server(service) as api,
        local_stripe(webhook_url=f"{api}{path}", webhook_secret=SECRET) as there,
    ):
        yield there


def test_each_event_of_the_page_changes_what_the_page_says(months: Months) -> None:
    chosen = re.findall(r"--events ([\w.,]+)", PAGE)[0].split(",")
    assert chosen == re.findall(r"^\| `(invoice\.\w+)` \|", PAGE, flags=re.MULTILINE)
    months.month("paid", "void", "uncollectible", "final")
    months.push_all()
    there = months.stripe.client.v1.invoices
    listed = months.stripe.client.v1.invoices.list().to_dict()["data"]
    invoices = {str(each["metadata"]["metering_customer"]): str(each["id"]) for each in listed}
    there.pay(invoices["paid"])
    there.void_invoice(invoices["void"])
    there.mark_uncollectible(invoices["uncollectible"])
    assert eventually(lambda: months.stripe.control.deliveries()["waiting"] == 0)
    months.push_all()
    rows = months.rows("SELECT customer_id, state FROM invoice_pushes")
    assert dict(rows) == {name: name for name in invoices}  # type: ignore[arg-type]
    seen = {str(row[0]) for row in months.rows("SELECT DISTINCT type FROM stripe_events")}
    assert {*chosen} <= seen
