"""/metrics: each number follows its fact, none tells of anybody, and a part that is down is missed alone."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from redis import Redis

from metering.alerts.store.endpoints import EndpointState
from metering.api.metrics import KEEP_SECONDS, build_work_collector
from metering.core.clock import utc_now
from metering.customers.queries.time_zones import count_overdue_customers
from metering.db.engine import service_engine, transaction
from metering.events.events import Inlet
from metering.exports.export_month import ExportFormat, ExportKind
from metering.ledger.store.rollups import roll_up_totals
from metering.server.bootstrap import Service
from metering.server.store import WorkDone, write_heartbeat
from metering.streams.bill import Flag
from metering.streams.ingest.nudge import QUEUE
from metering.streams.settlement import State
from metering.stripe.drift import DriftClass
from metering.stripe.push import PushState
from tests.builders.posted import end, start
from tests.database import Database
from tests.metrics import Scrape, let_everything_have_happened, scrape_work
from tests.running_api import Api, signed_in

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
NOWHERE = "unix:///nonexistent/valkey.sock"
PARTS = {"streams", "totals", "workers", "months", "pushes", "drift", "alerts", "rates", "budgets"}
HOLD_REASONS = {"budget_exhausted", "price_unknown", "output_unknown", "hold_differs", "stream_final", "other"}
OUTSIDE = "<script>planted"


def scrape(api: Api) -> Scrape:
    answer = api.client.get("/metrics")
    assert answer.status_code == 200
    return Scrape(answer.text)


def test_ingest_is_counted_and_timed(api: Api) -> None:
    before = scrape(api)
    api.post([start(), end()])
    api.post([start("two"), {"specversion": "1.0"}])
    after = scrape(api)
    changes = {
        name: after(name) - before(name)
        for name in (
            "metering_events_accepted_total",
            "metering_events_rejected_total",
            "metering_ingest_commits_total",
            "metering_ingest_commit_seconds_count",
            "metering_ingest_queue_full_total",
            "metering_ingest_not_committed_total",
        )
    }
    assert list(changes.values()) == [3, 1, 2, 2, 0, 0]
    assert after("metering_ingest_commit_seconds_sum") > before("metering_ingest_commit_seconds_sum")
    assert after("metering_ingest_queued_events") == 0


def test_a_commit_that_fails_is_counted(api: Api, rated_database: Database) -> None:
    before = scrape(api)
    with psycopg.connect(rated_database.url, autocommit=True) as connection:
        connection.execute("REVOKE INSERT ON journal FROM metering_service")
    assert api.post([start()]).status_code == 503
    assert scrape(api)("metering_ingest_not_committed_total") == before("metering_ingest_not_committed_total") + 1


def test_due_and_stuck_streams_are_counted_by_state(api: Api) -> None:
    api.post([start("open"), start("due"), end("due"), end("orphan"), start("no-rate", model="x"), end("no-rate")])
    before = scrape_work(api.service)
    assert before("metering_streams_due") == 3
    assert before("metering_oldest_due_seconds") > 0
    assert before.not_zero("metering_streams_not_final") == {"open": 1, "ended": 3}
    api.finalize()
    with transaction(api.service.engine) as connection:
        connection.exec_driver_sql("UPDATE streams SET last_received_at = now() - interval '1 h', due_at = now()")
    api.finalize()
    after = scrape_work(api.service)
    assert after.not_zero("metering_streams_not_final") == {"orphaned": 1, "unpriced": 1}
    assert {labels[0][1] for name, labels in after.samples if name == "metering_streams_not_final"} == {
        state.value for state in State if state is not State.FINALIZED
    }


def test_totals_are_fresh_from_the_moment_they_are_rolled_up(api: Api) -> None:
    api.post([start(), end()])
    api.finalize()
    before = scrape_work(api.service)
    assert before("metering_totals_pending") == 1
    assert "metering_totals_rolled_up_seconds" not in before
    roll_up_totals(api.service.engine)
    after = scrape_work(api.service)
    assert after("metering_totals_pending") == 0
    assert after("metering_totals_rolled_up_seconds") < 60
    with transaction(api.service.engine) as connection:
        connection.exec_driver_sql("UPDATE totals_rolled_up SET rolled_up_at = now() - interval '1 h'")
    assert scrape_work(api.service)("metering_totals_rolled_up_seconds") >= 3600
    roll_up_totals(api.service.engine)
    assert scrape_work(api.service)("metering_totals_rolled_up_seconds") < 60


def tell(service: Service, worker_id: str, *, ago: timedelta = timedelta(0), streams: int = 0) -> None:
    now = utc_now() - ago
    done = WorkDone(batches=1, streams=streams, batch_time=timedelta(seconds=2)) if streams else WorkDone()
    with transaction(service.engine) as connection:
        write_heartbeat(connection, worker_id=worker_id, host="h", started_at=now, now=now, done=done)


def work(service: Service) -> tuple[float, ...]:
    found = scrape_work(service)
    names = ("streams_finalized_total", "finalize_batches_total", "finalize_seconds_total")
    return (found("metering_workers"), *(found(f"metering_{name}") for name in names))


def test_workers_with_a_heartbeat_are_alive_and_their_work_is_summed(service: Service) -> None:
    assert "metering_workers_seen_seconds" not in scrape_work(service)
    assert work(service) == (0, 0, 0, 0)
    tell(service, "a", streams=5)
    tell(service, "a", streams=7)
    tell(service, "b")
    assert work(service) == (2, 12, 2, 4)
    assert scrape_work(service)("metering_workers_seen_seconds") < 60


def test_what_workers_did_stays_counted_when_they_are_gone_and_their_rows_are_few(service: Service) -> None:
    hour = timedelta(hours=1)
    for number in range(30):
        tell(service, f"gone-{number}", ago=hour + timedelta(minutes=number), streams=1)
    tell(service, "silent", ago=timedelta(minutes=2), streams=1)
    assert work(service) == (0, 31, 31, 62)
    assert 119 <= scrape_work(service)("metering_workers_seen_seconds") < 180
    tell(service, "a", streams=1)
    tell(service, "gone-0", streams=1)  # it was only asleep
    assert work(service) == (2, 33, 33, 66)
    with transaction(service.engine) as connection:
        rows = (
            connection.exec_driver_sql("SELECT worker_id FROM worker_heartbeats ORDER BY worker_id")
            .scalars()
            .all()
        )
    assert rows == ["a", "gone", "gone-0", "silent"]


MONTH_END = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time_zone", "closed_through", "created_at", "until", "overdue"),
    [
        ("UTC", "", "2026-10-05", MONTH_END, 1),
        ("UTC", "2026-09", "2026-01-05", MONTH_END, 1),
        ("UTC", "2026-10", "2026-01-05", MONTH_END, 0),
        ("UTC", "2026-11", "2026-01-05", MONTH_END, 0),
        ("UTC", "2026-09", "2026-01-05", MONTH_END - timedelta(microseconds=1), 0),
        ("UTC", "2026-08", "2026-01-05", MONTH_END - timedelta(microseconds=1), 1),
        ("UTC", "", "2026-11-02", MONTH_END + timedelta(days=9), 0),
        ("Pacific/Kiritimati", "2026-09", "2026-01-05", MONTH_END - timedelta(hours=14), 1),
        ("Pacific/Kiritimati", "2026-09", "2026-01-05", MONTH_END - timedelta(hours=14, seconds=1), 0),
        ("America/Los_Angeles", "2026-09", "2026-01-05", MONTH_END + timedelta(hours=6), 0),
        ("America/Los_Angeles", "2026-09", "2026-01-05", MONTH_END + timedelta(hours=7), 1),
    ],
)
def test_a_customer_whose_month_is_open_after_its_end_is_overdue(
    service: Service, time_zone: str, closed_through: str, created_at: str, until: datetime, overdue: int
) -> None:
    with transaction(service.engine) as connection:
        connection.exec_driver_sql(
            "INSERT INTO customers (customer_id, time_zone, closed_through, created_at) VALUES ('c', %s, %s, %s)",
            (time_zone, closed_through, created_at),
        )
        assert count_overdue_customers(connection, until=until) == overdue


def test_customers_are_overdue_when_the_grace_is_over(database: Database, service: Service) -> None:
    with transaction(service.engine) as connection:
        connection.exec_driver_sql("INSERT INTO customers (customer_id, created_at) VALUES ('c', '2020-01-01')")
    assert scrape_work(service)("metering_customers_overdue") == 1
    with database.service(close_grace=timedelta(days=365 * 30)) as patient:
        assert scrape_work(patient)("metering_customers_overdue") == 0


def test_messages_in_the_queue_are_counted(service: Service, database: Database) -> None:
    with Redis.from_url(database.redis_url) as redis:
        redis.delete(QUEUE)
        redis.lpush(QUEUE, "{}", "{}", "{}")
        found = scrape_work(service)
        redis.delete(QUEUE)
    assert (found("metering_queue_up"), found("metering_queue_messages")) == (1, 3)


@pytest.fixture
def without_valkey(rated_database: Database) -> Iterator[Api]:
    with rated_database.service(redis_url=SecretStr(NOWHERE)) as service, signed_in(service) as running:
        yield running


def test_without_valkey_all_other_metrics_are_served(without_valkey: Api) -> None:
    without_valkey.post([start()])
    found = scrape(without_valkey)
    assert found("metering_queue_up") == 0
    assert "metering_queue_messages" not in found
    assert found("metering_database_up") == 1
    assert found.not_zero("metering_part_unread") == {}
    assert found("metering_streams_not_final", state="open") == 1


def test_without_postgresql_a_process_still_reports_its_own_metrics(service: Service, database: Database) -> None:
    nowhere = service_engine("postgresql://nobody@/x?host=/nonexistent")
    gone = replace(service, engine=nowhere, quick_engine=nowhere)
    found = scrape_work(gone)
    assert found("metering_database_up") == 0
    assert found.not_zero("metering_part_unread") == dict.fromkeys(PARTS, 1)
    assert found("metering_queue_up") == 1
    assert "metering_streams_due" not in found
    assert database


def test_a_part_that_cannot_be_read_takes_no_other_with_it(service: Service, database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON totals_rolled_up FROM metering_service")
    found = scrape_work(service)
    assert found.not_zero("metering_part_unread") == {"totals": 1}
    assert "metering_totals_pending" not in found
    assert found("metering_streams_due") == 0
    assert found("metering_customers_overdue") == 0


def test_a_part_that_takes_too_long_is_given_up(service: Service, database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE reconciliations IN ACCESS EXCLUSIVE MODE")
        found = scrape_work(service)
    assert found.not_zero("metering_part_unread") == {"drift": 1}
    assert found("metering_streams_due") == 0


def test_however_often_it_is_scraped_the_database_is_asked_now_and_then(service: Service) -> None:
    assert KEEP_SECONDS > 1
    collector = build_work_collector(service.settings, engine=service.engine, keep_seconds=3600)
    first = list(collector.collect())
    service.engine.dispose()
    opened: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.engine, "connect", lambda: opened.append(1))
        assert list(collector.collect()) == first
    assert opened == []


def planted(kind: str) -> str:
    return f"{OUTSIDE}-{kind}"


def test_no_label_has_a_value_from_outside(api: Api) -> None:
    begun = start(
        planted("stream"), model=planted("model"), provider=planted("provider"), api_key_id=planted("key")
    )
    api.post([{**begun, "subject": planted("customer"), "source": planted("source")}])
    api.post([{**start("two"), "subject": planted("customer")}, {**end("two"), "subject": planted("customer")}])
    api.client.put(f"/v1/customers/{planted('customer')}", json={"name": planted("name")})
    api.client.get(f"/v1/streams/{planted('path')}/x")
    api.finalize()
    found = scrape(api)
    assert found("metering_streams_not_final", state="open") == 1
    assert "planted" not in found.text
    allowed = {
        "state": {state.value for states in (State, PushState, EndpointState) for state in states},
        "flag": set(Flag),
        "class": {drift_class.value for drift_class in DriftClass},
        "part": PARTS,
        # Counted by the process, so by whatever ran in it before.
        "kind": set(ExportKind),
        "format": set(ExportFormat),
        "result": {"whole", "left", "timed_out", "stalled", "failed"},
        "limit": {"concurrent", "requests", "events", "reads", "queue"},
        "reason": {"stalled", "late", "evicted", "refused", *HOLD_REASONS},
    }
    ours = [labels for name, labels in found.samples if name.startswith("metering_")]
    # Ids of ingest keys are ours; other tests of this process have had keys of their own.
    by_key = [labels for labels in ours if "key" in dict(labels)]
    assert {dict(labels)["inlet"] for labels in by_key if "inlet" in dict(labels)} <= set(Inlet)
    ours = [labels for labels in ours if labels not in by_key]
    seen = {(label, value) for labels in ours for label, value in labels if label != "le"}
    assert seen <= {(label, value) for label, values in allowed.items() for value in values}
    assert len(ours) < 120 + 2 * len(ExportKind) * len(ExportFormat) * len(allowed["result"])


def test_every_metric_is_in_the_operators_table_and_nothing_else_is(api: Api) -> None:
    let_everything_have_happened(api.service)
    told = re.findall(r"^\| `(metering_\w+)[`{]", OPERATIONS, re.MULTILINE)
    assert sorted(told) == sorted(scrape(api).ours | scrape_work(api.service).ours)
