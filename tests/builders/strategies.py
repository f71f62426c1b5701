"""Random events of a few streams, for properties of what is made of them."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent, UsageSource
from metering.events.usage import Usage

T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)

# Few values, so that duplicates, ties and conflicts come up all the time.
times = st.integers(0, 3).map(lambda seconds: T0 + timedelta(seconds=seconds, milliseconds=123))
counts = st.sampled_from([0, 1, 7, 2**53 - 1])
maybe_counts = st.none() | counts
STREAMS = (("acme", "s1"), ("acme", "s2"), ("bolt", "s1"))


def _start(key: tuple[str, str]) -> st.SearchStrategy[UsageEvent]:
    return st.builds(
        StreamStart,
        customer_id=st.just(key[0]),
        stream_id=st.just(key[1]),
        time=times,
        provider=st.just("openai"),
        model=st.sampled_from(["gpt-5.5", "gpt-5.5-pro"]),
        input_tokens=maybe_counts,
        tags=st.sampled_from([{}, {"team": "a"}]),
    )


def _delivered(key: tuple[str, str]) -> st.SearchStrategy[UsageEvent]:
    return st.builds(
        TokenDelivered,
        customer_id=st.just(key[0]),
        stream_id=st.just(key[1]),
        time=times,
        seq=st.integers(0, 5),
        output_tokens=counts,
        reasoning_output_tokens=maybe_counts,
    )


def _end(key: tuple[str, str]) -> st.SearchStrategy[UsageEvent]:
    return st.builds(
        StreamEnd,
        customer_id=st.just(key[0]),
        stream_id=st.just(key[1]),
        time=times,
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.CANCELLED]),
        usage=st.none() | st.builds(Usage, input_tokens=maybe_counts, output_tokens=maybe_counts),
        usage_source=st.none() | st.sampled_from(list(UsageSource)),
        response_model=st.none() | st.just("gpt-5.5-2026-04-23"),
    )


# One strategy for each stream and type, made once: strategies that are made while drawing take most of the time.
events = st.one_of([make(key) for key in STREAMS for make in (_start, _delivered, _end)])
batches = st.lists(st.lists(events, min_size=1, max_size=8), min_size=1, max_size=6)
one_stream = st.lists(
    st.one_of(_start(("acme", "s")), _delivered(("acme", "s")), _end(("acme", "s"))), min_size=1, max_size=8
)
