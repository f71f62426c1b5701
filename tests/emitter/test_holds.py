"""Holds of the emitter: asked for first, repeated when an answer is lost, released when nothing went upstream."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from metering.emitter import Emitter, HoldRefused, HoldRequest, HoldSettings, HoldUnavailable, PriceUnknown
from tests.emitter.forking import in_child, result_of
from tests.emitter.hold_sink import EXHAUSTED, HoldAnswer, HoldSink, running_hold_sink
from tests.emitter.sink import StartEmitter, eventually

ASKED: dict[str, Any] = {"customer_id": "acme", "provider": "openai", "model": "gpt-4o", "input_tokens": 12}
REQUEST = HoldRequest(**ASKED, stream_id="by hand", mode="worst_case", max_output_tokens=100)
PATIENT = HoldSettings(timeout=30)


@pytest.fixture
def sink() -> Iterator[HoldSink]:
    with running_hold_sink() as sink:
        yield sink


@pytest.fixture
def emitter(sink: HoldSink, start_emitter: StartEmitter) -> Emitter:
    return start_emitter(sink.url, holds=PATIENT)


def kinds(sink: HoldSink, stream_id: str) -> list[str]:
    return sorted(event["type"] for event in sink.of_stream(stream_id))


def end_of(emitter: Emitter, sink: HoldSink, stream_id: str) -> tuple[str, str | None]:
    """(outcome, error type) of the one stream-end."""
    assert emitter.close(timeout=60)
    assert kinds(sink, stream_id).count("stream-end") == 1
    end = sink.events[f"{stream_id}:end"]["data"]
    return end["outcome"], end.get("error_type")


def test_entering_asks_for_the_hold_and_then_starts_the_stream(emitter: Emitter, sink: HoldSink) -> None:
    more: dict[str, Any] = {"max_output_tokens": 100, "tags": {"team": "ink"}, "service_tier": "flex"}
    lease: dict[str, Any] = {"slice_output_tokens": 50, "lease_seconds": 30}
    with emitter.stream(**ASKED, stream_id="s", hold="sliding", **more, **lease) as stream:
        assert stream.hold is not None
        assert (stream.hold.hold_id, stream.hold.held_usd_cents) == ("hold_1", Decimal("2.5"))
        assert stream.hold.budgets[0].resets_at == datetime(2026, 12, 1, tzinfo=UTC)
        assert json.loads(sink.asked[0]) == {**ASKED, "stream_id": "s", "mode": "sliding", **more, **lease}
        stream.text("Three rings")
    assert end_of(emitter, sink, "s") == ("completed", None)
    assert "failed_open" not in sink.events["s:start"]["data"]


def test_a_refused_hold_has_its_figures_and_no_stream(emitter: Emitter, sink: HoldSink) -> None:
    sink.answers.append(HoldAnswer(status=402, body=EXHAUSTED))
    with pytest.raises(HoldRefused, match="budget b has 1 cents left") as caught:  # noqa: SIM117
        with emitter.stream(**ASKED, stream_id="s", hold="worst_case", max_output_tokens=100):
            raise AssertionError("the block runs without a hold")
    error = caught.value
    assert (error.code, error.budget_id, error.max_output_tokens_that_fit) == ("budget_exhausted", "b", 40)
    assert (error.needed_usd_cents, error.headroom_usd_cents) == (Decimal("2.5"), Decimal(1))
    assert error.resets_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert emitter.close(timeout=60)
    assert (sink.events, len(sink.asked), sink.released) == ({}, 1, [])
    assert emitter.hold_stats().refused == 1


def test_a_price_that_is_unknown_has_an_error_of_its_own(emitter: Emitter, sink: HoldSink) -> None:
    sink.answers.append(HoldAnswer(status=422, body={"type": "/problems/price-unknown", "detail": "no rate"}))

    async def scene() -> None:
        with pytest.raises(PriceUnknown, match="no rate"):
            async with emitter.stream(**ASKED, hold="sliding"):
                raise AssertionError("the block runs without a hold")

    asyncio.run(scene())
    assert emitter.hold_stats().price_unknown == 1


@pytest.mark.parametrize(
    "failures",
    [[HoldAnswer(loses=True)], [HoldAnswer(status=503)], [HoldAnswer(status=429), HoldAnswer(status=500)]],
)
def test_a_lost_answer_is_asked_for_again_with_the_same_body(
    emitter: Emitter, sink: HoldSink, failures: list[HoldAnswer]
) -> None:
    sink.answers.extend(failures)
    assert emitter.hold(REQUEST).hold_id == "hold_1"
    assert len(sink.asked) == 1 + len(failures)
    assert len(set(sink.asked)) == 1
    assert emitter.hold_stats().held == 1


def test_a_service_that_hangs_is_waited_for_until_the_deadline(
    sink: HoldSink, start_emitter: StartEmitter
) -> None:
    sink.otherwise = HoldAnswer(hang_seconds=3)
    emitter: Emitter = start_emitter(sink.url, holds=HoldSettings(timeout=0.3))

    async def scene() -> None:
        began = time.monotonic()
        with pytest.raises(HoldUnavailable, match="the budget cannot be checked"):
            await emitter.hold_async(REQUEST)
        assert time.monotonic() - began < 2.5

    asyncio.run(scene())
    with pytest.raises(HoldUnavailable):
        emitter.hold(REQUEST)
    assert emitter.hold_stats().unavailable == 2


def test_a_service_that_is_away_lets_nothing_pass(start_emitter: StartEmitter) -> None:
    emitter: Emitter = start_emitter("http://127.0.0.1:9")
    with pytest.raises(HoldUnavailable, match="cannot be reached"), emitter.stream(**ASKED, hold="sliding"):
        raise AssertionError("the block runs without a hold")
    assert emitter.stats().emitted == 0


def test_a_wrong_key_is_said_and_is_no_answer(
    emitter: Emitter, sink: HoldSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.otherwise = HoldAnswer(status=403)
    for _ in range(3):
        with pytest.raises(HoldUnavailable, match="`key` is wrong or lacks the role ingest"):
            emitter.hold(REQUEST)
    assert len([each for each in caplog.records if "streams do not pass" in each.getMessage()]) == 1


def test_an_amount_a_minute_passes_without_an_answer_and_says_so(
    sink: HoldSink, start_emitter: StartEmitter
) -> None:
    amounts = {"fail_open_usd_cents_per_minute": Decimal(6), "fail_open_usd_cents_per_stream": Decimal(2)}
    holds = HoldSettings(timeout=20, **amounts)
    emitter: Emitter = start_emitter(sink.url, holds=holds)
    assert emitter.hold(REQUEST).held_usd_cents == Decimal("2.5")
    sink.otherwise = HoldAnswer(status=503)
    for number in range(2):  # 2.5 cents each, as the last hold of the model
        with emitter.stream(**ASKED, stream_id=f"s{number}", hold="sliding") as stream:
            assert stream.hold is not None
            assert stream.hold.failed_open
    with pytest.raises(HoldUnavailable), emitter.stream(**ASKED, hold="sliding"):
        raise AssertionError("more passes than the amount")
    assert emitter.close(timeout=60)
    assert sink.events["s0:start"]["data"]["failed_open"] is True
    assert (emitter.hold_stats().failed_open, emitter.hold_stats().unavailable) == (2, 1)


def test_a_block_of_which_nothing_went_upstream_releases_its_hold(emitter: Emitter, sink: HoldSink) -> None:
    with pytest.raises(ValueError, match="of the router"):  # noqa: SIM117
        with emitter.stream(**ASKED, stream_id="s", hold="worst_case", max_output_tokens=5, start_now=False):
            raise ValueError("of the router")
    eventually(lambda: sink.released == ["s"], what="the hold is released")
    assert emitter.close(timeout=60)
    assert sink.events == {}
    assert emitter.hold_stats().released == 1


@pytest.mark.parametrize("begin", ["started", "text", "end"])
def test_a_stream_that_has_started_is_settled_by_its_end(emitter: Emitter, sink: HoldSink, begin: str) -> None:
    with emitter.stream(**ASKED, stream_id="s", hold="worst_case", max_output_tokens=5, start_now=False) as stream:
        {"started": stream.started, "text": lambda: stream.text("Three"), "end": stream.end}[begin]()
        stream.started()
    assert end_of(emitter, sink, "s") == ("completed", None)
    assert kinds(sink, "s").count("stream-start") == 1
    assert sink.released == []


def test_a_task_that_is_cancelled_while_it_waits_releases_what_it_gets(emitter: Emitter, sink: HoldSink) -> None:
    sink.answers.append(HoldAnswer(hang_seconds=0.5))

    async def scene() -> None:
        task = asyncio.create_task(emitter.hold_async(REQUEST))
        await asyncio.to_thread(eventually, lambda: len(sink.asked) == 1, what="the service is asked")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    eventually(lambda: sink.released == ["by hand"], what="the hold is released")
    assert sink.held == {}


def test_holds_by_hand_are_released_by_hand(emitter: Emitter, sink: HoldSink) -> None:
    emitter.hold(REQUEST)
    assert emitter.release(customer_id="acme", stream_id="by hand")
    assert emitter.release(customer_id="acme", stream_id="by hand")
    with emitter.stream(**ASKED, stream_id="begun"):
        eventually(lambda: "begun:start" in sink.events, what="the start arrives")
        assert not emitter.release(customer_id="acme", stream_id="begun")


def test_parent_and_child_of_a_fork_both_get_holds(emitter: Emitter, sink: HoldSink) -> None:
    assert emitter.hold(REQUEST).hold_id == "hold_1"

    def child() -> bool:
        held = emitter.hold(REQUEST).hold_id == "hold_1"
        return held and emitter.hold_stats().held == 1 and emitter.close(timeout=30)

    assert result_of(in_child(child)) == 0
    assert emitter.hold(REQUEST).hold_id == "hold_1"
    assert emitter.hold_stats().held == 2
    assert len(sink.asked) == 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hold": "some"}, "hold: expected one of worst_case, sliding, got 'some'"),
        ({"hold": "sliding", "slice_output_tokens": 0}, "slice_output_tokens: expected 1 to 1000000, got 0"),
        ({"hold": "sliding", "lease_seconds": 3601}, "lease_seconds: expected 1 to 3600, got 3601"),
        ({"hold": "sliding", "lease_seconds": 1.5}, "lease_seconds: expected a whole number"),
    ],
)
def test_a_wrong_field_is_refused_before_anything_is_asked(
    emitter: Emitter, sink: HoldSink, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        emitter.stream(**ASKED, **wrong)
    assert sink.asked == []
