"""Rating: usage x rates -> charge lines. Each line can be checked with pencil and paper.

1. split   the usage into parts that do not overlap (`events/nesting.py`); a price per request adds one part
2. find    the rate of each part: its own, or that of the counter in which it is nested
3. mark up the rate, if the customer has a markup: rate x (100 + percent) / 100
4. price   quantity x USD per million / 10,000 = cents; of time, seconds x USD per hour / 36, to 12 decimal places
5. sum     the lines
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from metering.core.errors import MeteringError
from metering.core.money import EXACT, ZERO, cents_of, cents_of_time, with_percent
from metering.events.nesting import Part, input_size, parts_of
from metering.events.usage import Quantity, Usage, UsageKind
from metering.prices.rates import RateCard, RateTable


class RateMissingError(MeteringError):
    """A used kind has no rate; the stream is unpriced, never free."""

    def __init__(self, *, kind: UsageKind, priced: Collection[UsageKind] = ()) -> None:
        what = kind.value if kind in _MEASURES and _MEASURES[kind] != _TOKENS else f"{kind.value} tokens"
        others = sorted(each.value for each in priced if _MEASURES.get(each, _TOKENS) != _TOKENS)
        instead = f" (it has rates for {', '.join(others)})" if others and kind not in priced else ""
        super().__init__(f"no rate for {what}{instead}")
        self.kind = kind


class ChargeLine(Struct, frozen=True, kw_only=True, gc=False):
    """`usd_cents` = `quantity` x `usd_per_million` / 10,000; the rate includes the customer's markup.

    A kind that is measured in seconds has `usd_per_hour` instead: seconds x USD per hour / 36.
    """

    kind: UsageKind
    quantity: Quantity
    usd_per_million: Decimal | None
    usd_cents: Decimal
    usd_per_hour: Decimal | None = None

    @property
    def usd(self) -> Decimal:
        """The rate, in the unit of the kind."""
        return (self.usd_per_hour if self.usd_per_million is None else self.usd_per_million) or ZERO


class Rated(Struct, frozen=True, gc=False):
    """The lines of a usage, and the kinds that had no rate of their own and were priced as what they nest in."""

    lines: tuple[ChargeLine, ...]
    at_parent_rate: tuple[UsageKind, ...] = ()


def rate_by_card(
    *, usage: Usage, card: RateCard, service_tier: str | None, at: datetime, markup_percent: Decimal = ZERO
) -> Rated:
    """The charge lines of a stream that started at `at`. `service_tier` is as the provider writes it.

    Raises:
        RateMissingError: a kind was used, and neither it nor what it nests in has a rate.
    """
    rates = rates_of_card(usage=usage, card=card, service_tier=service_tier, at=at)
    return rate_usage(usage=usage, rates=rates, elsewhere=card.kinds, markup_percent=markup_percent)


def rates_of_card(*, usage: Usage, card: RateCard, service_tier: str | None, at: datetime) -> RateTable:
    """The rates of a card, before any markup, for a stream that started at `at`."""
    tier = service_tier.strip().lower() if service_tier else None
    return card.rates_for(input_tokens=input_size(usage), service_tier=tier, at=at)


def rate_usage(
    *,
    usage: Usage,
    rates: RateTable,
    elsewhere: Collection[UsageKind] = (),
    markup_percent: Decimal = ZERO,
) -> Rated:
    """The charge lines for this usage; unused kinds have no line. Nested counters have to fit their parents.

    Kinds `elsewhere` have a rate under other conditions; under these, no other rate stands in for it.

    Raises:
        RateMissingError: a kind was used, and neither it nor what it nests in has a rate.
    """
    quantities: dict[UsageKind, Quantity] = {}
    at_parent_rate: list[UsageKind] = []
    parts = parts_of(usage)
    for part in parts:
        kind = part.kind
        if kind not in rates:
            if _is_measured_otherwise(part, parts, rates):
                continue
            kind = _parent_of(part, rates, elsewhere)
            if part.kind not in _TEXT_ANYWAY:
                at_parent_rate.append(part.kind)
        quantities[kind] = quantities.get(kind, 0) + part.quantity
    if UsageKind.REQUEST in rates:
        quantities[UsageKind.REQUEST] = 1
    lines = [_line(kind, quantity, rates[kind].usd, markup_percent) for kind, quantity in quantities.items()]
    if len(lines) > 1:
        lines.sort(key=_place)
    return Rated(tuple(lines), tuple(at_parent_rate))


def upstream_cost_line(*, upstream_cost_usd: Decimal, markup_percent: Decimal) -> ChargeLine:
    """The one line of a stream whose price is what its upstream says that it cost."""
    return _line(UsageKind.UPSTREAM_COST, 1, EXACT.scaleb(upstream_cost_usd, 6), markup_percent)


def _line(kind: UsageKind, quantity: Quantity, usd: Decimal, markup_percent: Decimal) -> ChargeLine:
    if markup_percent:
        usd = with_percent(usd, percent=markup_percent)
    if type(quantity) is not int:
        seconds = Decimal(quantity)
        return ChargeLine(
            kind=kind,
            quantity=seconds,
            usd_per_million=None,
            usd_per_hour=usd,
            usd_cents=cents_of_time(seconds=seconds, usd_per_hour=usd),
        )
    return ChargeLine(
        kind=kind,
        quantity=quantity,
        usd_per_million=usd,
        usd_cents=cents_of(quantity=quantity, usd_per_million=usd),
    )


_PLACES = {kind: place for place, kind in enumerate(UsageKind)}


def _place(line: ChargeLine) -> int:
    return _PLACES[line.kind]


# Providers count these as output and price them so, unless they say otherwise.
_TEXT_ANYWAY = frozenset({UsageKind.REASONING, UsageKind.CITATION})


def _parent_of(part: Part, rates: RateTable, elsewhere: Collection[UsageKind]) -> UsageKind:
    parent = next((kind for kind in part.otherwise if kind in rates), None)
    if parent is None or part.kind in elsewhere:
        raise RateMissingError(kind=part.kind, priced=rates.keys())
    return parent


# Other measures of the same work than tokens. A gateway may report several; a card prices one or two.
_TOKENS = "tokens"
_SEARCHES = frozenset({UsageKind.WEB_SEARCHES, UsageKind.STORAGE_SEARCHES, UsageKind.REQUEST})
_OTHER_MEASURES = {
    UsageKind.AUDIO_SECONDS: "seconds",
    UsageKind.INPUT_AUDIO_SECONDS: "seconds",
    UsageKind.INPUT_CHARACTERS: "characters",
    UsageKind.INPUT_DOCUMENT_PAGES: "pages",
    UsageKind.INPUT_ANNOTATED_DOCUMENT_PAGES: "pages",
    UsageKind.INPUT_TEXT_MESSAGES: "messages",
}
# What the work of a model can be measured by; a card prices at least one of these.
MEASURED_INPUT = frozenset({UsageKind.INPUT, *_OTHER_MEASURES})
_MEASURES = {kind: _OTHER_MEASURES.get(kind, _TOKENS) for kind in UsageKind if kind not in _SEARCHES}


def _is_measured_otherwise(part: Part, parts: Sequence[Part], rates: RateTable) -> bool:
    """Whether the card has no price in the measure of this part, and one in another measure of the usage."""
    measure = _MEASURES.get(part.kind)
    if measure is None:
        return False
    priced = {_MEASURES[kind] for kind in rates if kind in _MEASURES}
    used = {_MEASURES[each.kind] for each in parts if each.kind in _MEASURES}
    return measure not in priced and bool(used & priced)
