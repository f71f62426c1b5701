"""Invoices and drift over HTTP: complete, paged, and nobody else's."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest

from metering.access.scopes import Role
from metering.events.events import UsageSource
from metering.events.usage import Usage
from metering.server.bootstrap import Service
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import Caps
from tests.builders import NOVEMBER, Months, end, start
from tests.running_api import Api, signed_in


@pytest.fixture
def api(rated_service: Service) -> Iterator[Api]:
    with signed_in(rated_service) as running:
        yield running


def test_an_invoice_is_shown_with_its_lines_rounding_and_place_at_stripe(months: Months, api: Api) -> None:
    months.month("acme")
    months.push_all()
    (invoice,) = api.client.get("/v1/invoices").json()["data"]
    assert (invoice["exact_usd_cents"], invoice["billed_cents"], invoice["remainder_usd_cents"]) == (
        "100.406",
        100,
        "0.406",
    )
    assert (invoice["state"], invoice["number"], invoice["period"]) == ("final", "2026-11-000001", "2026-11")
    assert invoice["stripe_invoice_id"].startswith("in_")
    (line,) = invoice["lines"]
    assert (line["kind"], line["model"], line["usd_cents"], line["billed_cents"]) == (
        "usage",
        "claude-opus-4.7",
        "100.406",
        100,
    )
    assert line["rates"] == [
        {"kind": "input", "quantity": 812, "usd_per_million": "5", "usd_per_hour": None, "usd_cents": "0.406"},
        {"kind": "output", "quantity": 40_000, "usd_per_million": "25", "usd_per_hour": None, "usd_cents": "100"},
    ]
    assert invoice["finalized_at"] is not None
    assert invoice["bill_to"] == {"name": "acme", "address": None, "tax_ids": []}
    assert (invoice["payment_due_at"], invoice["paid_at"]) == (None, None)
    for name in (invoice["invoice_id"], invoice["number"]):
        assert api.client.get(f"/v1/invoices/{name}").json() == invoice


def test_a_line_has_times_as_text_and_counts_beyond_64_bits_exactly(months: Months, api: Api) -> None:
    largest = 2**53 - 1
    usage = Usage(input_tokens=largest, output_tokens=1, audio_seconds=Decimal("12.345"))
    for number in range(3_000 // 250):
        months.receive(
            [
                event
                for name in (f"s{number}-{each}" for each in range(250))
                for event in (start(name, time=NOVEMBER), end(name, time=NOVEMBER, usage=usage))
            ]
        )
    while months.finalize(now=NOVEMBER + timedelta(days=15), limit=3_000).claimed:
        pass
    months.close_november()
    (invoice,) = api.client.get("/v1/invoices").json()["data"]
    (line,) = invoice["lines"]
    assert line["usage"] == {
        "input_tokens": 3_000 * largest,
        "output_tokens": 3_000,
        "audio_seconds": "37035",
    }
    assert 3_000 * largest > 2**64


def test_lists_are_paged_and_filtered(months: Months, api: Api) -> None:
    months.month("a", "b", "c")
    seen, cursor = [], None
    while True:
        page = api.client.get("/v1/invoices", params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        seen += [each["customer_id"] for each in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["c", "b", "a"]
    only = api.client.get("/v1/invoices", params={"customer_id": "b", "period": "2026-11", "state": "pending"})
    assert [each["customer_id"] for each in only.json()["data"]] == ["b"]
    assert api.client.get("/v1/invoices", params={"period": "2026-12"}).json()["data"] == []
    assert api.client.get("/v1/invoices", params={"period": "soon"}).status_code == 422


def test_a_bound_key_sees_its_customers_invoices_only(months: Months, api: Api) -> None:
    months.month("acme", "other")
    bound = api.client_with(Role.READ, customer_id="acme")
    (mine,) = bound.get("/v1/invoices").json()["data"]
    assert mine["customer_id"] == "acme"
    assert bound.get("/v1/invoices", params={"customer_id": "other"}).status_code == 403
    (theirs,) = api.client.get("/v1/invoices", params={"customer_id": "other"}).json()["data"]
    assert bound.get(f"/v1/invoices/{theirs['invoice_id']}").status_code == 404
    assert bound.get(f"/v1/invoices/{mine['invoice_id']}").status_code == 200
    assert api.client.get("/v1/invoices/inv_none").status_code == 404


def test_drift_is_listed_with_what_was_done_about_it(months: Months, api: Api) -> None:
    months.month("acme", "other")
    months.push_all()
    for invoice in months.stripe.client.v1.invoices.list().data:
        months.stripe.control.edit(invoice.lines.data[0].id, {"amount": 130}, recompute=True)
    report = reconcile(
        pusher=months.pusher(), period=None, repair=True, caps=Caps(cents=1000, share=1), requested_by="test"
    )
    assert report.left == []
    page = api.client.get("/v1/drift", params={"limit": 1}).json()
    (first,) = page["data"]
    assert (first["drift_class"], first["drift_cents"], first["repair"]) == ("line", 30, "$0.30 credited")
    rest = api.client.get("/v1/drift", params={"cursor": page["next_cursor"]}).json()
    assert {first["customer_id"], *(each["customer_id"] for each in rest["data"])} == {"acme", "other"}
    bound = api.client_with(Role.READ, customer_id="acme")
    assert [each["customer_id"] for each in bound.get("/v1/drift").json()["data"]] == ["acme"]


def test_a_statement_can_be_had_as_a_pdf_or_a_page_by_its_own_customer(months: Months, api: Api) -> None:
    months.month("acme", "other")
    bound = api.client_with(Role.READ, customer_id="acme")
    pdf = bound.get("/v1/invoices/2026-11-000001/statement.pdf")
    assert (pdf.headers["content-type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")
    page = bound.get("/v1/invoices/2026-11-000001/statement.html")
    assert "acme" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert bound.get("/v1/invoices/2026-11-000002/statement.pdf").status_code == 404
    assert bound.get("/v1/invoices/2026-11-000001/statement.docx").status_code == 422


def test_a_receipt_names_the_invoice_that_has_each_of_its_entries(months: Months, api: Api) -> None:
    months.use("acme")
    receipt = "/v1/streams/acme/s/receipt"
    assert api.client.get(receipt).json()["invoice"] is None
    months.close("2026-11")
    late = end("s", 41_000, customer_id="acme", time=NOVEMBER, usage_source=UsageSource.PROVIDER)
    months.receive([late])
    months.finalize(now=NOVEMBER + timedelta(days=40))
    document = api.client.get(receipt).json()
    assert document["invoice"] == "2026-11-000001"
    assert [entry["invoice"] for entry in document["entries"]] == ["2026-11-000001", None]
    text = api.client.get(receipt, headers={"accept": "text/plain"}).text
    assert "on 2026-11-000001" in text
    months.close("2026-12")
    assert api.client.get(receipt).json()["entries"][1]["invoice"] == "2026-12-000001"
