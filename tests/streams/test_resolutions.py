"""Resolutions: a decision holds for the start and the end that it was made of, and for no others."""

from datetime import timedelta

import pytest

from metering.events.events import UsageEvent
from metering.streams.resolutions import Resolution, ResolutionAction, fingerprints_of
from metering.streams.stream import StreamFacts, fold
from tests.builders.events import T0, delivered, end, start


def facts(*events: UsageEvent) -> StreamFacts:
    (found,) = fold(events).values()
    return found


def decided_of(known: StreamFacts) -> Resolution:
    of_start, of_end = fingerprints_of(known)
    return Resolution(
        customer_id="acme",
        stream_id="s",
        resolved_at=T0,
        action=ResolutionAction.WRITE_OFF,
        reason="told by the gateway's owners",
        resolved_by="finance",
        start_fingerprint=of_start,
        end_fingerprint=of_end,
    )


KNOWN = (start(), end())


@pytest.mark.parametrize(
    "more", [[delivered()], [start(time=T0 + timedelta(seconds=9))], [end(time=T0 + timedelta(seconds=9))]]
)
def test_it_holds_while_the_start_and_the_end_say_the_same(more: list[UsageEvent]) -> None:
    assert decided_of(facts(*KNOWN)).holds_for(facts(*KNOWN, *more))


def test_it_no_longer_holds_when_another_start_or_end_counts() -> None:
    decided = decided_of(facts(*KNOWN))
    earlier = T0 - timedelta(seconds=1)
    assert not decided.holds_for(facts(*KNOWN, start(model="another", time=earlier)))
    assert not decided.holds_for(facts(*KNOWN, end(output=38, time=earlier)))


def test_one_that_was_made_without_a_start_no_longer_holds_when_it_comes() -> None:
    decided = decided_of(facts(end()))
    assert decided.start_fingerprint is None
    assert decided.holds_for(facts(end()))
    assert not decided.holds_for(facts(*KNOWN))
