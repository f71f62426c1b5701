"""`metering bench rating`: streams per second that one thread rates, over every model of the catalogue."""

from collections.abc import Iterable
from datetime import UTC, datetime
from time import perf_counter

import msgspec

from metering.core.clock import utc_now
from metering.events.usage import Usage
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import Say
from metering.prices.rate_book import RateBook
from metering.prices.rates import RateCard
from metering.prices.rating import RateMissingError, rate_by_card
from metering.prices.read_prices import read_prices

_AT = datetime(2026, 11, 1, tzinfo=UTC)
_USAGES = [
    Usage(input_tokens=size, output_tokens=140, cache_read_input_tokens=size // 3, reasoning_output_tokens=60)
    for size in (812, 128_001, 272_001)
]


class RatingReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench rating`. A stream is one look-up of a name and one rated usage."""

    machine: Machine
    models: int
    streams_per_second: float
    lines_per_second: float


def bench_rating(*, seconds: float, say: Say) -> RatingReport:
    """Rate three usages of every model for `seconds`; models that lack a price of a kind are left out."""
    catalogue = read_prices()
    book = RateBook(catalogue.cards, catalogue.providers)
    models = list(_rateable(book, catalogue.cards))
    streams = lines = 0
    began = perf_counter()
    while (took := perf_counter() - began) < seconds:
        for provider, model in models:
            lines += _rate(book, provider, model)
            streams += len(_USAGES)
    say(f"{streams / took:,.0f} streams/s over {len(models):,} models, {lines / took:,.0f} lines/s")
    return RatingReport(
        machine=describe_machine(now=utc_now(), postgres="not used"),
        models=len(models),
        streams_per_second=streams / took,
        lines_per_second=lines / took,
    )


def _rateable(book: RateBook, cards: Iterable[RateCard]) -> Iterable[tuple[str, str]]:
    for provider, model in dict.fromkeys((card.provider, card.model) for card in cards):
        try:
            if _rate(book, provider, model):
                yield provider, model
        except RateMissingError:
            continue


def _rate(book: RateBook, provider: str, model: str) -> int:
    lines = 0
    for usage in _USAGES:
        match = book.find(provider=provider, model=model, at=_AT)
        if match is not None:
            lines += len(rate_by_card(usage=usage, card=match.card, service_tier=None, at=_AT).lines)
    return lines
