"""The quick fold of the hot path and the domain's fold say the same of any events in any order."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.events.wire.decode import decode_json
from metering.events.wire.events import (
    DeliveredData,
    DeliveredEvent,
    EndData,
    EndEvent,
    StartData,
    StartEvent,
    UsageData,
    WireEvent,
    to_domain,
)
from metering.streams.ingest.fold import fold_wire
from metering.streams.stream import facts_of, fold, join_all

T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)
SMALL = st.integers(0, 3)
ENVELOPE = {
    "specversion": st.just("1.0"),
    "source": st.just("/gateways/test"),
    "id": st.just("any"),
    "subject": st.sampled_from(["acme", "globex"]),
    "time": SMALL.map(lambda seconds: T0 + timedelta(seconds=seconds)),
}
# Whatever JSON can be written in several ways: quotes, backslashes, control and other odd characters.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
STREAM = st.sampled_from(["a", "b"])
DELIVERED = st.builds(
    DeliveredEvent,
    **ENVELOPE,
    data=st.builds(
        DeliveredData,
        stream_id=STREAM,
        seq=SMALL,
        output_tokens=SMALL,
        reasoning_output_tokens=st.none() | SMALL,
    ),
)
STARTS = st.builds(
    StartEvent,
    **ENVELOPE,
    data=st.builds(
        StartData,
        stream_id=STREAM,
        provider=st.just("p"),
        model=st.sampled_from(["m", "n"]) | TEXT,
        request_hash=st.none() | TEXT,
        input_tokens=st.none() | st.integers(0, 2**53 - 1),
        tags=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    ),
)
ENDS = st.builds(
    EndEvent,
    **ENVELOPE,
    data=st.builds(
        EndData,
        stream_id=STREAM,
        outcome=st.sampled_from(["completed", "cancelled"]),
        usage=st.none() | st.builds(UsageData, output_tokens=st.none() | SMALL),
        usage_source=st.sampled_from([None, "provider", "estimate"]),
    ),
)


@settings(max_examples=400)
@given(st.lists(st.one_of(DELIVERED, DELIVERED, DELIVERED, STARTS, ENDS), max_size=12))
def test_the_quick_fold_is_the_domains_fold(events: list[WireEvent]) -> None:
    seen = {}
    for each in events:
        if isinstance(each, DeliveredEvent):
            before = seen.get((each.subject, each.data.stream_id))
            note("out of order" if before is not None and each.data.seq < before else "in order")
            seen[each.subject, each.data.stream_id] = each.data.seq
    assert fold_wire(events, received_at=None) == fold(map(to_domain, events))


BEFORE = (timedelta(0), timedelta(minutes=5, seconds=-1), timedelta(hours=1), timedelta(days=2))
RECEIVED = st.sampled_from([T0 - before for before in BEFORE])
LONG_AGO = [datetime(year, 12, 31, tzinfo=UTC) for year in (1970, 2019)]
ODD_TIMES = st.sampled_from([T0, T0 + timedelta(days=400), *LONG_AGO])


@settings(max_examples=300)
@given(st.lists(st.tuples(st.one_of(DELIVERED, DELIVERED, STARTS, ENDS), ODD_TIMES), max_size=10), RECEIVED)
def test_the_quick_fold_reads_wrong_clocks_as_the_domain_does(
    drawn: list[tuple[WireEvent, datetime]], received_at: datetime
) -> None:
    events = [msgspec.structs.replace(event, time=event.time + (time - T0)) for event, time in drawn]
    expected = join_all(facts_of(to_domain(event), received_at=received_at) for event in events)
    note("misdated" if any(facts.misdated for facts in expected.values()) else "plausible")
    assert fold_wire(events, received_at=received_at) == expected


def test_decoded_events_are_what_was_folded() -> None:
    body = b"""[{"specversion":"1.0","type":"token-delivered","source":"/g","id":"1","subject":"acme",
        "time":"2026-11-23T15:00:00Z","data":{"stream_id":"s","seq":2,"output_tokens":40}},
        {"specversion":"1.0","type":"token-delivered","source":"/g","id":"2","subject":"acme",
        "time":"2026-11-23T15:00:01Z","data":{"stream_id":"s","seq":1,"output_tokens":20}}]"""
    (facts,) = fold_wire(decode_json(body).events, received_at=T0).values()
    assert facts.delivered is not None
    assert (facts.delivered.seq, facts.delivered.output_tokens) == (2, 40)
    assert facts.last_event_at == T0 + timedelta(seconds=1)
