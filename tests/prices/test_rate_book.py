"""The rate book: which card a name means at a moment, and whose card goes first."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.events.usage import UsageKind
from metering.prices.rate_book import Provider, RateBook
from metering.prices.rates import Rate, RateCard

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LATER = T0 + timedelta(days=30)
RATES = (Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(1)),)


def card(
    card_id: str, *, model: str = "opus", provider: str = "anthropic", names: Any = None, **changes: Any
) -> RateCard:
    given = {"effective_from": T0, "rates": RATES, **changes}
    return RateCard(
        rate_card_id=card_id, provider=provider, model=model, names=names or {"starts_with": model}, **given
    )


def find(
    book: RateBook, model: str, *, provider: str = "anthropic", at: datetime = LATER, customer: str | None = None
) -> str | None:
    found = book.find(provider=provider, model=model, at=at, customer_id=customer)
    return found.card.rate_card_id if found else None


def test_the_card_that_is_in_force_is_found_and_none_before_the_first() -> None:
    book = RateBook([card("new", effective_from=LATER), card("old")])
    moments = (T0 - timedelta(seconds=1), T0, LATER - timedelta(seconds=1), LATER)
    assert [find(book, "opus", at=at) for at in moments] == [None, "old", "old", "new"]


def test_names_are_compared_in_lower_case_and_the_match_says_how_the_name_led_there() -> None:
    found = RateBook([card("one")]).find(provider="Anthropic", model="OPUS-4.7", at=LATER)
    assert found is not None
    assert found.rule == "anthropic/opus-4.7 starts_with opus"


def test_a_card_that_was_set_by_hand_goes_before_the_catalogues_which_keep_their_order() -> None:
    catalogue = [card("broad", model="a", names={"contains": "op"}, position=1), card("opus", position=2)]
    assert find(RateBook(catalogue), "opus") == "broad"
    assert find(RateBook(list(reversed(catalogue))), "opus") == "broad"
    assert find(RateBook([*catalogue, card("by-hand", model="z", names={"equals": "opus"})]), "opus") == "by-hand"


def test_a_customers_own_card_goes_before_everybodys_until_one_without_rates_ends_it() -> None:
    own = card("own", customer_id="acme")
    ended = card("ended", customer_id="acme", rates=(), effective_from=LATER)
    book = RateBook([card("all"), own, ended])
    assert find(book, "opus", customer="acme", at=T0) == "own"
    assert find(book, "opus", customer="acme", at=LATER) == "all"
    assert find(book, "opus", customer="bolt", at=T0) == "all"
    assert find(book, "opus", at=T0) == "all"


def test_an_own_card_that_is_not_in_force_yet_leaves_everybodys() -> None:
    book = RateBook([card("all"), card("own", customer_id="acme", effective_from=LATER)])
    assert find(book, "opus", customer="acme", at=T0) == "all"


def test_a_provider_written_before_the_model_is_taken_off() -> None:
    book = RateBook([card("one", names={"equals": "opus"})], [Provider(provider="anthropic")])
    assert find(book, "anthropic/opus") == "one"
    assert find(book, "openai/opus") is None


def test_a_provider_is_known_by_its_other_names_and_serves_others_models() -> None:
    providers = [
        Provider(provider="anthropic"),
        Provider(provider="aws", names={"contains": "bedrock"}, serves_models_of=("anthropic",)),
    ]
    book = RateBook([card("one")], providers)
    assert find(book, "opus", provider="my-bedrock") == "one"
    assert find(book, "opus", provider="azure") is None


def test_litellms_provider_is_the_models_prefix() -> None:
    book = RateBook([card("one", names={"equals": "opus"})], [Provider(provider="anthropic")])
    assert find(book, "anthropic/opus", provider="litellm") == "one"
    assert find(book, "opus", provider="litellm") is None


@pytest.mark.parametrize(
    ("written", "found"), [("opus-20260131", "one"), ("opus-2026-01-31", "one"), ("opus-20261331", None)]
)
def test_a_compact_date_means_the_same_as_one_with_dashes(written: str, found: str | None) -> None:
    assert find(RateBook([card("one", names={"equals": "opus-2026-01-31"})]), written) == found


def test_a_card_is_found_by_its_id_and_an_unknown_model_has_none() -> None:
    book = RateBook([card("one")])
    assert book.card("one") is not None
    assert book.card("two") is None
    assert find(book, "gpt") is None
    assert find(book, "opus", provider="openai") is None
