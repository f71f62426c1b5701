"""The service tier: the usage's, then the answer's, then the request's; matched whatever its case."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from metering.core.money import sum_cents
from metering.events.usage import Usage, UsageKind
from metering.prices.rates import Rate, RateCard
from metering.prices.rating import rate_by_card
from metering.prices.service_tiers import service_tier_of
from tests.builders.catalogues import PRICES

AT = datetime(2026, 11, 23, tzinfo=UTC)
STANDARD = ("standard", "default", "auto", "on_demand", "on-demand", "standard_only", "scale")


@pytest.mark.parametrize(
    ("usage", "answer", "request_", "tier"),
    [
        ("priority", "default", "flex", "priority"),
        (None, "default", "flex", "default"),
        (None, None, "flex", "flex"),
        (None, None, None, None),
        ("", "  ", "flex", "flex"),
        (" Priority ", None, None, " Priority "),
        ("standard", "priority", None, "standard"),
    ],
)
def test_the_tier_is_the_usages_then_the_answers_then_the_requests(
    usage: str | None, answer: str | None, request_: str | None, tier: str | None
) -> None:
    assert service_tier_of(usage=usage, answer=answer, request=request_) == tier


def cents(service_tier: str | None) -> Decimal:
    rates = (
        Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(4)),
        Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(2), service_tier="batch"),
    )
    card = RateCard(
        rate_card_id="rc", provider="p", model="m", effective_from=AT, rates=rates, names={"equals": "m"}
    )
    usage = Usage(input_tokens=10_000)
    return sum_cents(
        line.usd_cents for line in rate_by_card(usage=usage, card=card, service_tier=service_tier, at=AT).lines
    )


@pytest.mark.parametrize("service_tier", ["batch", "BATCH", " Batch\n"])
def test_a_tier_is_matched_whatever_its_case(service_tier: str) -> None:
    assert cents(service_tier) == 2


@pytest.mark.parametrize("service_tier", [None, *STANDARD, "STANDARD", "unheard-of"])
def test_every_name_of_the_standard_tier_has_the_standard_price(service_tier: str | None) -> None:
    assert cents(service_tier) == 4


def test_no_imported_card_has_another_price_for_a_name_of_the_standard_tier() -> None:
    tiers = {rate.service_tier for card in PRICES.cards for rate in card.rates}
    assert tiers == {None, "batch", "fast", "flex", "priority"}
    assert not tiers & set(STANDARD)
