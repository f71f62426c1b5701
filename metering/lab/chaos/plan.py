"""The size of a run, and what a command line leaves open about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a run. `longest` is the longest time of a fault, in seconds.

    It goes on after the last fault until there are so many `streams`.
    """

    seed: int
    seconds: float
    faults: int
    events_per_second: float
    gateways: int = 3
    customers: int = 200
    longest: float = 8.0
    abandon_after: int = 20
    settle_seconds: float = 600.0
    clients: int = 64
    streams: int = 0
    streams_per_second: float = 40.0


_SHORT_EVENTS, _LONG_EVENTS = 6_000.0, 2_500.0
# Emitters send about 19 events for each stream of all senders. This gives the time for a number of streams.
_EVENTS_PER_STREAM = 19


def planned(
    *,
    seed: int,
    minutes: float,
    faults: int | None,
    events_per_second: float | None,
    gateways: int,
    clients: int,
    streams: int | None,
) -> Plan:
    """The plan of a run of so many `minutes`, or of the time that a number of `streams` takes.

    A run of many streams has fewer faults a minute and fewer events of emitters, so that the clients can work;
    with more events a second it takes less time.

    >>> plan = planned(seed=1, minutes=3, faults=None, events_per_second=None, gateways=3, clients=64,
    ...                streams=200_000)
    >>> round(plan.seconds), plan.faults, plan.events_per_second
    (1520, 177, 2500.0)
    """
    events = events_per_second or (_SHORT_EVENTS if streams is None else _LONG_EVENTS)
    seconds = minutes * 60 if streams is None else streams * _EVENTS_PER_STREAM / events
    return Plan(
        seed=seed,
        seconds=seconds,
        faults=faults or round(seconds / 60 * (34 if streams is None else 7)),
        events_per_second=events,
        gateways=gateways,
        clients=clients,
        streams=streams or 0,
    )
