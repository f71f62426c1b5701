"""Commands that read: streams, totals, customers, drift; and their honest sentences where there is nothing."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metering.core.clock import utc_now
from tests.builders import Months, end, start
from tests.builders.events import NOW, delivered
from tests.command_line import CommandLine
from tests.database import Database
from tests.local_stripe import KEY


@pytest.fixture
def metering(months: Months, rated_database: Database) -> CommandLine:
    months.receive([start("s-1"), end("s-1")])
    months.receive([start("s-2", model="nobody-knows"), end("s-2")])
    months.finalize()
    return CommandLine(
        rated_database,
        METERING_ENVIRONMENT="tests",
        METERING_STRIPE_API_BASE=months.stripe.url,
        STRIPE_API_KEY=KEY,
    )


AHEAD = f"{utc_now() + timedelta(days=70):%Y-%m}"


def test_a_stream_is_found_shown_and_its_receipt_verified(metering: CommandLine, tmp_path: Path) -> None:
    (found,) = metering.json("streams", "list", "--period", "2026-11")
    assert (found["customer_id"], found["stream_id"], found["cost_usd_cents"]) == ("acme", "s-1", "0.4985")
    shown = metering.json("streams", "show", "acme", "s-1")
    assert (shown["state"], shown["cost_usd_cents"], shown["output_tokens"]) == ("finalized", "0.4985", 37)
    assert [line["usd_cents"] for line in shown["lines"]] == ["0.406", "0.0925"]
    assert [booking["what"] for booking in shown["bookings"]] == ["charge"]
    text = metering("streams", "show", "acme", "s-1").stdout
    assert "$0.004985" in text
    receipt = tmp_path / "receipt.json"
    metering("streams", "receipt", "acme", "s-1", "--out", str(receipt))
    assert json.loads(receipt.read_text()) | {"issued_at": None} == metering.json(
        "streams", "receipt", "acme", "s-1"
    ) | {"issued_at": None}
    assert "Stream   s-1" in metering("streams", "receipt", "acme", "s-1").stdout
    for arguments in ((str(receipt),), ("acme", "s-1")):
        checks = metering.json("verify", *arguments)
        assert {check["result"] for check in checks} == {"ok"}
        assert len(checks) == 6


def test_a_stream_that_waits_is_shown_without_a_cost(metering: CommandLine) -> None:
    shown = metering.json("streams", "show", "acme", "s-2")
    assert (shown["state"], shown["cost_usd_cents"], shown["lines"]) == ("unpriced", None, [])
    assert "Final" not in metering("streams", "show", "acme", "s-2").stdout


def test_a_stream_in_progress_has_no_outcome_and_no_end(metering: CommandLine, months: Months) -> None:
    months.receive([start("s-3")])
    shown = metering.json("streams", "show", "acme", "s-3")
    assert (shown["state"], shown["outcome"], shown["ended_at"]) == ("open", None, None)
    assert shown["accrued_usd_cents"] is not None


def test_streams_in_progress_are_listed_with_what_they_cost_so_far(metering: CommandLine, months: Months) -> None:
    months.receive([start("s-3"), delivered("s-3")])
    (found,) = metering.json("streams", "list", "--in-progress", "--model", "claude-opus-4.7")
    assert (found["stream_id"], found["state"], found["accrued_usd_cents"]) == ("s-3", "open", "0.456")
    assert metering.json("streams", "list", "--in-progress", "--model", "gpt-5.5") == []
    refused = metering("streams", "list", "--in-progress", "--period", "2026-11", exits=2)
    assert "no end yet" in refused.stderr


def test_a_changed_receipt_is_explained_in_figures(metering: CommandLine, tmp_path: Path) -> None:
    document = metering.json("streams", "receipt", "acme", "s-1")
    document["bill"]["lines"][1]["quantity"] = 36
    changed = tmp_path / "receipt.json"
    changed.write_text(json.dumps(document))
    said = metering("verify", str(changed), exits=2).stdout
    assert "output: 37 x $25/M = 0.0925 cents, the receipt says 36 x $25/M = 0.0925 cents" in said
    assert "ChargeLine" not in said
    assert "UsageKind" not in said
    document["bill"]["usage"]["output_tokens"] = 36
    changed.write_text(json.dumps(document))
    said = metering("verify", str(changed), exits=2).stdout
    assert (
        "usage: billed input_tokens 812, output_tokens 36, the events say input_tokens 812, output_tokens 37"
        in said
    )


def test_totals_are_those_of_a_month_by_what_is_asked(metering: CommandLine) -> None:
    (row,) = metering.json("totals", "--period", "2026-11")
    assert (row["customer_id"], row["stream_count"], row["cost_usd_cents"]) == ("acme", 1, "0.4985")
    by_model = metering.json("totals", "--period", "2026-11", "--by", "model", "--granularity", "day")
    assert [(each["start"][:10], each["model"]) for each in by_model] == [(f"{NOW:%Y-%m-%d}", "claude-opus-4.7")]
    assert metering.json("totals", "--from", "2026-11-01", "--to", "2026-12-01") == [row]
    assert metering.json("totals", "--period", "2026-11", "--time-zone", "Asia/Tokyo") == [row]
    assert "billing month 2026-11" in metering("totals", "--period", "2026-11").stderr
    assert (
        "2026-11-01 to 2026-12-01, Asia/Tokyo"
        in metering("totals", "--period", "2026-11", "--time-zone", "Asia/Tokyo").stderr
    )


def test_a_month_is_the_one_of_the_invoice_in_each_customers_time_zone(
    metering: CommandLine, months: Months
) -> None:
    # On the first of December in UTC, and still in November in Honolulu.
    metering("customers", "set", "far", "--time-zone", "Pacific/Honolulu")
    months.use("far", at=datetime(2026, 12, 1, 2, tzinfo=UTC))
    totals = {row["customer_id"]: row["cost_usd_cents"] for row in metering.json("totals", "--period", "2026-11")}
    assert totals == {"acme": "0.4985", "far": "100.406"}
    (only,) = metering.json("totals", "--period", "2026-11", "--customer", "far")
    assert only["cost_usd_cents"] == "100.406"
    in_utc = metering.json("totals", "--period", "2026-11", "--time-zone", "UTC")
    assert [row["customer_id"] for row in in_utc] == ["acme"]


def test_a_customer_is_shown_with_what_belongs_to_it(metering: CommandLine, months: Months) -> None:
    months.use("other")
    months.link("other")
    metering.run("invoices", "run", "--period", "2026-11", "--as-of", "2026-12-03")
    metering("customers", "markup", "other", "--percent", "-10")
    shown = metering.json("customers", "show", "other")
    assert (shown["customer_id"], shown["markups"][0]["percent"]) == ("other", "-10")
    assert [invoice["billed_cents"] for invoice in shown["invoices"]] == [100]
    assert metering.json("customers", "show", "acme")["backlog_streams"] == 1
    assert "did you mean 'acme'?" in metering("customers", "show", "amce", exits=1).stderr


def test_drift_is_listed_with_its_repair(metering: CommandLine, months: Months) -> None:
    assert "nothing was compared with Stripe yet" in metering("drift", "list").stdout
    months.use("other")
    months.link("other")
    metering.run("invoices", "run", "--period", "2026-11", "--as-of", "2026-12-03")
    metering("reconcile")
    assert metering("drift", "list").stdout == "no reconciliation found a difference\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("reconcile", "--period", "2026-07"), "there are no invoices of 2026-07: nothing was compared"),
        (("invoices", "list", "--customer", "nobody"), "no invoices match"),
        (("backlog", "list", "--customer", "nobody"), "no stream of the backlog matches"),
        (("streams", "list", "--period", "2026-10"), "no final stream ended from 2026-10-01"),
        (("alerts", "list", "--customer", "nobody"), "no alerts match"),
        (("cancel-policy", "list", "--provider", "openai"), "no policy is set for openai"),
        (("adjustments", "list", "--customer", "nobody"), "no credits or corrections match"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_nothing_found_is_said_as_it_is(metering: CommandLine, arguments: tuple[str, ...], says: str) -> None:
    assert says in metering(*arguments).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("reconcile",),
        ("audit",),
        ("export", "charges", "--out", "{folder}/charges.csv"),
        ("invoices", "list"),
        ("invoices", "run", "--dry-run"),
        ("rerate", "--dry-run"),
        ("cancel-policy", "simulate", "zero"),
        ("rates", "diff"),
    ],
    ids=" ".join,
)
def test_a_month_ahead_is_refused_and_leaves_nothing(
    metering: CommandLine, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    given = [each.format(folder=tmp_path) for each in arguments]
    refused = metering(*given, "--period", AHEAD, exits=1)
    assert refused.stderr.splitlines()[-1] == f"metering: {AHEAD} has not begun"
    assert refused.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_export_without_rows_says_so(metering: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "charges.csv"
    assert (
        "2026-07 has no charges" in metering("export", "charges", "--period", "2026-07", "--out", str(out)).stderr
    )
    assert len(out.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (("invoices", "list", "--state", "foo"), "stuck"),
        (("backlog", "list", "--state", "finalized"), "conflicting"),
        (("streams", "list", "--outcome", "gone"), "timed_out"),
        (("totals", "--by", "mood"), "usage_source"),
    ],
)
def test_a_value_that_does_not_exist_is_refused_with_those_that_do(
    metering: CommandLine, arguments: tuple[str, ...], known: str
) -> None:
    assert known in metering(*arguments, exits=2).stderr
