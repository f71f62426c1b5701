"""The advice for a conflicting stream fits its reason: an event is advised only where it resolves the conflict."""

from datetime import timedelta

import pytest

from metering.corrections.queries import BacklogItem
from metering.events.events import UsageEvent, UsageSource
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State
from metering.streams.store.streams import StoredStream
from metering.streams.stream import StreamFacts, fold
from tests.builders import NOW, T0, end, start

STARTS = (start(), start(model="claude-opus-4.6", time=T0 + timedelta(seconds=1)))
BETTER_END = end(usage_source=UsageSource.PROVIDER)


def ends(source: UsageSource) -> tuple[UsageEvent, UsageEvent]:
    return end(usage_source=source), end(usage_source=source, output=38)


def facts_of(*events: UsageEvent) -> StreamFacts:
    (facts,) = fold(events).values()
    return facts


def advice(*events: UsageEvent) -> BacklogItem:
    facts = facts_of(*events)
    assert facts.conflicting
    return BacklogItem(
        stream=StoredStream(
            facts=facts, last_received_at=NOW, state=State.CONFLICTING, state_reason=None, revision=None
        ),
        since=NOW,
    )


@pytest.mark.parametrize("source", [UsageSource.GATEWAY_COUNT, UsageSource.ESTIMATE])
def test_a_better_end_is_advised_for_contradicting_ends_and_resolves_them(source: UsageSource) -> None:
    events = (start(), *ends(source))
    item = advice(*events)
    assert "send a stream-end with a usage_source that ranks higher" in item.fix
    assert "bill_as_is or write_off" in item.fix
    assert not facts_of(*events, BETTER_END).conflicting


@pytest.mark.parametrize("others", [(), (end(),), ends(UsageSource.GATEWAY_COUNT)])
def test_no_event_is_advised_for_contradicting_starts_because_none_resolves_them(
    others: tuple[UsageEvent, ...],
) -> None:
    item = advice(*STARTS, *others)
    assert item.fix.startswith("resolve it with bill_as_is or write_off")
    assert item.actions == (ResolutionAction.BILL_AS_IS, ResolutionAction.WRITE_OFF)
    assert facts_of(*STARTS, *others, BETTER_END).conflicting


def test_no_event_is_advised_for_ends_of_the_highest_usage_source() -> None:
    assert advice(start(), *ends(UsageSource.PROVIDER)).fix.startswith("resolve it with bill_as_is or write_off")


def test_bill_as_is_is_not_advised_without_a_start() -> None:
    item = advice(*ends(UsageSource.PROVIDER))
    assert item.fix.startswith("resolve it with write_off (bill_as_is needs the stream-start)")
    assert item.actions == (ResolutionAction.WRITE_OFF,)
