"""What the emitter keeps on disk: over a crash, over a down server, and within its bounds."""

import linecache
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from metering.emitter import Emitter, SpoolError
from metering.emitter.pump import Pump
from tests.builders import delivered, end, start
from tests.emitter.sink import IngestSink, StartEmitter, eventually, free_port

_GATEWAY_THAT_IS_KILLED = """
import os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from metering.emitter import Emitter
from metering.events.events import StreamStart
now = datetime.now(UTC)
emitter = Emitter(url=sys.argv[1], key="k", source="/gateways/killed", spool=Path(sys.argv[2]))
for number in range(300):
    started = {"stream_id": f"killed-{number}", "time": now, "provider": "p", "model": "m"}
    emitter.emit(StreamStart(customer_id="acme", **started))
while emitter.stats().spooled < 300:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _run_and_kill(spool: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _GATEWAY_THAT_IS_KILLED, f"http://127.0.0.1:{free_port()}", str(spool)]
    done = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_sent_by_the_next(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    _run_and_kill(spool)
    [segment] = spool.glob("*/*.ndjson")
    with segment.open("ab") as torn:
        torn.write(b'{"specversion":"1.0","ty')
    emitter = start_emitter(sink.url)
    assert emitter.close(timeout=60)
    assert set(sink.events) == {f"killed-{number}:start" for number in range(300)}
    stats = emitter.stats()
    assert (stats.inherited, stats.sent, stats.rejected) == (301, 300, 1)
    assert "damaged" in (spool / "rejected.ndjson").read_text()
    assert [path.name for path in spool.iterdir() if path.is_dir()] == []


def test_a_process_never_takes_the_folder_of_a_living_one(sink: IngestSink, start_emitter: StartEmitter) -> None:
    down = start_emitter(f"http://127.0.0.1:{free_port()}")
    down.emit(start("s1"))
    eventually(lambda: down.stats().spooled == 1, what="the event is spooled")
    other = start_emitter(sink.url)
    assert other.stats().inherited == 0
    assert not down.close(timeout=0.2)
    heir = start_emitter(sink.url)
    assert heir.stats().inherited == 1
    assert heir.close(timeout=60)
    assert "s1:start" in sink.events


def test_a_full_spool_refuses_token_delivered_first_and_says_so(
    start_emitter: StartEmitter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bound = 40_000
    emitter = start_emitter(f"http://127.0.0.1:{free_port()}", max_spool_bytes=bound, flush_interval=0.01)
    for number in range(400):
        emitter.emit(delivered(f"s{number}", 16, seq=1))
    eventually(lambda: emitter.stats().dropped > 0, what="token-delivered are refused")
    dropped = emitter.stats().dropped
    for number in range(10):
        emitter.emit(end(f"s{number}"))
    eventually(lambda: b"s9:end" in _spooled(tmp_path), what="ends are still written")
    assert emitter.stats().dropped == dropped
    for number in range(400):
        emitter.emit(end(f"t{number}"))
    eventually(lambda: emitter.stats().dropped > dropped, what="the hard bound is reached")
    assert len(_spooled(tmp_path)) <= bound * 5 // 4
    assert "usage events are being lost" in caplog.text


def test_emit_never_blocks_or_raises_when_the_queue_is_full(start_emitter: StartEmitter) -> None:
    emitter = start_emitter(f"http://127.0.0.1:{free_port()}", max_queue_events=100, flush_interval=30)
    for number in range(200):
        emitter.emit(delivered(f"s{number}", 1, seq=1))
    for number in range(200):
        emitter.emit(end(f"s{number}"))
    # The queue has room for 100, and for 25 ends more; it is emptied once when the emitter's thread begins.
    dropped = emitter.stats().dropped
    assert 400 - 2 * 125 <= dropped <= 100 + 175
    emitter.close(timeout=0.1)
    eventually(lambda: emitter.stats().spooled == 400 - dropped, what="the rest is spooled on close")


def test_every_event_is_accounted_for(sink: IngestSink, start_emitter: StartEmitter) -> None:
    emitter = start_emitter(sink.url)

    def one_gateway_thread(name: str) -> None:
        for number in range(200):
            emitter.emit(start(f"{name}-{number}"))
            for seq in range(1, 6):
                emitter.emit(delivered(f"{name}-{number}", seq * 16, seq=seq))
            emitter.emit(end(f"{name}-{number}"))

    threads = [threading.Thread(target=one_gateway_thread, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert emitter.close(timeout=60)
    emitter.emit(start("too-late"))
    stats = emitter.stats()
    assert stats.emitted == 4 * 200 * 7 + 1
    assert stats.emitted == stats.coalesced + stats.sent + stats.rejected + stats.dropped + stats.spooled
    assert (stats.dropped, stats.spooled) == (1, 0)
    assert sum(event["type"] != "token-delivered" for event in sink.events.values()) == 4 * 200 * 2


def test_a_process_that_just_exits_flushes_first(sink: IngestSink, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    program = _GATEWAY_THAT_IS_KILLED.split("while")[0]
    command = [sys.executable, "-c", program, sink.url, str(tmp_path / "spool")]
    subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=True, timeout=30)
    assert len(sink.events) == 300


def test_a_disk_that_refuses_does_not_stop_delivery(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emitter = start_emitter(sink.url)
    [own] = (path for path in (tmp_path / "spool").iterdir() if path.is_dir())
    (own / "lock").unlink()
    own.rmdir()
    emitter.emit(start("s1"))
    eventually(lambda: "s1:start" in sink.events, what="the event arrives without a spool")
    assert "wait in memory" in caplog.text


def test_a_spool_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SpoolError, match="cannot be used"):
        Emitter(url="http://127.0.0.1:1", key="k", source="/s", spool=tmp_path / "file" / "spool")


def _spooled(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((tmp_path / "spool").glob("*/*.ndjson")))


def test_who_waits_for_an_event_is_told_when_it_is_on_disk(start_emitter: StartEmitter, tmp_path: Path) -> None:
    emitter = start_emitter("http://127.0.0.1:9", flush_interval=60)
    written = threading.Event()
    found: list[bytes] = []

    def look() -> None:
        found.append(_spooled(tmp_path))
        written.set()

    emitter.emit(delivered("s1", 1))
    emitter.emit(start("s1"), on_spooled=look)
    assert written.wait(10), "it is not gathered for the flush interval"
    assert b'"s1:start"' in found[0]
    emitter.close(timeout=0)
    written.clear()
    emitter.emit(start("s2"), on_spooled=written.set)
    assert written.is_set(), "an event that is dropped keeps nobody waiting"


_FULL_DISK = """
import logging, resource, sys, time
from pathlib import Path
from metering.emitter import Emitter
from tests.builders import start
logging.basicConfig(stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
emitter = Emitter(url="http://127.0.0.1:9", key="k", source="/s", spool=Path(sys.argv[1]), flush_interval=0.01)
for number in range(30):
    emitter.emit(start(f"s{number}"))
    time.sleep(0.02)
# An event is in memory, or in a file that cannot be finished, until the spooler has given it up.
deadline = time.monotonic() + 30
while (emitter.stats().spooled < 30 or any(Path(sys.argv[1]).glob("*/*.ndjson"))) and time.monotonic() < deadline:
    time.sleep(0.01)
print("files", len(list(Path(sys.argv[1]).glob("*/*.ndjson"))), "waiting", emitter.stats().spooled)
emitter.close(timeout=0)
"""


def test_a_full_disk_leaves_no_empty_files_and_a_quiet_log(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "files 0 waiting 30" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("cannot write to the spool folder") == 1


def test_an_event_that_comes_as_the_emitter_closes_is_counted_as_dropped(start_emitter: StartEmitter) -> None:
    emitter = start_emitter(f"http://127.0.0.1:{free_port()}")
    is_about_to_append, is_closed = threading.Event(), threading.Event()

    def stop_before_appending(frame: FrameType, *_: object) -> Any:
        if frame.f_code is not Pump.put.__code__:
            return None
        if linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() == "queue.append(event)":
            is_about_to_append.set()
            assert is_closed.wait(60)
        return stop_before_appending

    def gateway_thread() -> None:
        sys.settrace(stop_before_appending)
        emitter.emit(start("late"))
        sys.settrace(None)

    thread = threading.Thread(target=gateway_thread)
    thread.start()
    assert is_about_to_append.wait(60)
    assert emitter.close(timeout=60)
    is_closed.set()
    thread.join(60)
    stats = emitter.stats()
    assert (stats.emitted, stats.spooled, stats.dropped) == (1, 0, 1)
