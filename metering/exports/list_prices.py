"""List prices after a discount of 100 %: the billed rate is 0, so the rate is looked up in the rate card again."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from metering.core.money import EXACT
from metering.events.usage import Usage, UsageKind
from metering.exports.queries.usage import UsageSum
from metering.prices.rates import RateCard
from metering.prices.rating import rates_of_card

_RATED_BY = UsageSum._fields.index("rated_by")


class RatedBy(msgspec.Struct, frozen=True, kw_only=True):
    """What selects the rates of a card: the stream's start, its service tier and its usage."""

    at: datetime
    service_tier: str | None
    usage: Usage


_decode = msgspec.json.Decoder(RatedBy).decode


def with_list_prices(
    cards: Mapping[str, RateCard], batches: Iterable[Sequence[UsageSum]]
) -> Iterator[Sequence[UsageSum]]:
    """The rows, with the list price where the discount is 100 %; `cards` are the cards of those rows, by id.

    Those rows come one for each stream, and leave summed by list price.
    """

    def list_price(row: UsageSum) -> Decimal:
        assert row.kind is not None
        assert row.usd_per_million is not None
        assert row.rated_by is not None
        by, card = _decode(row.rated_by), cards.get(row.rate_card_id or "")
        rates = rates_of_card(usage=by.usage, card=card, service_tier=by.service_tier, at=by.at) if card else {}
        rate = rates.get(UsageKind(row.kind))
        return rate.usd if rate else row.usd_per_million

    return _summed(batches, list_price)


def _summed(
    batches: Iterable[Sequence[UsageSum]], list_price: Callable[[UsageSum], Decimal]
) -> Iterator[Sequence[UsageSum]]:
    """Rows that differ in `rated_by` only follow one another, so few are held at a time."""
    held: dict[Decimal, UsageSum] = {}
    key: tuple[object, ...] = ()
    for batch in batches:
        rows: list[UsageSum] = []
        for row in batch:
            if held and (row.rated_by is None or row[:_RATED_BY] != key):
                rows += _used(held)
                held.clear()
            if row.rated_by is None:
                rows.append(row)
                continue
            key, price = row[:_RATED_BY], list_price(row)
            held[price] = _sum(held.get(price), row, price)
        yield rows
    yield _used(held)


def _sum(before: UsageSum | None, row: UsageSum, price: Decimal) -> UsageSum:
    if before is None:
        return row._replace(list_usd_per_million=price)
    assert before.quantity is not None
    assert row.quantity is not None
    return before._replace(
        quantity=EXACT.add(before.quantity, row.quantity),
        usd_cents=EXACT.add(before.usd_cents, row.usd_cents),
        stream_count=before.stream_count + row.stream_count,
    )


def _used(held: dict[Decimal, UsageSum]) -> list[UsageSum]:
    return [held[price] for price in sorted(held) if held[price].quantity or held[price].usd_cents]
