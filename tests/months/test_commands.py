"""The month's commands as a person or a script runs them: results, exit codes, and a kill in the middle."""

import signal
import subprocess
from typing import Any

import psycopg
import pytest

from metering.lab.stripe_local.faults import Fault
from tests.builders import Months
from tests.command_line import CommandLine
from tests.database import Database
from tests.local_stripe import KEY
from tests.waiting import eventually


@pytest.fixture
def metering(months: Months, rated_database: Database) -> CommandLine:
    return CommandLine(
        rated_database,
        METERING_ENVIRONMENT="tests",
        METERING_STRIPE_API_BASE=months.stripe.url,
        STRIPE_API_KEY=KEY,
    )


RUN = ("invoices", "run", "--period", "2026-11", "--as-of", "2026-12-03")


def used(months: Months, *customer_ids: str) -> None:
    for customer_id in customer_ids:
        months.use(customer_id)
        months.link(customer_id)


def test_a_run_closes_invoices_and_pushes_and_a_second_one_changes_nothing(
    months: Months, metering: CommandLine
) -> None:
    used(months, "acme", "other")
    preview = metering.json(*RUN, "--dry-run")
    assert [each["billed_cents"] for each in preview["invoices"]] == [100, 100]
    assert months.rows("SELECT count(*) FROM invoices") == [(0,)]
    result = metering.json(*RUN)
    assert (result["closed"], result["customers"], result["refused"]) == (2, 2, [])
    assert result["states"] == [{"state": "final", "invoices": 2, "billed_cents": 200}]
    months.stripe.control.clear_requests()
    assert metering.json(*RUN)["states"] == result["states"]
    assert months.stripe.requests("POST") == []
    assert "2026-11 is closed for 2 of 2 customers" in metering(*RUN).stdout
    assert "no drift" in metering("reconcile").stdout


def test_a_run_says_whose_month_stays_open_and_why_and_can_be_forced_with_a_reason(
    months: Months, metering: CommandLine
) -> None:
    used(months, "acme", "other")
    months.execute("UPDATE streams SET state = 'unpriced' WHERE customer_id = 'other'")
    result = metering.json(*RUN, exits=2)
    assert [each["customer_id"] for each in result["refused"]] == ["other"]
    assert "s (unpriced)" in result["refused"][0]["why"]
    metering(*RUN, "--force", exits=2)  # without a reason
    forced = metering.json(*RUN, "--force", "--reason", "nobody will price it")
    assert (forced["closed"], forced["refused"]) == (2, [])
    months.execute("UPDATE streams SET state = 'finalized' WHERE customer_id = 'other'")


def test_a_month_that_is_not_over_is_refused_with_when_it_will_be(months: Months, metering: CommandLine) -> None:
    used(months, "acme")
    refused = metering("invoices", "run", "--period", "2099-01", exits=1)
    assert "can be closed from 2099-02-02T00:00:00+00:00" in refused.stderr


def test_a_run_tries_again_what_stripe_refused_until_a_person_removed_the_cause(
    months: Months, metering: CommandLine
) -> None:
    used(months, "acme", "other")
    months.stripe.control.fail_next("POST /v1/invoices", Fault.STORED_ERROR, times=6, status=400)
    refused = metering.json(*RUN, exits=2)
    assert refused["states"] == [{"state": "stuck", "invoices": 2, "billed_cents": 200}]
    assert all(each["problem"] for each in refused["waiting"])
    assert metering.json(*RUN, "--customer", "acme", exits=0)["states"] == [
        {"state": "final", "invoices": 1, "billed_cents": 100}
    ]
    assert months.rows("SELECT state FROM invoice_pushes WHERE customer_id = 'other'") == [("stuck",)]
    assert metering.json(*RUN)["states"] == [{"state": "final", "invoices": 2, "billed_cents": 200}]


def test_a_run_that_is_killed_while_it_pushes_goes_on_when_it_is_run_again(
    months: Months, metering: CommandLine
) -> None:
    customers = [f"c{number:02d}" for number in range(12)]
    used(months, *customers)
    months.stripe.control.fail_next("POST /v1/invoices/{invoice}/add_lines", Fault.SLOW, times=6, seconds=1.0)
    process = metering.start(*RUN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert eventually(lambda: months.stripe.requests().count("POST /v1/invoices/{invoice}/add_lines") >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with psycopg.connect(metering.settings["METERING_DATABASE_URL"]) as connection:
        # What the killed one held is free a minute later.
        connection.execute("UPDATE invoice_pushes SET lease_until = now() - interval '1 s'")
    assert metering.json(*RUN)["states"] == [{"state": "final", "invoices": 12, "billed_cents": 1200}]
    assert months.at_stripe() == [("open", 100, 1)] * 12


def test_customers_are_linked_by_stripes_metadata_and_only_on_request(
    months: Months, metering: CommandLine
) -> None:
    for customer_id in ("acme", "pay@globex.example", "twice", "nobody"):
        months.use(customer_id)
    make = months.stripe.client.v1.customers.create
    acme = make({"name": "A", "metadata": {"customer_id": "acme"}}).id
    globex = make({"email": "Pay@Globex.example"}).id
    for _ in range(2):
        make({"metadata": {"metering_customer": "twice"}})
    shown = metering.json("customers", "link", "--from-stripe")
    assert [(each["customer_id"], each["stripe_customer_id"], each["by"]) for each in shown] == [
        ("acme", acme, "metadata"),
        ("pay@globex.example", globex, "email"),
        ("twice", None, "metadata"),
    ]
    linked = (
        "SELECT customer_id, stripe_customer_id FROM customers WHERE stripe_customer_id IS NOT NULL ORDER BY 1"
    )
    assert months.rows(linked) == []
    metering("customers", "link", "--from-stripe", "--yes")
    assert months.rows(linked) == [("acme", acme), ("pay@globex.example", globex)]
    told = metering("customers", "link", "--create", "--yes").stderr
    assert "1 customer may be at Stripe already: see --from-stripe" in told
    assert [row[0] for row in months.rows(linked)] == ["acme", "nobody", "pay@globex.example"]
    assert metering.json("customers", "link", "--create") == []


def test_reconcile_reports_by_its_exit_code_and_repairs_on_request(months: Months, metering: CommandLine) -> None:
    used(months, "acme")
    metering(*RUN)
    (invoice,) = months.stripe.client.v1.invoices.list().data
    months.stripe.control.edit(invoice.lines.data[0].id, {"amount": 130}, recompute=True)
    found = metering.json("reconcile", "--period", "2026-11", exits=2)
    assert (found["left"], found["ours_cents"], found["theirs_cents"]) == (1, 100, 130)
    assert metering.json("reconcile", "--repair")["left"] == 0
    assert metering.json("reconcile")["findings"] == []


def test_an_invoice_is_shown_and_written_as_a_statement(
    months: Months, metering: CommandLine, tmp_path: Any
) -> None:
    assert "no invoices yet" in metering("invoices", "list").stdout
    used(months, "acme")
    metering(*RUN)
    pdf, page = tmp_path / "s.pdf", tmp_path / "s.html"
    shown = metering("invoices", "show", "2026-11-000001", "--pdf", str(pdf), "--html", str(page)).stdout
    assert "claude-opus-4.7" in shown
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert "Usage statement" in page.read_text()
    assert "final" in metering("invoices", "list").stdout
    assert "there is no invoice 'none'" in metering("invoices", "show", "none", exits=1).stderr
