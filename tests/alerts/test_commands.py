"""`metering alerts` and `metering webhooks` as a person or a script runs them."""

from decimal import Decimal

import pytest
from standardwebhooks import Webhook

from metering.alerts.alerts import AlertKind
from tests.alerts.receivers import Receiver
from tests.alerts.watched import NOW, Watched
from tests.builders.budgets import Purse
from tests.command_line import CommandLine
from tests.credits.scenes import give
from tests.database import Database


@pytest.fixture
def metering(rated_database: Database) -> CommandLine:
    return CommandLine(rated_database, METERING_WEBHOOKS_ALLOW_PRIVATE="true")


def test_alerts_are_created_listed_changed_and_deleted(watched: Watched, metering: CommandLine) -> None:
    watched.use("acme", Decimal(90), NOW)
    assert "no alerts" in metering("alerts", "list").stdout
    thresholds = ("--threshold", "50", "--threshold", "80")
    made = metering.json(
        "alerts", "create", "spend", "--customer", "acme", *thresholds, "--budget-cents", "100", "--name", "Budget"
    )
    assert (made["of"], made["thresholds"], made["budget_usd_cents"]) == ("acme", "50, 80", "100")
    watched.evaluate(AlertKind.SPEND)
    occurred = metering.json("alerts", "occurrences", "--customer", "acme")
    assert {(each["threshold"], each["value"], each["name"]) for each in occurred} == {
        ("50", "90", "Budget"),
        ("80", "90", "Budget"),
    }
    changed = metering.json("alerts", "set", made["alert_id"], "--threshold", "95", "--disable")
    assert (changed["thresholds"], changed["enabled"]) == ("95", False)
    assert [each["alert_id"] for each in metering.json("alerts", "list")] == [made["alert_id"]]
    metering("alerts", "delete", made["alert_id"])
    assert metering.json("alerts", "list") == []
    change = ("--threshold", "-50", "--threshold", "100", "--floor-cents", "1000", "--deployment")
    assert metering.json("alerts", "create", "daily_change", *change)["trailing_days"] == 7


def test_alerts_about_budgets_and_balances_are_created_and_what_fired_is_listed(
    watched: Watched, metering: CommandLine
) -> None:
    watched.customer("acme")
    give(watched, "10", at=NOW)
    Purse(watched.service).set("acme-monthly", "20")
    made = metering.json("alerts", "create", "budget", "--customer", "acme", "--threshold", "50")
    assert (made["name"], made["thresholds"], made["unit"]) == ("budget", "50", "percent_of_limit")
    made = metering.json("alerts", "create", "balance_below", "--threshold", "5", "--threshold", "0")
    assert (made["of"], made["unit"]) == ("each_customer", "usd_cents")
    watched.use("acme", Decimal(10), NOW)
    watched.evaluate(AlertKind.BUDGET)
    watched.evaluate(AlertKind.BALANCE_BELOW)
    occurred = metering.json("alerts", "occurrences", "--customer", "acme")
    assert {(each["kind"], each["window"], each["threshold"], each["value"]) for each in occurred} == {
        ("budget", "acme-monthly/2026-11-01T00:00Z/20", "50", "50"),
        ("balance_below", "grants/1", "5", "0"),
        ("balance_below", "grants/1", "0", "0"),
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("alerts", "create", "drift"), "thresholds: expected 1 to 10 values, got 0"),
        (("alerts", "create", "drift", "--threshold", "many"), "--threshold: expected a number in plain digits"),
        (("alerts", "create", "drift", "--threshold", "1", "--customer", "x"), "there is no customer 'x'"),
        (("alerts", "create", "drift", "--threshold", "1", "--name", "n" * 257), "name: expected 1 to 256"),
        (
            ("alerts", "create", "balance_below", "--threshold", "1", "--deployment"),
            "scope: expected customer or each_customer for kind balance_below",
        ),
        (("alerts", "delete", "alr_none"), "there is no alert 'alr_none'"),
        (("webhooks", "create", "ftp://hooks.example.com"), "url: expected https://"),
        (("webhooks", "test", "whe_none"), "there is no webhook endpoint 'whe_none'"),
        (("webhooks", "replay", "whd_none"), "there is no webhook delivery 'whd_none'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    metering: CommandLine, arguments: tuple[str, ...], says: str
) -> None:
    ended = metering(*arguments, exits=1)
    assert ended.stderr.startswith("metering: ")
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_endpoint_is_created_tested_rotated_and_sent_again(
    watched: Watched, metering: CommandLine, receiver: Receiver
) -> None:
    made = metering.json("webhooks", "create", receiver.url, "--type", "alert.spend")
    endpoint_id = made["endpoint_id"]
    (listed,) = metering.json("webhooks", "list")
    assert (listed["types"], listed["enabled"], "secret" in listed) == ("alert.spend", True, False)
    assert metering.json("webhooks", "test", endpoint_id)["state"] == "delivered"
    rotated = metering("webhooks", "rotate", endpoint_id, "--overlap-hours", "0").stdout.strip()
    receiver.answer(500)
    assert metering.json("webhooks", "test", endpoint_id, exits=1)["problem"] == "answered 500"
    Webhook(rotated).verify(receiver.received[-1].body, dict(receiver.received[-1].headers))
    watched.use("acme", Decimal(10), NOW)
    watched.alert(AlertKind.SPEND, 100, budget_usd_cents=10)
    watched.evaluate(AlertKind.SPEND)
    watched.execute("UPDATE webhook_deliveries SET state = 'failed', due_at = NULL WHERE type = 'alert.spend'")
    (failed,) = [each for each in metering.json("webhooks", "log", "--state", "failed") if each["customer_id"]]
    assert "will be sent again" in metering("webhooks", "replay", failed["delivery_id"]).stderr
    watched.execute("UPDATE webhook_deliveries SET state = 'failed', due_at = NULL WHERE type = 'alert.spend'")
    since = ("--since", "2026-11-20")
    assert (
        "1 messages will be sent again" in metering("webhooks", "replay", "--endpoint", endpoint_id, *since).stderr
    )
    metering("webhooks", "replay", exits=2)
    assert metering.json("webhooks", "set", endpoint_id, "--all-types", "--disable")["types"] == "all"
    metering("webhooks", "delete", endpoint_id)
    assert metering.json("webhooks", "list") == []
