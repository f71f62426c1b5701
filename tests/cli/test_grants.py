"""`metering grants`, `balance`, `deferred-revenue`: prepaid money, made once, shown with what it paid for."""

import sys
from datetime import UTC, datetime

import pytest

from tests.builders import Books, end, start
from tests.command_line import CommandLine
from tests.database import Database
from tests.terminal import in_terminal

SOLD = ("grants", "create", "acme", "--usd", "120", "--paid-usd", "100", "--reason", "Order 7")


@pytest.fixture
def metering(books: Books, rated_database: Database) -> CommandLine:
    books.receive([start("first"), end("first")])
    books.finalize()
    return CommandLine(rated_database)


def test_a_grant_is_made_and_shown_with_the_charge_that_it_pays_for(metering: CommandLine, books: Books) -> None:
    made = metering.json(*SOLD, "--yes")
    assert (made["amount_usd_cents"], made["paid_usd_cents"], made["funding"]) == ("12000", "10000", "external")
    books.receive([start("next"), end("next")])
    books.finalize(now=datetime.now(UTC))
    shown = metering.json("grants", "show", made["grant_id"])
    assert [(each["kind"], each["stream_id"]) for each in shown["entries"]] == [
        ("drawn", "next"),
        ("granted", None),
    ]
    assert "$119.995015" in metering("grants", "show", made["grant_id"]).stdout
    assert metering.json("grants", "list", "--customer", "acme")[0]["balance_usd_cents"] == "11999.5015"
    assert "difference" not in metering("audit").stdout


def test_nothing_is_granted_without_a_yes(metering: CommandLine) -> None:
    assert "nothing was granted: run it with --yes" in metering(*SOLD, exits=1).stderr
    command = [sys.executable, "-m", "metering", *SOLD]
    asked = in_terminal(command, columns=100, environment=metering.environment, interrupt_at="[y/N]")
    assert "grant acme $120.00 (sold for $100.00)?" in asked.text
    assert metering.json("grants", "list") == []


def test_with_an_idempotency_key_nothing_is_granted_or_refunded_twice(metering: CommandLine) -> None:
    made = metering.json(*SOLD, "--yes", "--idempotency-key", "order-7")
    assert metering.json(*SOLD, "--yes", "--idempotency-key", "order-7") == made
    refund = ("grants", "refund", made["grant_id"], "--usd", "60", "--reason", "Half", "--yes")
    first = metering.json(*refund, "--idempotency-key", "half")
    assert (first["refund_cents"], first["balance_usd_cents"]) == (5000, "6000")
    assert metering.json(*refund, "--idempotency-key", "half") == first


def test_a_voided_grant_has_nothing_left(metering: CommandLine) -> None:
    made = metering.json("grants", "create", "acme", "--usd", "5", "--reason", "Welcome", "--yes")
    assert made["funding"] == "none"
    ended = metering.json("grants", "void", made["grant_id"], "--reason", "Mistake", "--yes")
    assert (ended["state"], ended["balance_usd_cents"]) == ("voided", "0")
    assert metering.json("grants", "list", "--state", "active") == []


def test_a_balance_and_deferred_revenue_are_shown_in_dollars(metering: CommandLine) -> None:
    metering.json(*SOLD, "--expires", "2099-01-01", "--model", "gpt-5.5", "--yes")
    metering.json("grants", "create", "acme", "--usd", "5", "--reason", "Welcome", "--yes")
    shown = metering("balance", "acme").stdout
    assert "balance $125.00" in shown
    assert "held by open streams $0.00, available $5.00" in shown
    assert metering.json("balance", "acme", "--as-of", "2026-01-01")["balance_usd_cents"] == "0"
    month = f"{datetime.now(UTC):%Y-%m}"
    assert metering.json("deferred-revenue", "--period", month)["in_all"]["closing_cents"] == 10_000
    assert "$100.00" in metering("deferred-revenue", "--period", month).stdout
    assert "nothing was deferred" in metering("deferred-revenue", "--period", "2020-01").stdout


def test_what_does_not_exist_is_named(metering: CommandLine) -> None:
    assert "there is no grant 'gr_none'" in metering("grants", "show", "gr_none", exits=1).stderr
    assert "there is no customer 'acmee'" in metering("balance", "acmee", exits=1).stderr
    assert "no grants match" in metering("grants", "list", "--customer", "globex").stdout
