"""Names that are misspelt or unknown: refused, or created with a word about it."""

import pytest

from tests.command_line import CommandLine
from tests.database import Database


@pytest.fixture
def metering(rated_database: Database) -> CommandLine:
    made = CommandLine(rated_database)
    made("customers", "set", "acme", "--name", "Acme")
    return made


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (
            ("keys", "create", "--role", "read", "--customer", "acmee"),
            "no customer 'acmee' yet; did you mean 'acme'?",
        ),
        (("customers", "markup", "amce", "10"), "no customer 'amce' yet; did you mean 'acme'?"),
        (("rates", "set", "house", "m", "input=5", "--customer", "ACMEE"), "did you mean 'acme'?"),
        (("cancel-policy", "set", "opnai", "zero"), "provider 'opnai' has no rate card; did you mean 'openai'?"),
        (("upstream-price", "set", "anthropc", "accept"), "did you mean 'anthropic'?"),
        (("customers", "set", "Acme"), "created customer 'Acme'; its id differs only slightly from 'acme'"),
        (("customers", "set", "new"), "created customer 'new'"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_new_name_is_said_beside_what_it_may_mean(
    metering: CommandLine, arguments: tuple[str, ...], hint: str
) -> None:
    assert hint in metering(*arguments).stderr


def test_a_state_that_does_not_exist_is_answered_with_those_that_do(metering: CommandLine) -> None:
    refused = " ".join(metering("backlog", "list", "--state", "done", exits=2).stderr.split())
    assert "Invalid value for '--state': 'done' is not one of 'orphaned'" in refused


def test_known_names_get_no_hint(metering: CommandLine) -> None:
    for arguments in (
        ("keys", "create", "--role", "read", "--customer", "acme", "--json"),
        ("customers", "markup", "acme", "10"),
        ("cancel-policy", "set", "openai", "zero"),
        ("customers", "set", "acme", "--name", "Acme Inc."),
    ):
        assert metering(*arguments).stderr == ""


def test_a_stripe_customer_has_an_id_of_stripe(metering: CommandLine) -> None:
    refused = metering("customers", "set", "acme", "--stripe-customer-id", "xxx", exits=2)
    assert "expected cus_…, got 'xxx'" in refused.stderr
    assert metering.json("customers", "show", "acme")["stripe_customer_id"] is None


def test_a_discount_is_written_as_a_negative_number(metering: CommandLine) -> None:
    assert metering.json("customers", "markup", "acme", "-10")[0]["percent"] == "-10"
    assert metering.json("customers", "markup", "acme", "--percent", "-12.5")[-1]["percent"] == "-12.5"
    assert (
        "give the percentage once"
        in metering("customers", "markup", "acme", "5", "--percent", "6", exits=2).stderr
    )


def test_doctor_names_variables_that_nothing_reads(rated_database: Database) -> None:
    metering = CommandLine(rated_database, METERING_ABANDN_AFTER="3m", METERING_GATEWAY_SPOOL="/tmp/x")
    rows = metering.json("doctor")
    said = [row["value"] for row in rows if row["what"] == "environment"]
    assert said == [
        "METERING_ABANDN_AFTER is no setting and has no effect; did you mean 'METERING_ABANDON_AFTER' or"
        " 'METERING_ADMIN_KEY'?"
    ]


def test_doctor_shows_checks_first_and_settings_that_are_set_with_their_own_spelling(
    rated_database: Database,
) -> None:
    metering = CommandLine(rated_database, METERING_ABANDON_AFTER="90m")
    lines = metering("doctor").stdout.splitlines()
    assert lines[1].startswith("database")
    assert any(line.split() == ["METERING_ABANDON_AFTER", "90m"] for line in lines)
    assert not any("METERING_RETRY_WINDOW" in line for line in lines)
    all_settings = metering("doctor", "--settings").stdout
    assert "METERING_RETRY_WINDOW" in all_settings
    assert "10m" in all_settings
    assert "linked as its retry" in all_settings
