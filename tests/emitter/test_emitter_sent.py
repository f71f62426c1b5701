"""What the emitter keeps of acknowledged events, and `metering-emitter resend`, which sends it again."""

import gzip
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from metering.emitter.sent import SentEvents, sent_files
from tests.builders import delivered, end, start
from tests.emitter.sink import Answer, IngestSink, StartEmitter, eventually, free_port


def run(*arguments: str, key: str = "mk_test_secret") -> subprocess.CompletedProcess[str]:
    """`metering-emitter`, as on a gateway's machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    return subprocess.run(
        [sys.executable, "-m", "metering.emitter", *arguments],
        cwd=Path(__file__).parents[2],
        env={**environment, "METERING_INGEST_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def kept(spool: Path) -> list[str]:
    """The ids of the events that are kept."""
    lines = [line for file in sent_files(spool) for line in gzip.decompress(file.path.read_bytes()).splitlines()]
    return [json.loads(line)["id"] for line in lines]


def test_a_server_that_lost_acknowledged_events_gets_them_again(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    emitter = start_emitter(sink.url, keep_sent=3_600)
    sink.always = Answer(reject_ids=frozenset({"s3:end"}))
    for number in range(5):
        emitter.emit(start(f"s{number}"))
        emitter.emit(delivered(f"s{number}", 16, seq=1))
        emitter.emit(end(f"s{number}"))
    eventually(lambda: emitter.stats().spooled == 0 and emitter.stats().sent > 0, what="all is acknowledged")
    lost, sink.events = sink.events, {}
    assert sorted(kept(spool)) == sorted(lost), "what was rejected is not kept"
    told = run("resend", "--spool", str(spool), "--url", sink.url)
    assert told.returncode == 0, told.stderr
    assert f"{len(lost)} events accepted, 0 rejected" in told.stderr
    assert sink.events == lost
    assert emitter.close(timeout=60)
    assert start_emitter(sink.url, keep_sent=3_600).stats().inherited == 0, "they are no events of a dead process"


def test_only_what_was_acknowledged_since_a_time_is_sent_and_what_is_missing_is_said(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    emitter = start_emitter(sink.url, keep_sent=3_600)
    for number in range(2):
        emitter.emit(start(f"s{number}"))
        eventually(lambda: len(sent_files(spool)) == number + 1, what="the event is kept")  # noqa: B023
    first, second = sent_files(spool)
    sink.events.clear()
    since = datetime.fromtimestamp(second.acknowledged_at, UTC)
    told = run("resend", "--spool", str(spool), "--url", sink.url, "--since", since.isoformat())
    assert (told.returncode, list(sink.events)) == (0, ["s1:start"])
    assert "nothing from before" not in told.stderr
    early = datetime.fromtimestamp(first.acknowledged_at, UTC) - timedelta(hours=1)
    told = run("resend", "--spool", str(spool), "--since", early.isoformat(), "--dry-run")
    assert "2 files to send" in told.stderr
    assert "nothing from before is here" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resend", "--spool", "missing"], "is no spool"),
        (["resend", "--spool", ".", "--since", "yesterday"], "time with an offset"),
        (["resend", "--spool", ".", "--since", "2026-11-29T08:00:00"], "time with an offset"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], says: str) -> None:
    told = run(*arguments)
    assert told.returncode != 0
    assert says in told.stderr
    assert "Traceback" not in told.stderr


def test_a_server_that_does_not_take_them_is_an_error(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    emitter = start_emitter(sink.url, keep_sent=3_600)
    emitter.emit(start("s1"))
    assert emitter.close(timeout=60)
    sink.plan.extend([Answer(status=503), Answer(status=503)])
    assert run("resend", "--spool", str(spool), "--url", sink.url).returncode == 0, "it is patient"
    nobody = f"http://127.0.0.1:{free_port()}"
    told = run("resend", "--spool", str(spool), "--url", nobody, "--patience", "0")
    assert (told.returncode, "cannot be reached" in told.stderr) == (1, True)
    sink.always = Answer(status=401)
    told = run("resend", "--spool", str(spool), "--url", sink.url)
    assert (told.returncode, "key" in told.stderr) == (1, True)
    sent_files(spool)[0].path.write_bytes(b"not gzip")
    told = run("resend", "--spool", str(spool), "--url", sink.url)
    assert (told.returncode, "1 files unreadable" in told.stderr) == (1, True)


def test_what_is_kept_is_bounded_by_age_and_by_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    hours_ago = int((time.time() - 7_200) * 1000)
    (folder / f"{hours_ago:013d}-1-a-00000001.ndjson.gz").write_bytes(gzip.compress(b"{}\n"))
    SentEvents(tmp_path, seconds=3_600, max_bytes=1 << 20).keep([b"{}"])
    assert len(sent_files(tmp_path)) == 1, "the old file is gone"
    bounded = SentEvents(tmp_path, seconds=3_600, max_bytes=4_000)
    for number in range(10):
        bounded.keep([os.urandom(700).hex().encode(), str(number).encode()])
    files = sent_files(tmp_path)
    assert sum(file.size for file in files) <= 4_000
    assert gzip.decompress(files[-1].path.read_bytes()).endswith(b"\n9\n"), "the newest stay"
    assert "their files reach the bound of 4000 bytes" in caplog.text


def test_an_emitter_that_cannot_keep_events_still_sends_them(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "sent").write_text("a file where a folder should be")
    emitter = start_emitter(sink.url, keep_sent=3_600)
    emitter.emit(start("s1"))
    assert emitter.close(timeout=60)
    assert "s1:start" in sink.events
    assert "acknowledged events are not kept" in caplog.text


def test_nothing_is_kept_unless_wanted(sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path) -> None:
    emitter = start_emitter(sink.url)
    emitter.emit(start("s1"))
    assert emitter.close(timeout=60)
    assert not (tmp_path / "spool" / "sent").exists()
    told = run("resend", "--spool", str(tmp_path / "spool"), "--url", sink.url)
    assert "has kept no acknowledged events" in told.stderr
