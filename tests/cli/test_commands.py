"""The command line, as a person or a script meets it."""

import json
import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from metering.prices.import_rates import import_rates
from tests.builders.catalogues import dearer
from tests.command_line import CommandLine
from tests.database import Database

pytestmark = pytest.mark.long


@pytest.fixture
def metering(database: Database) -> CommandLine:
    return CommandLine(database)


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "list"),
        ("customers", "list"),
        ("rates", "list"),
        ("cancel-policy", "list"),
        ("upstream-price", "list"),
        ("backlog", "list"),
        ("rerate", "--period", "2026-10", "--dry-run"),
        ("invoices", "list"),
        ("alerts", "list"),
        ("webhooks", "list"),
        ("reader", "list"),
        ("audit",),
        ("audit-log", "list"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_process_of_its_own_does_what_it_does_here(metering: CommandLine, arguments: tuple[str, ...]) -> None:
    apart = metering.run_apart(*arguments)
    here = metering.run(*arguments)
    assert apart.returncode == here.returncode == 0
    assert apart.stdout == here.stdout != ""


def test_help_names_every_command(metering: CommandLine) -> None:
    text = metering.run("--help").stdout
    for command in (
        "up",
        "demo",
        "gateway",
        "api",
        "worker",
        "beat",
        "migrate",
        "keys",
        "customers",
        "rates",
        "doctor",
    ):
        assert f" {command} " in text


def test_the_version_is_shown(metering: CommandLine) -> None:
    shown = metering.run("--version")
    assert shown.returncode == 0
    assert re.fullmatch(r"metering \d+\.\d+\.\d+\S*\n", shown.stdout)


def test_a_key_is_created_listed_limited_and_revoked(metering: CommandLine) -> None:
    created = json.loads(metering.run("keys", "create", "--role", "read", "--json").stdout)
    assert created["key"].startswith(f"mk_{created['key_id']}_")
    (listed,) = json.loads(metering.run("keys", "list", "--json").stdout)
    assert (listed["key_id"], listed["revoked_at"]) == (created["key_id"], None)
    assert created["key"] not in json.dumps(listed)
    limit = ("keys", "limit", created["key_id"], "--json")
    assert json.loads(metering.run(*limit, "--events-per-second", "500").stdout)["events_per_second"] == 500
    changed = json.loads(metering.run(*limit, "--concurrent-requests", "3").stdout)
    assert (changed["events_per_second"], changed["concurrent_requests"]) == (500, 3)
    assert json.loads(metering.run(*limit, "--events-per-second", "0").stdout)["events_per_second"] is None
    assert metering.run("keys", "revoke", listed["key_id"]).returncode == 0
    (revoked,) = json.loads(metering.run("keys", "list", "--json").stdout)
    assert revoked["revoked_at"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keys", "revoke", "nope"], "no key has the id 'nope'"),
        (["keys", "limit", "nope"], "no key has the id 'nope'"),
        (["keys", "create", "--role", "admin", "--customer", "acme"], "role admin cannot be bound to a customer"),
        (
            ["rates", "set", "house", "own-1", "mood=5"],
            "'mood=5': expected KIND[@TIER][>INPUT_TOKENS]=USD[~WINDOW], where",
        ),
        (["rates", "set", "house", "own-1", "input=x"], "expected USD per million, 0 or more, got 'x'"),
        (["customers", "markup", "acme", "much"], "percent: expected a number in plain digits, such as 12.5, got"),
        (["rates", "set", "house", "own-1", "output=5"], "a card needs a rate without conditions for input"),
        (["customers", "set", "acme", "--time-zone", "Mars/Olympus"], "is not an IANA time zone"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(metering: CommandLine, arguments: list[str], message: str) -> None:
    ended = metering.run(*arguments)
    assert ended.returncode == 1
    assert ended.stderr.startswith("metering: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_import_of_rates_is_shown_first_and_written_when_approved(metering: CommandLine) -> None:
    shown = metering.run("rates", "import", "--json")
    assert len(json.loads(shown.stdout)) > 2000
    assert "nothing was written" in shown.stderr
    assert json.loads(metering.run("rates", "list", "--json").stdout) == []
    approved = metering.run("rates", "import", "--approve", "--json")
    assert approved.stdout == shown.stdout
    assert json.loads(metering.run("rates", "diff", "--json").stdout) == []
    assert "all cards are up to date" in metering.run("rates", "import").stdout
    assert metering.run("rates", "diff").stdout == "nothing to import: all cards are up to date\n"
    listed = metering.run("rates", "list", "--provider", "anthropic", "--model", "opus-4-7").stdout
    assert "input 5 " in listed
    assert metering.run("rates", "set", "anthropic", "claude-opus-4-7", "input=1", "output=2").returncode == 0
    both = json.loads(
        metering.run("rates", "list", "--provider", "anthropic", "--model", "claude-opus-4-7", "--json").stdout
    )
    assert [card["usd_per_million"] for card in both][-1] == "input 1  output 2"


def test_a_changed_price_is_shown_kept_or_imported_model_by_model(metering: CommandLine, engine: Engine) -> None:
    earlier = dearer({"claude-opus-4-7": 2, "claude-sonnet-5": 2}, source="genai-prices 0.2.2")
    import_rates(engine=engine, catalogue=earlier, now=datetime(2026, 11, 1, tzinfo=UTC))
    anthropic = ("--provider", "anthropic", "--json")

    def changed() -> dict[str, tuple[str, str]]:
        rows = json.loads(metering.run("rates", "diff", *anthropic).stdout)
        return {row["model"]: (row["was"].partition("  output")[0], row["customer"]) for row in rows}

    assert set(changed()) == {"claude-opus-4-7", "claude-sonnet-5"}
    assert changed()["claude-sonnet-5"] == ("cache_read 0.4  cache_write 5  cache_write_1h 8  input 4", None)
    assert "give either --approve or --keep" in metering.run("rates", "import", "--approve", "--keep").stderr
    kept = metering.run("rates", "import", "--keep", "--model", "claude-opus-4-7", *anthropic)
    assert [row["model"] for row in json.loads(kept.stdout)] == ["claude-opus-4-7"]
    assert "1 cards of genai-prices 0.2.3 are not offered again" in kept.stderr
    assert set(changed()) == {"claude-sonnet-5"}
    assert metering.run("rates", "import", "--approve", *anthropic).returncode == 0
    left = metering.run("rates", "diff", *anthropic)
    assert (json.loads(left.stdout), "1 kept" in left.stderr) == ([], True)


def test_terms_are_set_listed_and_tried_out(metering: CommandLine) -> None:
    policy = ("cancel-policy", "set", "OpenAI", "zero", "--effective-from", "2026-11-01")
    assert metering.run(*policy).returncode == 0
    assert "choose another time" in metering.run(*policy).stderr
    (listed,) = json.loads(metering.run("cancel-policy", "list", "--json").stdout)
    assert (listed["provider"], listed["policy"], listed["version"]) == ("openai", "zero", 1)
    tried = metering.run("cancel-policy", "simulate", "zero", "--period", "2026-11")
    assert "every policy costs the same" in tried.stdout
    assert (
        "expected a month such as 2026-10"
        in metering.run("cancel-policy", "simulate", "zero", "--period", "2026-13").stderr
    )
    assert "passed through" in metering.run("customers", "markup", "acme").stdout
    set_to = metering.run("customers", "markup", "--json", "--", "acme", "-12.5")
    assert json.loads(set_to.stdout)[0]["percent"] == "-12.5"
    assert "at least -100" in metering.run("customers", "markup", "--", "acme", "-101").stderr


def test_an_empty_backlog_says_so_and_a_decision_about_nothing_is_refused(metering: CommandLine) -> None:
    assert metering.run("backlog", "list").stdout == "the backlog is empty\n"
    refused = metering.run("backlog", "resolve", "acme", "s", "write_off", "--reason", "test")
    assert "customer 'acme' has no stream 's'" in refused.stderr


def test_rerating_a_month_without_streams_changes_nothing(metering: CommandLine) -> None:
    shown = metering.run("rerate", "--period", "2026-10", "--dry-run")
    assert shown.returncode == 0
    assert shown.stdout == "no differences: all bills match the prices\n"
    assert metering.run("rerate", "--period", "2026-10", "--json").stdout == "[]\n"
    assert "expected a month" in metering.run("rerate", "--period", "last").stderr


def test_doctor_redacts_secrets_and_fails_when_something_is_wrong(metering: CommandLine) -> None:
    well = metering.run("doctor", "--json")
    assert well.returncode == 0, well.stdout
    found = {row["what"]: row for row in json.loads(well.stdout)}
    assert found["database"]["status"] == found["queue"]["status"] == "ok"
    elsewhere = CommandLine(
        None,
        METERING_DATABASE_URL="postgresql://u:topsecret@127.0.0.1:1/x",
        METERING_ADMIN_KEY="mk_a_topsecret",
    )
    ill = elsewhere.run_apart("doctor")
    assert ill.returncode == 1
    assert "topsecret" not in ill.stdout + ill.stderr
    assert "FAILED" in ill.stdout
