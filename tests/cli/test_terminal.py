"""What a person sees in a terminal of 80 columns, and what a pipe gets."""

import os
import re
import sys

import pytest

from tests.builders import Months, end, start
from tests.command_line import CommandLine
from tests.database import Database
from tests.local_stripe import KEY
from tests.terminal import Seen, in_terminal

pytestmark = pytest.mark.long

# As gateways make them.
STREAM = "3214be19-1e3e-4edf-981f-ca02f5fc3b0d"
HOSTILE = "acme\x1b[2J"


@pytest.fixture
def metering(months: Months, rated_database: Database) -> CommandLine:
    """With a closed and pushed month of two customers, one of which could clear the screen."""
    months.receive([start(STREAM), end(STREAM)])
    months.finalize()
    for customer_id in ("acme-of-a-rather-long-name", HOSTILE):
        months.use(customer_id)
        months.link(customer_id)
    made = CommandLine(
        rated_database,
        METERING_ENVIRONMENT="tests",
        METERING_STRIPE_API_BASE=months.stripe.url,
        STRIPE_API_KEY=KEY,
    )
    made.run("invoices", "run", "--period", "2026-11", "--as-of", "2026-12-03")
    return made


def seen(metering: CommandLine, *arguments: str, columns: int = 80, **environment: str) -> Seen:
    command = [sys.executable, "-m", "metering", *arguments]
    ours = {name: value for name, value in metering.environment.items() if name != "NO_COLOR"}
    return in_terminal(command, columns=columns, environment={**ours, **environment})


LISTS = [
    ("invoices", "list"),
    ("customers", "list"),
    ("keys", "list"),
    ("streams", "list", "--period", "2026-11"),
    ("totals", "--period", "2026-11"),
    ("rates", "list", "--model", "gpt-5.5-pro"),
    ("audit-log", "list"),
    ("doctor",),
    ("invoices", "show", "2026-11-000001"),
]


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_folded_and_no_number_or_id_is_broken(metering: CommandLine, columns: int) -> None:
    metering("keys", "create", "--role", "read", "--name", "a key of the finance people's portal")
    for arguments in LISTS:
        shown = seen(metering, *arguments, columns=columns)
        assert shown.exit_code in (0, 1), shown.text  # doctor: no worker runs here
        for line in shown.lines:
            # One long word, such as a URL, is left to the terminal, which copies it in one piece.
            one_word = max(map(len, line.split()), default=0) > columns - 24
            assert len(line) <= columns or one_word or line.startswith("not shown"), (arguments, line)
        assert "\x1b[2J" not in shown.raw
    (key,) = metering.json("keys", "list")
    words = seen(metering, "keys", "list", columns=columns).text.split()
    assert key["key_id"] in words
    assert STREAM in seen(metering, "streams", "list", "--period", "2026-11", columns=columns).text.split()


def test_people_see_dollars_words_and_minutes_and_scripts_cents_and_names(metering: CommandLine) -> None:
    shown = seen(metering, "invoices", "list", columns=200)
    heading, *rows = shown.lines
    assert heading.split("  ")[0] == "Number"
    assert {"Billed", "Exact", "Carried to next"} <= set(re.split(r" {2,}", heading))
    assert {"$1.00406", "$1.00", "$0.00406"} <= set(rows[0].split())
    first = metering.json("invoices", "list")[0]
    assert (first["billed_cents"], first["usd_cents"]) == (100, "100.406")
    row = seen(metering, "streams", "list", "--period", "2026-11", columns=200).text
    assert re.search(r"2026-11-\d\d \d\d:\d\d  ", row)
    assert "T15:" not in row
    assert "$0.004985" in row


def test_amounts_stand_with_their_points_below_each_other(metering: CommandLine) -> None:
    shown = seen(metering, "streams", "list", "--period", "2026-11")
    amounts = [line for line in shown.lines if "$" in line]
    assert len({line.index("$") + line[line.index("$") :].index(".") for line in amounts}) == 1
    assert len(amounts) > 1


def test_what_is_left_out_is_named_and_a_pipe_gets_all_of_it(metering: CommandLine) -> None:
    narrow = seen(metering, "invoices", "list", columns=70)
    assert "not shown at 70 columns: " in narrow.text
    assert "Carried to next" in narrow.text
    assert "Number" in narrow.lines[0]
    piped = metering("invoices", "list")
    assert "Carried to next" in piped.stdout.splitlines()[0]
    assert (piped.stderr, "\x1b" in piped.stdout) == ("", False)


def test_a_terminal_too_narrow_for_a_table_gets_a_block_for_each_row(metering: CommandLine) -> None:
    shown = seen(metering, "invoices", "list", columns=30)
    numbers = [line.split()[-1] for line in shown.lines if line.startswith("Number ")]
    assert len(numbers) == len(metering.json("invoices", "list"))
    assert "2026-11-000001" in numbers


def test_states_have_colours_unless_they_are_not_wanted(metering: CommandLine) -> None:
    assert "\x1b[32mfinal" in seen(metering, "invoices", "list").raw
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = {**environment}
        command = [sys.executable, "-m", "metering", "invoices", "list"]
        if "TERM" in plain:
            # The terminal sets its own: a program is told otherwise by its shell.
            command = ["env", f"TERM={plain.pop('TERM')}", *command]
        shown = in_terminal(command, columns=80, environment={**metering.environment, **plain})
        assert "\x1b[3" not in shown.raw
        assert "final" in shown.text


def test_what_customers_are_called_is_no_command_for_the_terminal(metering: CommandLine) -> None:
    assert "\x1b[2J" not in seen(metering, "customers", "list").raw
    assert "acme\\x1b[2J" in metering("customers", "list").stdout
    assert HOSTILE in {row["customer_id"] for row in metering.json("customers", "list")}


# A program that tells when our own modules begin to be imported, which takes the longest part of a start.
TELLING = """
import sys

class Told:
    def find_spec(self, name, *_):
        if name == "metering.cli.registry":
            print("importing", flush=True)

sys.meta_path.insert(0, Told())
from metering.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "arguments", [("audit",), ("reconcile",), ("demo",), ("up", "--ephemeral", "--port", "0")]
)
def test_ctrl_c_while_a_command_starts_ends_it_with_one_word(
    database: Database, arguments: tuple[str, ...]
) -> None:
    command = [sys.executable, "-c", TELLING, *arguments]
    environment = {**os.environ, **CommandLine(database).settings}
    shown = in_terminal(command, columns=80, environment=environment, interrupt_at="importing")
    assert shown.exit_code == 130, shown.text
    assert "Traceback" not in shown.text
    assert shown.lines[-1].endswith("metering: stopped")


def test_ctrl_c_in_the_middle_of_the_demo_says_so() -> None:
    command = [sys.executable, "-m", "metering", "demo"]
    shown = in_terminal(command, columns=80, environment=dict(os.environ), interrupt_at="starting a gateway")
    assert shown.exit_code == 130, shown.text
    assert "Traceback" not in shown.text
    assert shown.lines[-1].endswith("metering: stopped")
