"""Rate cards: the prices of a model's tokens, from when and for whom they apply, and the names of the model."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from hashlib import blake2b

from metering.events.usage import TIMED_KINDS, UsageKind
from metering.prices.model_names import NameClause
from metering.prices.windows import DailyWindow, Weekday

# A price without a start date has always been in force.
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """USD per million units of a kind, or per hour of a kind that is measured in seconds.

    It can be limited to requests with more than `above_input_tokens` input tokens, to one service tier, or to a
    window of the day and the week.
    """

    kind: UsageKind
    usd_per_million: Decimal | None = None
    above_input_tokens: int = 0
    service_tier: str | None = None
    daily: DailyWindow | None = None
    usd_per_hour: Decimal | None = None

    @property
    def usd(self) -> Decimal:
        """The price, in the unit of the kind."""
        price = self.usd_per_hour if self.kind in TIMED_KINDS else self.usd_per_million
        if price is None:
            raise ValueError(f"a rate for {self.kind.value} has its price {unit_name(self.kind)}")
        return price


def unit_name(kind: UsageKind) -> str:
    """The unit of a kind's prices in words."""
    return "per hour" if kind in TIMED_KINDS else "per million"


def priced(
    *,
    kind: UsageKind,
    usd: Decimal,
    above_input_tokens: int = 0,
    service_tier: str | None = None,
    daily: DailyWindow | None = None,
) -> Rate:
    """A rate of this price, in the unit of the kind."""
    per_hour = kind in TIMED_KINDS
    return Rate(
        kind=kind,
        usd_per_million=None if per_hour else usd,
        usd_per_hour=usd if per_hour else None,
        above_input_tokens=above_input_tokens,
        service_tier=service_tier,
        daily=daily,
    )


_NO_WINDOW: tuple[time, time, tuple[Weekday, ...]] = (time(), time(), ())


def in_order(rates: Iterable[Rate]) -> tuple[Rate, ...]:
    """Rates in the order in which cards store, show and compare them."""
    return tuple(
        sorted(
            rates,
            key=lambda rate: (
                rate.service_tier or "",
                (rate.daily.start, rate.daily.end, rate.daily.weekdays) if rate.daily else _NO_WINDOW,
                rate.kind.value,
                rate.above_input_tokens,
            ),
        )
    )


RateTable = Mapping[UsageKind, Rate]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """The rates of one model from `effective_from` until its next card; never changed.

    A card with a `customer_id` is that customer's own, and takes precedence over the shared card. A customer's
    card without rates ends the customer's own price: the shared card applies again.
    """

    rate_card_id: str
    provider: str
    model: str
    effective_from: datetime
    rates: tuple[Rate, ...]
    names: NameClause
    position: int | None = None
    customer_id: str | None = None
    _tables: dict[tuple[str | None, tuple[DailyWindow, ...]], "_Sizes"] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _windows: tuple[DailyWindow, ...] = field(init=False, repr=False, compare=False, default=())
    _kinds: frozenset[UsageKind] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_windows", tuple(sorted({rate.daily for rate in self.rates if rate.daily})))
        object.__setattr__(self, "_kinds", frozenset(rate.kind for rate in self.rates))

    @property
    def kinds(self) -> frozenset[UsageKind]:
        """The kinds that have a rate, under whatever condition."""
        return self._kinds

    def rates_for(self, *, input_tokens: int, service_tier: str | None, at: datetime) -> RateTable:
        """The rate of each kind, for a request of this size and service tier that started at `at`.

        The most specific rates of a kind apply: first those of the service tier, then those of the time of day. Of
        these the size selects one, which prices the whole request (genai_prices.types, `TieredPrices`). The
        windows of a kind do not overlap (`check_rates.py`), so at every time one rate of each kind applies.
        """
        windows = tuple(window for window in self._windows if window.contains(at)) if self._windows else ()
        sizes = self._tables.get((service_tier, windows))
        if sizes is None:
            sizes = _sizes(self.rates, service_tier, windows)
            if len(self._tables) < _MAX_TABLES:
                self._tables[service_tier, windows] = sizes
        for above, table in sizes:
            if input_tokens > above:
                return table
        raise AssertionError("the last rates apply to any size")


# Service tiers come from clients, so the cache has a limit.
_MAX_TABLES = 32

# (threshold in input tokens, rates above it), largest threshold first; the last applies to any size.
_Sizes = Sequence[tuple[int, RateTable]]


def _sizes(rates: Iterable[Rate], service_tier: str | None, windows: Collection[DailyWindow]) -> _Sizes:
    chosen: dict[UsageKind, list[Rate]] = {}
    always = (None,)
    for tier, open_ in ((None, always), (None, windows), (service_tier, always), (service_tier, windows)):
        of_layer: dict[UsageKind, list[Rate]] = {}
        for rate in rates:
            if rate.service_tier == tier and rate.daily in open_:
                of_layer.setdefault(rate.kind, []).append(rate)
        chosen |= of_layer
    every = [rate for of_kind in chosen.values() for rate in of_kind]
    thresholds = sorted({rate.above_input_tokens for rate in every if rate.above_input_tokens}, reverse=True)
    return [(above, _at_size(every, above)) for above in (*thresholds, _ANY_SIZE)]


_ANY_SIZE = -1


def _at_size(rates: Iterable[Rate], above: int) -> RateTable:
    """The rate of each kind with the highest threshold that requests above `above` pass."""
    table: dict[UsageKind, Rate] = {}
    for rate in sorted(rates, key=lambda rate: rate.above_input_tokens):
        if rate.above_input_tokens <= max(above, 0):
            table[rate.kind] = rate
    return table


def rate_card_id_of(
    *,
    provider: str,
    model: str,
    effective_from: datetime,
    rates: Iterable[Rate],
    customer_id: str | None = None,
) -> str:
    """The id of a card: a hash of its content, so that importing it twice yields the same id."""
    parts = [provider, model, effective_from.astimezone(UTC).isoformat(), *map(_rate_text, rates)]
    if customer_id is not None:
        parts.append(f"for {customer_id}")
    return f"rc_{blake2b('|'.join(parts).encode(), digest_size=10).hexdigest()}"


def id_by_content(card: RateCard) -> str:
    """The id computed from the content of a card. It equals `rate_card_id` unless the card was tampered with."""
    return rate_card_id_of(
        provider=card.provider,
        model=card.model,
        effective_from=card.effective_from,
        rates=card.rates,
        customer_id=card.customer_id,
    )


def _rate_text(rate: Rate) -> str:
    text = f"{rate.kind.value}>{rate.above_input_tokens}={rate.usd.normalize() if rate.usd else 0}"
    if rate.service_tier is not None:
        text += f" in {rate.service_tier}"
    if rate.daily is not None:
        text += f" from {rate.daily.start} to {rate.daily.end}"
        if rate.daily.weekdays:
            text += f" on {','.join(rate.daily.weekdays)}"
    return text
