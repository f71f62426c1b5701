"""Alerts in running workers: found and told also without a broker, and told again when one dies in between."""

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from standardwebhooks import Webhook

from metering.alerts.alerts import AlertKind
from metering.budgets.admission import BudgetExhaustedError
from metering.core.clock import utc_now
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from tests.alerts.receivers import Receiver
from tests.alerts.watched import Watched
from tests.builders.budgets import Purse, asked
from tests.credits.scenes import give
from tests.database import Database
from tests.waiting import eventually

pytestmark = pytest.mark.long

NOWHERE = "unix:///nonexistent/valkey.sock"


def environment(database: Database, redis_url: str) -> dict[str, str]:
    return {
        "METERING_DATABASE_URL": database.url,
        "METERING_REDIS_URL": redis_url,
        "METERING_WEBHOOKS_ALLOW_PRIVATE": "true",
        "METERING_ALERTS_EVERY": "500ms",
    }


def part(name: str, database: Database, redis_url: str) -> ChildSpec:
    argv = [sys.executable, "-m", "metering", name]
    return ChildSpec(name=name, argv=argv, env=environment(database, redis_url))


def test_workers_and_beats_fire_each_threshold_once_also_without_a_broker(
    watched: Watched, rated_database: Database, receiver: Receiver
) -> None:
    _, secret = watched.endpoint(receiver.url)
    for number in range(10):
        watched.use(f"c{number}", Decimal(10), utc_now())
    watched.alert(AlertKind.SPEND, 50, 100, budget_usd_cents=10)
    redis_url = rated_database.redis_url
    parts = [("worker", redis_url), ("worker", NOWHERE), ("beat", redis_url), ("beat", redis_url)]
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([part(name, rated_database, url) for name, url in parts])
        assert eventually(lambda: len(receiver.received) == 20)
        watched.use("another", Decimal(10), utc_now())
        assert eventually(lambda: len(receiver.received) == 22)
        states = "SELECT state, count(*) FROM webhook_deliveries GROUP BY 1"
        assert eventually(lambda: watched.rows(states) == [("delivered", 22)])
        assert supervisor.restarts_of("worker") == 0
    assert len(set(receiver.message_ids())) == 22
    for request in receiver.received:
        Webhook(secret).verify(request.body, dict(request.headers))


def test_a_worker_tells_of_budgets_balances_and_refused_holds(
    watched: Watched, rated_database: Database, receiver: Receiver
) -> None:
    watched.endpoint(receiver.url)
    now, purse = utc_now(), Purse(watched.service)
    give(watched, "10", at=now)
    purse.set("b", "10", now=now)
    watched.use("acme", Decimal(10), now)
    # In a minute that is over.
    assert isinstance(purse.ask(asked("refused"), now=now - timedelta(minutes=2))[0], BudgetExhaustedError)
    watched.alert(AlertKind.BUDGET, 100, customer_id="acme")
    watched.alert(AlertKind.BALANCE_BELOW, 0, customer_id="acme")
    told = {"alert.budget", "alert.balance_below", "budget.exhausted", "hold.refused"}
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([part("worker", rated_database, NOWHERE)])
        assert eventually(lambda: len(receiver.received) == len(told))
        states = "SELECT state, count(*) FROM webhook_deliveries GROUP BY 1"
        assert eventually(lambda: watched.rows(states) == [("delivered", len(told))])
        assert supervisor.restarts_of("worker") == 0
    assert {json.loads(request.body)["type"] for request in receiver.received} == told


def test_a_worker_that_dies_between_sending_and_recording_is_followed_by_one_that_sends_the_same_again(
    watched: Watched, rated_database: Database, receiver: Receiver
) -> None:
    watched.endpoint(receiver.url)
    watched.use("acme", Decimal(10), utc_now())
    watched.alert(AlertKind.SPEND, 100, budget_usd_cents=10)
    receiver.hold.clear()
    argv = [sys.executable, "-m", "metering", "worker"]
    given = {**os.environ, **environment(rated_database, NOWHERE)}
    worker = subprocess.Popen(argv, env=given, stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: len(receiver.received) == 1)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    receiver.hold.set()
    assert watched.rows("SELECT state, attempts FROM webhook_deliveries") == [("pending", 1)]
    with psycopg.connect(rated_database.url) as connection:
        # What the killed one held is free a minute and a half later.
        connection.execute("UPDATE webhook_deliveries SET lease_until = %s", (utc_now() - timedelta(seconds=1),))
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([part("worker", rated_database, NOWHERE)])
        assert eventually(lambda: len(receiver.received) == 2)
        state = "SELECT state, attempts FROM webhook_deliveries"
        assert eventually(lambda: watched.rows(state) == [("delivered", 2)])
    first, second = receiver.received
    assert (first.message_id, first.body) == (second.message_id, second.body)
    assert len(watched.occurrences()) == 1
