"""A trouble is said once, and once more when it is over."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from metering.emitter import Emitter
from metering.emitter.prometheus import EmitterCollector
from tests.builders import start
from tests.emitter.sink import Answer, IngestSink, StartEmitter, eventually

HOLDS = ("held", "refused", "price_unknown", "unavailable", "failed_open", "released")
SLOW = {"slow_retry": 0.05}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("metering.emitter")]


def test_a_server_that_fails_and_recovers_is_said_twice_in_all(
    sink: IngestSink, start_emitter: StartEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    sink.plan.extend([Answer(status=503)] * 4)
    emitter: Emitter = start_emitter(sink.url)
    for number in range(3):
        emitter.emit(start(f"s{number}"))
    eventually(lambda: len(sink.events) == 3, what="the events arrive")
    assert emitter.stats().retries == 4
    assert emitter.close(timeout=60)
    failed, recovered = said(caplog)
    assert failed.startswith(f"503 from {sink.url}/v1/events; usage events wait in the spool")
    assert recovered.startswith("the server accepts usage events again, after ")
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_revoked_key_is_said_once_and_a_new_one_is_used_without_a_restart(
    sink: IngestSink, start_emitter: StartEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["mk_old_secret"]
    sink.always = Answer(status=401)
    emitter: Emitter = start_emitter(sink.url, key=lambda: keys[-1], **SLOW)
    emitter.emit(start("s1"))
    eventually(lambda: emitter.stats().retries >= 5, what="it tries with the old key")
    keys.append("mk_new_secret")
    sink.always = Answer()
    eventually(lambda: "s1:start" in sink.events, what="it sends with the new key")
    assert sink.requests[-1]["headers"]["authorization"] == "Bearer mk_new_secret"
    assert emitter.close(timeout=60)
    refused, recovered = said(caplog)
    assert "401" in refused
    assert "`key` is wrong or lacks the role ingest" in refused
    assert recovered.startswith("the server accepts usage events again")


@pytest.mark.parametrize(
    ("key", "says"),
    [(lambda: "mk_…", "key: expected a key as"), (lambda: 1 / 0, "cannot be read: division by zero")],
)
def test_a_function_that_gives_no_key_is_said_and_asked_again(
    sink: IngestSink,
    start_emitter: StartEmitter,
    caplog: pytest.LogCaptureFixture,
    key: Callable[[], str],
    says: str,
) -> None:
    right = [False]
    emitter: Emitter = start_emitter(sink.url, key=lambda: "mk_a_b" if right[0] else key(), **SLOW)
    emitter.emit(start("s1"))
    eventually(lambda: emitter.stats().retries >= 3, what="it asks again")
    right[0] = True
    assert emitter.close(timeout=60)
    assert set(sink.events) == {"s1:start"}
    assert says in said(caplog)[0]


def test_a_key_that_no_header_can_have_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key: expected a key as `metering keys create` prints it"):
        Emitter(url="http://127.0.0.1:9", key="mk_…", source="/test", spool=tmp_path / "spool")
    assert not (tmp_path / "spool").exists()


def test_the_counts_are_metrics_of_the_gateways_own_registry(
    sink: IngestSink, start_emitter: StartEmitter
) -> None:
    sink.plan.append(Answer(status=503))
    sink.always = Answer(reject_ids=frozenset({"s0:start"}))
    emitter: Emitter = start_emitter(sink.url)
    registry = CollectorRegistry()
    registry.register(EmitterCollector(emitter))
    for number in range(3):
        emitter.emit(start(f"s{number}"))
    assert emitter.close(timeout=60)
    emitter.emit(start("too late"))
    shown = {line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")}
    assert shown == {
        "metering_emitter_events_total 4.0",
        'metering_emitter_results_total{result="sent"} 2.0',
        'metering_emitter_results_total{result="coalesced"} 0.0',
        'metering_emitter_results_total{result="rejected"} 1.0',
        'metering_emitter_results_total{result="dropped"} 1.0',
        "metering_emitter_retries_total 1.0",
        "metering_emitter_spooled 0.0",
        *(f'metering_emitter_holds_total{{result="{result}"}} 0.0' for result in HOLDS),
        "metering_emitter_streams_stopped_total 0.0",
    }
