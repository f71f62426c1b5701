"""A stream that the service names in `stop` has to end: its signal is set, its function is called once."""

import asyncio
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from metering.emitter import Emitter, HoldRequest, HoldSettings, StreamEnd, StreamStart, TokenDelivered
from metering.emitter.allowance import Allowance
from metering.emitter.stops import StopSignal
from tests.builders.events import NOW
from tests.emitter.hold_sink import HoldSink, running_hold_sink
from tests.emitter.sink import StartEmitter, eventually

ASKED: dict[str, Any] = {"customer_id": "acme", "provider": "openai", "model": "gpt-4o", "input_tokens": 12}
FINISHED: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.fixture
def sink() -> Iterator[HoldSink]:
    with running_hold_sink() as sink:
        yield sink


@pytest.fixture
def emitter(sink: HoldSink, start_emitter: StartEmitter) -> Emitter:
    return start_emitter(sink.url, holds=HoldSettings(timeout=30))


def end_of(emitter: Emitter, sink: HoldSink, stream_id: str) -> tuple[str, str | None, int]:
    """(outcome, error type, output tokens) of the stream-end."""
    assert emitter.close(timeout=60)
    end = sink.events[f"{stream_id}:end"]["data"]
    return end["outcome"], end.get("error_type"), end["usage"]["output_tokens"]


def test_a_task_stops_when_its_signal_is_set_and_pays_for_what_was_delivered(
    emitter: Emitter, sink: HoldSink
) -> None:
    sink.stop = {"s"}
    called: list[str] = []

    async def scene() -> None:
        async with emitter.stream(**ASKED, stream_id="s", hold="sliding") as stream:
            stream.on_stop(lambda: called.append(threading.current_thread().name))
            waiting = asyncio.create_task(stream.stopped.wait())
            for delivered in range(1, 10_000):
                stream.delivered(output_tokens=delivered)
                if stream.stopped:
                    break
                await asyncio.sleep(0.005)
            async with asyncio.timeout(60):
                assert await waiting
                assert await stream.stopped.wait()
            assert delivered < 9_999

    asyncio.run(scene())
    # On the event loop of the stream, which is this thread's.
    assert called == [threading.current_thread().name]
    outcome, error_type, output = end_of(emitter, sink, "s")
    assert (outcome, error_type) == ("cancelled", "budget")
    assert 0 < output < 9_999
    assert emitter.hold_stats().stopped == 1


def test_without_an_event_loop_the_thread_that_posts_calls(emitter: Emitter, sink: HoldSink) -> None:
    sink.stop = {"s"}
    called: list[str] = []

    def stop() -> None:
        called.append(threading.current_thread().name)
        raise ValueError("of the caller")

    with emitter.stream(**ASKED, stream_id="s", hold="sliding") as stream:
        stream.on_stop(stop)
        stream.delivered(output_tokens=20)
        eventually(lambda: stream.stopped.is_set(), what="the stream has to end")
        eventually(lambda: called == ["metering-sender"], what="the function is called")
        stream.delivered(output_tokens=40)
        eventually(lambda: "s:2" in sink.events or len(sink.of_stream("s")) > 2, what="it is posted again")
        late: list[str] = []
        stream.on_stop(lambda: late.append("at once"))
        assert late == ["at once"]
    assert end_of(emitter, sink, "s") == ("cancelled", "budget", 40)
    assert len(called) == 1


@pytest.mark.parametrize("error", [None, TimeoutError(), ValueError("of the upstream")])
def test_leaving_after_a_stop_is_a_stop_however_it_happens(
    emitter: Emitter, sink: HoldSink, error: Exception | None
) -> None:
    sink.stop = {"s"}
    try:
        with emitter.stream(**ASKED, stream_id="s", hold="sliding") as stream:
            stream.delivered(output_tokens=20)
            eventually(stream.stopped.is_set, what="the stream has to end")
            if error is not None:
                raise error
    except (TimeoutError, ValueError):
        assert error is not None
    assert end_of(emitter, sink, "s") == ("cancelled", "budget", 20)


def test_an_answer_that_was_complete_stays_completed(emitter: Emitter, sink: HoldSink) -> None:
    sink.stop = {"s"}
    with emitter.stream(**ASKED, stream_id="s", hold="sliding") as stream:
        stream.delivered(output_tokens=20)
        stream.take(FINISHED)
        eventually(stream.stopped.is_set, what="the stream has to end")
    assert end_of(emitter, sink, "s") == ("completed", None, 20)


def test_streams_without_a_hold_and_strange_answers_are_left_alone(emitter: Emitter, sink: HoldSink) -> None:
    sink.stop = {"s"}
    with emitter.stream(**ASKED, stream_id="s") as stream:
        stream.delivered(output_tokens=20)
        eventually(lambda: len(sink.events) == 2, what="the events arrive")
    assert not stream.stopped
    assert end_of(emitter, sink, "s") == ("completed", None, 20)


def test_events_made_by_hand_are_stopped_until_their_end(emitter: Emitter, sink: HoldSink) -> None:
    known: dict[str, Any] = {"customer_id": "acme", "time": NOW}
    stopped = {name: threading.Event() for name in ("a", "b")}
    for name, event in stopped.items():
        emitter.hold(HoldRequest(**ASKED, stream_id=name, mode="sliding"))
        emitter.on_stop(name, event.set)
        emitter.emit(StreamStart(**known, stream_id=name, provider="openai", model="gpt-4o"))
    emitter.emit(StreamEnd(**known, stream_id="b", outcome="completed"))
    sink.stop = {"a", "b"}
    for name in stopped:
        emitter.emit(TokenDelivered(**known, stream_id=name, seq=1, output_tokens=5))
    assert stopped["a"].wait(60)
    assert emitter.close(timeout=60)
    assert not stopped["b"].is_set()


def test_a_signal_can_be_waited_for_after_a_wait_was_cancelled() -> None:
    async def scene() -> None:
        signal = StopSignal()
        task = asyncio.create_task(signal.wait())
        await asyncio.sleep(0)
        task.cancel()
        other = asyncio.create_task(signal.wait())
        await asyncio.sleep(0)
        signal.set()
        assert await other
        assert task.cancelled() or task.done()

    asyncio.run(scene())


def test_an_allowance_is_for_any_minute() -> None:
    now = 0.0
    settings = HoldSettings(fail_open_usd_cents_per_minute=Decimal(10), fail_open_usd_cents_per_stream=Decimal(4))
    allowance = Allowance(settings, clock=lambda: now)
    request = HoldRequest(**ASKED, stream_id="s", mode="sliding")
    assert [allowance.take(request) for _ in range(3)] == [True, True, False]
    now = 30.0
    assert not allowance.take(request)
    allowance.note(request, Decimal(1))
    assert [allowance.take(request) for _ in range(3)] == [True, True, False]
    now = 62.0
    assert [allowance.take(request) for _ in range(9)] == [True] * 8 + [False]
    assert not Allowance(HoldSettings()).take(request)
