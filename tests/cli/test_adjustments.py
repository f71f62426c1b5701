"""`metering adjustments`: a credit is booked once, after a look at it."""

import sys

import pytest

from tests.builders import Books, end, start
from tests.command_line import CommandLine
from tests.database import Database
from tests.terminal import in_terminal

CREDIT = ("adjustments", "create", "acme", "--usd", "-25", "--reason", "Outage")


@pytest.fixture
def metering(books: Books, rated_database: Database) -> CommandLine:
    books.receive([start("s-1"), end("s-1")])
    books.finalize()
    return CommandLine(rated_database)


def test_a_credit_is_booked_in_dollars_listed_and_on_the_audit_log(metering: CommandLine) -> None:
    booked = metering.json(*CREDIT, "--yes")
    assert (booked["kind"], booked["reason"], booked["usd_cents"]) == ("credit", "Outage", "-2500")
    assert metering.json("adjustments", "list", "--customer", "acme") == [booked]
    listed = metering("adjustments", "list").stdout
    assert "-$25.00" in listed
    assert metering.json("audit-log", "list", "--limit", "1")[0]["what"].startswith("adjustment")
    assert "difference" not in metering("audit").stdout


def test_the_amount_may_be_in_cents_and_for_one_stream(metering: CommandLine) -> None:
    terms = ("--cents", "-0.1", "--stream", "s-1", "--reason", "Goodwill", "--yes")
    booked = metering.json("adjustments", "create", "acme", *terms)
    assert (booked["stream_id"], booked["usd_cents"]) == ("s-1", "-0.1")
    assert metering.json("streams", "show", "acme", "s-1")["cost_usd_cents"] == "0.3985"


def test_with_an_idempotency_key_nothing_is_booked_twice(metering: CommandLine) -> None:
    first = metering.json(*CREDIT, "--yes", "--idempotency-key", "outage-7")
    assert metering.json(*CREDIT, "--yes", "--idempotency-key", "outage-7") == first
    assert len(metering.json("adjustments", "list")) == 1


def test_nothing_is_booked_without_a_yes(metering: CommandLine) -> None:
    assert "nothing was booked: run it with --yes" in metering(*CREDIT, exits=1).stderr
    command = [sys.executable, "-m", "metering", *CREDIT]
    asked = in_terminal(command, columns=100, environment=metering.environment, interrupt_at="[y/N]")
    assert "book a credit that lowers the bill of acme by $25.00?" in asked.text
    assert asked.exit_code == 130
    assert metering.json("adjustments", "list") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody", "--usd", "-5"), "there is no customer 'nobody'"),
        (("acme", "--usd", "5"), "a credit must be below 0"),
        (("acme", "--usd", "-5", "--stream", "s-9"), "has no charge for 's-9'"),
        (("acme", "--usd", "much"), "--usd: expected a number in plain digits"),
    ],
)
def test_what_cannot_be_booked_is_one_line(metering: CommandLine, arguments: tuple[str, ...], says: str) -> None:
    ended = metering("adjustments", "create", *arguments, "--reason", "x", "--yes", exits=1)
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_amount_is_given_once(metering: CommandLine) -> None:
    for amounts in ((), ("--usd", "-1", "--cents", "-100")):
        refused = metering("adjustments", "create", "acme", *amounts, "--reason", "x", "--yes", exits=2)
        assert "--usd" in refused.stderr
