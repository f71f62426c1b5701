"""An emitter that was made before a fork works in parent and child, each with a spool and threads of its own."""

import os
from collections.abc import Callable
from pathlib import Path

from metering.emitter import Emitter
from tests.builders import start
from tests.emitter.forking import in_child, result_of
from tests.emitter.sink import Answer, IngestSink, StartEmitter, eventually


def test_events_of_parent_and_children_all_arrive(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    emitter: Emitter = start_emitter(sink.url)
    emitter.emit(start("before"))

    def work(name: str) -> Callable[[], bool]:
        def child() -> bool:
            for number in range(50):
                emitter.emit(start(f"{name}-{number}"))
            own = emitter.stats().emitted == 50
            return own and emitter.close(timeout=60)

        return child

    children = [in_child(work(f"child{number}")) for number in range(3)]
    emitter.emit(start("after"))
    assert [result_of(pid) for pid in children] == [0, 0, 0]
    assert emitter.close(timeout=60)
    assert len(sink.events) == 152
    assert emitter.stats().emitted == 2
    assert list((tmp_path / "spool").glob("*/*.ndjson")) == []


def test_a_child_that_emits_nothing_touches_nothing(
    sink: IngestSink, start_emitter: StartEmitter, tmp_path: Path
) -> None:
    sink.always = Answer(status=503)
    emitter: Emitter = start_emitter(sink.url)
    emitter.emit(start("s1"))
    eventually(lambda: any((tmp_path / "spool").glob("*/*.ndjson")), what="the event is on disk")
    folders = set((tmp_path / "spool").iterdir())
    assert result_of(in_child(lambda: emitter.close(timeout=5))) == 0
    assert set((tmp_path / "spool").iterdir()) == folders
    sink.always = Answer()
    assert emitter.close(timeout=60)
    assert set(sink.events) == {"s1:start"}


def test_the_parents_spool_is_the_parents_as_long_as_it_lives(
    start_emitter: StartEmitter, tmp_path: Path, sink: IngestSink
) -> None:
    emitter: Emitter = start_emitter("http://127.0.0.1:9")
    emitter.emit(start("of the parent"))
    eventually(lambda: emitter.stats().retries >= 1, what="the parent tries to send")

    def child() -> bool:
        other = Emitter(url=sink.url, key="mk_a_b", source="/test", spool=tmp_path / "spool")
        return other.stats().inherited == 0 and other.close(timeout=60)

    assert result_of(in_child(child)) == 0
    assert not sink.events
    assert emitter.stats().spooled == 1


def test_a_dead_parents_events_are_sent_by_the_next_process_though_its_child_lives(
    sink: IngestSink, tmp_path: Path
) -> None:
    """The child has copies of the parent's open files, and must not keep the parent's lock."""
    go_on, done = os.pipe()

    def parent() -> bool:
        emitter = Emitter(url="http://127.0.0.1:9", key="mk_a_b", source="/test", spool=tmp_path / "spool")
        emitter.emit(start("s1"))
        eventually(lambda: emitter.stats().spooled == 1, what="the event is on disk")
        child = in_child(lambda: bool(os.read(go_on, 1)))
        (tmp_path / "child").write_text(str(child))
        os._exit(0)

    assert result_of(in_child(parent)) == 0
    next_one = Emitter(url=sink.url, key="mk_a_b", source="/test", spool=tmp_path / "spool")
    assert next_one.stats().inherited == 1
    assert next_one.close(timeout=60)
    assert set(sink.events) == {"s1:start"}
    os.write(done, b"x")
    os.close(done)
    os.close(go_on)
