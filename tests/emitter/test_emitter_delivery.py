"""What the emitter posts, and what it makes of each answer."""

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

from metering.events.usage import Usage
from tests.builders import T0, delivered, end, start
from tests.emitter.sink import Answer, IngestSink, RunningServer, StartEmitter, eventually, free_port


def test_an_event_arrives_as_the_contract_writes_it(sink: IngestSink, start_emitter: StartEmitter) -> None:
    emitter = start_emitter(sink.url)
    usage = Usage(input_tokens=3, output_tokens=7)
    at = T0 + timedelta(milliseconds=123)
    emitter.emit(end("s1", time=at, usage=usage, usage_source=None))
    assert emitter.close(timeout=60)
    assert sink.events["s1:end"] == {
        "specversion": "1.0",
        "type": "stream-end",
        "source": "/gateways/test",
        "id": "s1:end",
        "subject": "acme",
        "time": "2026-11-23T15:00:00.123000Z",
        "data": {
            "stream_id": "s1",
            "outcome": "completed",
            "usage": {"input_tokens": 3, "output_tokens": 7},
        },
    }
    headers = sink.requests[0]["headers"]
    assert headers["authorization"] == "Bearer mk_test_secret"
    assert headers["content-type"] == "application/cloudevents-batch+json"


def test_events_arrive_soon_without_a_flush(sink: IngestSink, start_emitter: StartEmitter) -> None:
    emitter = start_emitter(sink.url)
    emitter.emit(start("s1"))
    eventually(lambda: "s1:start" in sink.events, what="the event arrives", seconds=30)


def test_batches_are_bounded_and_large_ones_are_compressed(sink: IngestSink, start_emitter: StartEmitter) -> None:
    emitter = start_emitter(sink.url)
    for number in range(2_500):
        emitter.emit(start(f"s{number}"))
    assert emitter.close(timeout=60)
    assert len(sink.events) == 2_500
    assert max(request["count"] for request in sink.requests) <= 1_000
    assert any(request["headers"].get("content-encoding") == "gzip" for request in sink.requests)


def test_only_the_highest_counters_of_a_batch_are_sent(sink: IngestSink, start_emitter: StartEmitter) -> None:
    emitter = start_emitter(sink.url, flush_interval=0.5)
    for seq in range(1, 51):
        emitter.emit(delivered("s1", seq * 16, seq=seq))
        emitter.emit(delivered("s2", seq * 4, seq=seq))
    assert emitter.close(timeout=60)
    assert sink.events["s1:t:50"]["data"]["output_tokens"] == 800
    assert sink.events["s2:t:50"]["data"]["output_tokens"] == 200
    stats = emitter.stats()
    assert stats.coalesced > 0
    assert stats.emitted == stats.coalesced + stats.sent == 100


def test_a_server_that_comes_up_late_gets_everything(start_emitter: StartEmitter) -> None:
    port = free_port()
    emitter = start_emitter(f"http://127.0.0.1:{port}")
    for number in range(1_500):
        emitter.emit(start(f"s{number}"))
    eventually(lambda: emitter.stats().retries >= 2, what="the emitter tries again")
    sink = IngestSink()
    with RunningServer(sink.app, port=port):
        assert emitter.close(timeout=60)
    assert len(sink.events) == 1_500
    assert emitter.stats().dropped == 0


def test_a_busy_server_is_asked_again_when_it_says(sink: IngestSink, start_emitter: StartEmitter) -> None:
    sink.plan.extend([Answer(status=503, headers=(("retry-after", "1"),)), Answer(status=429)])
    emitter = start_emitter(sink.url)
    began = time.monotonic()
    emitter.emit(start("s1"))
    eventually(lambda: "s1:start" in sink.events, what="the event arrives")
    assert time.monotonic() - began >= 1.0
    assert [request["status"] for request in sink.requests] == [503, 429, 200]
    assert emitter.stats().retries == 2


