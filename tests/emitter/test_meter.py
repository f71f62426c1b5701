"""The meter counts what it is given, dates it by its own clock, and ends once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.answers.tokens import counter_for
from metering.emitter.identity import StreamClock, StreamIdentity
from metering.emitter.meter import StreamMeter
from metering.events.events import Outcome, StreamEnd, TokenDelivered, UsageEvent, UsageSource


class _Metered:
    """A meter, and the events that it has emitted."""

    def __init__(self, *, model: str = "gpt-4o", provider: str = "openai", **known: Any) -> None:
        self.events: list[UsageEvent] = []
        identity = StreamIdentity(
            customer_id="acme",
            stream_id="s1",
            provider=provider,
            model=model,
            streaming=True,
            input_tokens=17,
            input_exact=True,
            tags={},
            **known,
        )
        self.meter = StreamMeter(identity=identity, counter=counter_for(model=model), emit=self.events.append)

    def take(self, *deltas: dict[str, Any], **more: Any) -> None:
        for delta in deltas:
            self.meter.take({"choices": [{"index": 0, "delta": delta, **more}]})

    def end(self, outcome: Outcome = Outcome.COMPLETED) -> StreamEnd:
        self.meter.end(outcome=outcome)
        [end] = [event for event in self.events if isinstance(event, StreamEnd)]
        return end


@pytest.fixture
def metered() -> _Metered:
    return _Metered()


def test_a_stream_keeps_its_own_time_when_the_systems_clock_jumps() -> None:
    seconds = iter([100.0, 101.5, 130.0])
    clock = StreamClock(began=datetime(2026, 11, 29, tzinfo=UTC), elapsed=lambda: next(seconds))
    assert clock.now() == datetime(2026, 11, 29, 0, 0, 1, 500_000, tzinfo=UTC)
    assert clock.now() == datetime(2026, 11, 29, 0, 0, 30, tzinfo=UTC)


def test_no_event_is_before_its_start(metered: _Metered) -> None:
    start = metered.meter.make_start()
    metered.take(*({"content": " word"} for _ in range(40)))
    end = metered.end()
    times = [start.time, *(event.time for event in metered.events)]
    assert times == sorted(times)
    assert end.time - start.time < timedelta(minutes=1)


def test_it_ends_once(metered: _Metered) -> None:
    metered.take({"content": "a"})
    metered.end()
    assert metered.meter.end(outcome=Outcome.FAILED) is None
    assert metered.end().outcome is Outcome.COMPLETED


def test_an_answer_is_finished_when_every_choice_is() -> None:
    metered = _Metered(choices=2)
    metered.take({"content": "a"}, finish_reason="stop")
    assert not metered.meter.is_finished
    metered.meter.take({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]})
    assert metered.meter.is_finished
    assert metered.end().finish_reasons == ("stop", "length")


def test_a_usage_before_more_output_is_not_final(metered: _Metered) -> None:
    metered.meter.take({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
    assert metered.meter.has_final_usage
    metered.take({"content": "a"})
    assert not metered.meter.has_final_usage


def test_a_message_after_its_deltas_is_no_output_again(metered: _Metered) -> None:
    metered.take({"content": " one"}, {"content": " two"})
    metered.meter.take({"choices": [{"index": 0, "delta": {}, "message": {"content": " one two"}}]})
    usage = metered.end().usage
    assert usage is not None
    assert usage.output_tokens == 2


def test_a_message_alone_counts(metered: _Metered) -> None:
    metered.meter.take({"choices": [{"index": 0, "message": {"content": " one two"}, "finish_reason": "stop"}]})
    usage = metered.end().usage
    assert usage is not None
    assert usage.output_tokens == 2


@pytest.mark.parametrize("more", [{}, {"finish_reason": "stop"}], ids=["in between", "at the end"])
def test_output_after_the_client_has_left_is_not_counted_but_its_usage_is(
    metered: _Metered, more: dict[str, str]
) -> None:
    metered.take({"content": " one"})
    metered.meter.take({"choices": [{"index": 0, "delta": {"content": " two"}, **more}]}, delivered=False)
    assert metered.meter.end(outcome=Outcome.CANCELLED).counters["output_tokens"] == 1  # type: ignore[union-attr,index]


def test_what_cannot_be_read_is_estimated_by_its_bytes(metered: _Metered) -> None:
    metered.meter.take_unreadable(41)
    end = metered.end(Outcome.CANCELLED)
    assert end.usage is not None
    assert (end.usage.output_tokens, end.usage_source) == (11, UsageSource.ESTIMATE)


@pytest.mark.parametrize(
    ("documents", "tier"),
    [
        ([{"service_tier": "default"}], "default"),
        ([{"service_tier": "default"}, {"usage": {"prompt_tokens": 1, "service_tier": "priority"}}], "priority"),
        ([{"usage": {"service_tier": "batch"}}, {"service_tier": "default"}], "batch"),
        ([{}], None),
    ],
)
def test_the_tier_of_the_usage_goes_before_that_of_the_answer(
    metered: _Metered, documents: list[dict[str, Any]], tier: str | None
) -> None:
    for document in documents:
        metered.meter.take(document)
    assert metered.end().service_tier == tier


def test_reported_counts_never_fall(metered: _Metered) -> None:
    for at in range(300):
        metered.take({"content": " har" if at % 2 else "bour"})
    counts = [event.output_tokens for event in metered.events if isinstance(event, TokenDelivered)]
    assert len(counts) > 10
    assert counts == sorted(counts)


def test_a_count_that_falls_when_pieces_merge_is_told_as_it_was(metered: _Metered) -> None:
    metered.take({"content": "#" * 71}, {"content": "#" * 65})  # 3 tokens, then 2 in all
    counts = [event.output_tokens for event in metered.events if isinstance(event, TokenDelivered)]
    assert counts == [3, 3]
