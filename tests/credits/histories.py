"""Random histories of one customer's grants, as hypothesis draws them: few values, so that ties come up."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import strategies as st

T0 = datetime(2026, 11, 28, 12, tzinfo=UTC)
STREAMS = ("s1", "s2", "s3")
MODELS = ("gpt-5.5", "claude-opus-4.7")
# A unit of the oracle in cents.
UNIT = Decimal("0.000123")


@dataclass(frozen=True, slots=True)
class Make:
    """A grant is made, expiring `expires` hours later."""

    units: int
    paid_cents: int
    priority: int
    starts: int
    expires: int | None
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """Units are booked for a stream, or (None) for the customer as a whole; below 0 takes back."""

    stream: str | None
    units: int
    model: str


@dataclass(frozen=True, slots=True)
class End:
    """A grant, by its place, is voided, or a part of what is left is refunded."""

    place: int
    refund: bool
    units: int


@dataclass(frozen=True, slots=True)
class Wait:
    """The clock moves on; another worker's may be behind."""

    hours: int


Step = Make | Book | End | Wait

_makes = st.builds(
    Make,
    units=st.integers(1, 12),
    paid_cents=st.sampled_from([0, 1, 7, 1000]),
    priority=st.sampled_from([1, 500]),
    starts=st.sampled_from([0, 0, 0, 5]),
    expires=st.sampled_from([None, 6, 24, 24]),
    models=st.sampled_from([(), (), (MODELS[0],)]),
)
_books = st.builds(
    Book,
    stream=st.sampled_from([*STREAMS, None]),
    units=st.integers(-12, 15).filter(bool),
    model=st.sampled_from(MODELS),
)
_ends = st.builds(End, place=st.integers(0, 5), refund=st.booleans(), units=st.integers(1, 12))
_waits = st.builds(Wait, hours=st.sampled_from([-1, 1, 1, 5, 20]))
histories = st.lists(st.one_of(_makes, _books, _books, _books, _ends, _waits), min_size=1, max_size=40)


def cents(units: int) -> Decimal:
    """Units of the oracle in cents."""
    return UNIT * units


def later(hours: int) -> timedelta:
    return timedelta(hours=hours)