def test_a_server_that_hangs_does_not_hold_up_anyone(sink: IngestSink, start_emitter: StartEmitter) -> None:
    sink.plan.append(Answer(hang_seconds=1))
    emitter = start_emitter(sink.url, timeout=0.3)
    began = time.monotonic()
    for number in range(1_000):
        emitter.emit(start(f"s{number}"))
    assert time.monotonic() - began < 0.3
    eventually(lambda: len(sink.events) == 1_000, what="everything arrives after the time-out")


def test_a_batch_too_large_is_split(sink: IngestSink, start_emitter: StartEmitter) -> None:
    sink.always = Answer(max_events=100)
    emitter = start_emitter(sink.url)
    for number in range(1_000):
        emitter.emit(start(f"s{number}"))
    assert emitter.close(timeout=60)
    assert len(sink.events) == 1_000
    assert any(request["status"] == 413 for request in sink.requests)


def test_one_event_that_is_too_large_by_itself_is_set_aside(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    sink.always = Answer(max_events=0)
    emitter = start_emitter(sink.url)
    emitter.emit(start("s1"))
    assert emitter.close(timeout=60)
    assert "413" in _rejected(tmp_path)["s1:start"]


def test_refused_events_are_kept_with_the_reason_and_their_neighbours_arrive(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    sink.always = Answer(reject_ids=frozenset({"s1:start"}))
    emitter = start_emitter(sink.url, flush_interval=0.3)
    emitter.emit(start("s1"))
    emitter.emit(start("s2"))
    assert emitter.close(timeout=60)
    assert set(sink.events) == {"s2:start"}
    assert _rejected(tmp_path) == {"s1:start": "invalid-field: data.seq: as planned"}
    assert (emitter.stats().sent, emitter.stats().rejected) == (1, 1)


def test_a_batch_refused_as_a_whole_is_kept(sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path) -> None:
    sink.always = Answer(status=422)
    emitter = start_emitter(sink.url, flush_interval=0.3)
    emitter.emit(start("s1"))
    emitter.emit(end("s1"))
    assert emitter.close(timeout=60)
    assert set(_rejected(tmp_path)) == {"s1:start", "s1:end"}
    assert emitter.stats().rejected == 2


def test_fields_that_the_server_does_not_know_are_logged_once_and_the_events_are_sent(
    sink: IngestSink, start_emitter: StartEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    sink.always = Answer(warn_of=("data.usage.new_counter", "data.other"))
    emitter = start_emitter(sink.url, flush_interval=0.3)
    emitter.emit(start("s1"))
    emitter.emit(end("s1"))
    assert emitter.close(timeout=60)
    assert (emitter.stats().sent, emitter.stats().rejected) == (2, 0)
    (line,) = [each.getMessage() for each in caplog.records if "does not know" in each.getMessage()]
    assert line.count("data.usage.new_counter: unknown field") == line.count("data.other: unknown field") == 1


def test_a_wrong_key_names_the_setting_and_loses_nothing(
    sink: IngestSink, start_emitter: StartEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    sink.always = Answer(status=401)
    emitter = start_emitter(sink.url, slow_retry=0.2)
    emitter.emit(start("s1"))
    eventually(lambda: "`key` is wrong" in caplog.text, what="the log names the setting")
    sink.always = Answer()
    eventually(lambda: "s1:start" in sink.events, what="the event arrives once the key is right")


def test_a_wrong_url_names_the_setting(
    sink: IngestSink, start_emitter: StartEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    emitter = start_emitter(f"{sink.url}/nowhere")
    emitter.emit(start("s1"))
    eventually(lambda: "`url` does not lead to" in caplog.text, what="the log names the setting")
    assert emitter.stats().spooled == 1


def _rejected(tmp_path: Path) -> dict[str, str]:
    lines = (tmp_path / "spool" / "rejected.ndjson").read_text().splitlines()
    return {json.loads(entry["event"])["id"]: entry["reason"] for entry in map(json.loads, lines)}
