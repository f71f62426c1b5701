"""`metering backlog`: what a stream may cost is shown, and a terminal asks before it is booked."""

import json
import sys

import pytest

from tests.builders.posted import stream
from tests.command_line import CommandLine
from tests.database import Database
from tests.running_api import Api
from tests.terminal import Seen, in_terminal

pytestmark = pytest.mark.long

RESOLVE = ("backlog", "resolve", "acme", "s", "bill_as_is", "--reason", "the first was right")
QUESTION = "Book $0.004985 for stream s of Acme Rockets?"


@pytest.fixture
def metering(api: Api, rated_database: Database) -> CommandLine:
    """With two starts of different models."""
    api.client.put("/v1/customers/acme", json={"name": "Acme Rockets"})
    api.post([*stream("s"), stream("s", model="claude-opus-4.1", time="2026-11-23T15:00:01Z")[0]])
    api.finalize()
    return CommandLine(rated_database)


def in_a_terminal(metering: CommandLine, *arguments: str, answer: tuple[str, str] | None = None) -> Seen:
    command = [sys.executable, "-m", "metering", *arguments]
    return in_terminal(command, columns=200, environment=metering.environment, answer=answer)


def state(api: Api) -> str:
    api.finalize()
    found: str = api.client.get("/v1/streams/acme/s").json()["state"]
    return found


def test_both_candidates_and_what_each_decision_books_are_shown(metering: CommandLine) -> None:
    shown = metering.run("backlog", "show", "acme", "s").stdout
    for text in ("Acme Rockets", "A (wins)", "claude-opus-4.1", "$0.014955", "bill_as_is", "write_off", "$0.00"):
        assert text in shown, text
    found = json.loads(metering.run("backlog", "show", "acme", "s", "--json").stdout)
    assert [each["would_cost_usd_cents"] for each in found["candidates"]] == ["0.4985", "1.4955"]
    listed = json.loads(metering.run("backlog", "list", "--json").stdout)
    assert [(each["customer_name"], each["would_cost_usd_cents"]) for each in listed] == [
        ("Acme Rockets", "0.4985")
    ]


def test_what_is_not_in_the_backlog_is_not_shown(metering: CommandLine) -> None:
    refused = metering.run("backlog", "show", "acme", "none")
    assert refused.returncode != 0
    assert "has no stream 'none' in the backlog" in refused.stderr


def test_a_terminal_asks_and_no_records_nothing(api: Api, metering: CommandLine) -> None:
    seen = in_a_terminal(metering, *RESOLVE, answer=("[y/N]", "n"))
    assert QUESTION in seen.text
    assert "nothing was recorded" in seen.text
    assert state(api) == "conflicting"


def test_a_terminal_asks_and_yes_books_exactly_that(api: Api, metering: CommandLine) -> None:
    seen = in_a_terminal(metering, *RESOLVE, answer=("[y/N]", "y"))
    assert (seen.exit_code, QUESTION in seen.text) == (0, True), seen.text
    assert state(api) == "finalized"
    assert api.client.get("/v1/streams/acme/s").json()["cost_usd_cents"] == "0.4985"


def test_with_yes_a_terminal_does_not_ask_and_a_script_is_never_asked(api: Api, metering: CommandLine) -> None:
    assert "[y/N]" not in in_a_terminal(metering, *RESOLVE, "--yes").text
    assert state(api) == "finalized"
    again = metering.run(*RESOLVE)
    assert "it is not in the backlog" in again.stderr
