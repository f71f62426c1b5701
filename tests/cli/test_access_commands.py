"""`metering keys` and `metering audit-log`: the flags of before work, and what an operator does is logged."""

import csv
import getpass
import socket
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.command_line import CommandLine
from tests.database import Database


@pytest.fixture
def metering(database: Database) -> CommandLine:
    return CommandLine(database)


def test_a_key_is_created_listed_rotated_and_revoked(metering: CommandLine) -> None:
    created = metering.json("keys", "create", "--role", "read", "--customer", "acme", "--name", "portal")
    assert created["key"].startswith(f"mk_{created['key_id']}_")
    printed = metering("keys", "create", "--role", "ingest", "--source", "/gateways/eu-1")
    assert printed.stdout.startswith("mk_")
    rotated = metering.json("keys", "rotate", created["key_id"], "--overlap-hours", "2")
    assert rotated["key"] != created["key"]
    metering("keys", "revoke", created["key_id"])
    first, second = metering.json("keys", "list")
    assert (first["state"], first["customer_id"], first["name"]) == ("revoked", "acme", "portal")
    assert (second["state"], second["source"]) == ("active", "/gateways/eu-1")


def test_a_custom_key_lists_its_scopes_and_may_end(metering: CommandLine) -> None:
    terms = ("--role", "custom", "--scope", "totals:read", "--scope", "rates:read", "--expires", "2999-01-31")
    metering("keys", "create", *terms)
    (key,) = metering.json("keys", "list")
    assert (key["scopes"], key["expires_at"]) == ("rates:read totals:read", "2999-01-31T00:00:00+00:00")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--role", "admin", "--customer", "acme"), "customer: a key with role admin"),
        (("create", "--role", "read", "--scope", "totals:read"), "use role custom"),
        (("create", "--role", "read", "--expires", "2020-01-01"), "expires_at: expected a time that is ahead"),
        (("rotate", "nobody"), "no key has the id 'nobody'"),
        (("revoke", "nobody"), "no key has the id 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    metering: CommandLine, arguments: tuple[str, ...], says: str
) -> None:
    ended = metering("keys", *arguments, exits=1)
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


# Each command that changes something, and what the log calls it.
CHANGES = {
    ("customers", "set", "acme", "--name", "Acme"): ("customer create", "acme"),
    ("customers", "markup", "acme", "20"): ("markup set", "acme"),
    ("cancel-policy", "set", "house", "zero"): ("cancel_policy set", "house"),
    ("upstream-price", "set", "house", "accept"): ("upstream_price set", "house"),
    ("rates", "set", "house", "m", "input=5"): ("rate set", None),
    ("rates", "import", "--approve", "--provider", "deepseek"): ("catalogue import", None),
    ("webhooks", "create", "https://hooks.example.com/m"): ("webhook_endpoint create", None),
    ("alerts", "create", "backlog_age", "--deployment", "--threshold", "4"): ("alert create", None),
    ("keys", "create", "--role", "admin"): ("key create", None),
}


@pytest.mark.parametrize("arguments", CHANGES, ids=lambda arguments: " ".join(arguments[:2]))
def test_a_change_is_logged_with_the_operator_and_the_machine(
    metering: CommandLine, arguments: tuple[str, ...]
) -> None:
    what, subject = CHANGES[arguments]
    metering(*arguments)
    row = metering.json("audit-log", "list", "--limit", "1")[0]
    assert row["what"] == what
    assert subject in (None, row["subject"])
    assert row["actor"] == f"the command line, {getpass.getuser()}"
    assert (row["door"], row["from"]) == ("cli", socket.gethostname())
    assert "difference" not in metering("audit").stdout


def test_the_log_is_exported_whole_and_in_order(metering: CommandLine, tmp_path: Path) -> None:
    for number in range(3):
        metering("customers", "set", f"c{number}", "--name", "=cmd()")
    written = tmp_path / "log.csv"
    metering("audit-log", "export", str(written), "--kind", "customer")
    rows = list(csv.DictReader(written.read_text().splitlines()))
    assert [row["subject"] for row in rows] == ["c0", "c1", "c2"]
    assert rows[0]["after"] == '{"name":"=cmd()","stripe_customer_id":null,"time_zone":"UTC"}'
    table = tmp_path / "log.parquet"
    metering("audit-log", "export", str(table), "--format", "parquet")
    found = pyarrow.parquet.read_table(table)
    assert found.num_rows == len(metering.json("audit-log", "list"))
    assert found["audit_id"].to_pylist() == [1, 2, 3]
    assert found["row_hash"].to_pylist()[0] == metering.json("audit-log", "list")[-1]["row_hash"]
