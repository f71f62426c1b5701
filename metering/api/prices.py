"""The price book over HTTP: rate cards, cancel policies, markups. A change is a new dated row."""

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field, model_validator

from metering.api.auth import Admin, Reader, require_customer
from metering.api.fields import Id, Name
from metering.api.paging import Cursor, Limit, page_of
from metering.api.reading import Db, TheService
from metering.api.shapes import Page, time_text
from metering.api.stream_paths import text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, moment_in
from metering.core.money import cents_text
from metering.events.usage import UsageKind
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.price_book import Markup
from metering.prices.queries import RateCardFilter, list_cancel_policies, list_markups, list_rate_cards
from metering.prices.rates import DailyWindow, Rate, RateCard
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_cancel_policy, set_markup

router = APIRouter(prefix="/v1", tags=["prices"])

# Within these bounds every product and sum of them stays exact (domain/money.py).
UsdPerMillion = Annotated[
    Decimal, Field(ge=0, max_digits=20, decimal_places=12, allow_inf_nan=False, strict=False)
]
Percent = Annotated[
    Decimal, Field(ge=-100, le=10_000, max_digits=10, decimal_places=6, allow_inf_nan=False, strict=False)
]


class DailyInput(BaseModel):
    """A stretch of every day in UTC, half-open; it may run past midnight."""

    start: time
    end: time

    @model_validator(mode="after")
    def _is_a_stretch(self) -> "DailyInput":
        if self.start == self.end or self.start.tzinfo or self.end.tzinfo:
            raise ValueError("start and end must differ and have no offset: they are UTC")
        return self


class RateInput(BaseModel):
    """USD per million units of a kind, as a string. The conditions, where given, all have to hold."""

    kind: UsageKind
    usd_per_million: UsdPerMillion
    above_input_tokens: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    service_tier: Id | None = None
    daily: DailyInput | None = None

    def rate(self) -> Rate:
        """In the domain's words."""
        return Rate(
            kind=self.kind,
            usd_per_million=self.usd_per_million,
            above_input_tokens=self.above_input_tokens,
            service_tier=self.service_tier.lower() if self.service_tier else None,
            daily=DailyWindow(self.daily.start, self.daily.end) if self.daily else None,
        )


class RateCardInput(BaseModel):
    """A new card for a model. It takes effect now unless a time is given.

    With `customer_id` it is that customer's own; an empty list of rates then ends the customer's own price.
    """

    rates: Annotated[list[RateInput], Field(max_length=500)]
    effective_from: AwareDatetime | None = None
    customer_id: Id | None = None


class CancelPolicyInput(BaseModel):
    """A new policy of a provider, for streams that start from `effective_from` (default: now) on."""

    policy: CancelPolicy
    effective_from: AwareDatetime | None = None


class MarkupInput(BaseModel):
    """A new markup of a customer, in percent of everybody's rates, as a string; below zero it is a discount."""

    percent: Percent
    effective_from: AwareDatetime | None = None


@router.get("/rates")
def read_rates(
    key: Reader,
    connection: Db,
    provider: str | None = None,
    model: str | None = None,
    customer_id: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """Rate cards with their dates, by provider, model and date; with `customer_id` its own and everybody's."""
    position = decode_cursor(cursor, length=4)
    after = (position[0], position[1], moment_in(position[2]), position[3]) if position else None
    where = RateCardFilter(
        provider=text_of(provider),
        model=text_of(model),
        customer_id=require_customer(key, text_of(customer_id)),
    )
    cards = list_rate_cards(connection, where=where, after=after, limit=limit + 1)
    return page_of(
        cards,
        limit=limit,
        shape=lambda each: rate_card_shape(each.card, each.provenance),
        position=lambda each: _position(each.card),
    )


def _position(card: RateCard) -> list[str]:
    return [card.provider, card.model, card.effective_from.isoformat(), card.customer_id or ""]


@router.put("/rates/{provider}/{model:path}")
def write_rate(
    provider: Name, model: Name, given: RateCardInput, key: Admin, service: TheService
) -> dict[str, Any]:
    """Add a dated rate card. What is booked stays as it is; unpriced streams that it prices finalize."""
    now = utc_now()
    card = set_rate(
        engine=service.engine,
        provider=provider,
        model=model,
        effective_from=_from(given.effective_from, now),
        rates=[rate.rate() for rate in given.rates],
        customer_id=given.customer_id,
        set_by=f"key {key.key_id}",
        now=now,
    )
    return rate_card_shape(card, f"set by key {key.key_id}")


@router.get("/cancel-policies")
def read_cancel_policies(_: Reader, connection: Db, provider: str | None = None) -> Page:
    """Every cancel policy ever set. A provider without one has `delivered`, version 0."""
    found = list_cancel_policies(connection, provider=text_of(provider))
    return Page(
        data=[cancel_policy_shape(each.terms, each.provenance, each.created_at) for each in found],
        next_cursor=None,
    )


@router.put("/cancel-policies/{provider}")
def write_cancel_policy(
    provider: Name, given: CancelPolicyInput, key: Admin, service: TheService
) -> dict[str, Any]:
    """Add a dated cancel policy of a provider."""
    now, set_by = utc_now(), f"key {key.key_id}"
    terms = set_cancel_policy(
        engine=service.engine,
        provider=provider,
        policy=given.policy,
        effective_from=_from(given.effective_from, now),
        set_by=set_by,
        now=now,
    )
    return cancel_policy_shape(terms, f"set by {set_by}", now)


@router.get("/markups/{customer_id:path}")
def read_markups(customer_id: Id, key: Reader, connection: Db) -> Page:
    """A customer's markups, oldest first; none means flat passthrough."""
    require_customer(key, customer_id)
    found = list_markups(connection, customer_id=customer_id)
    return Page(
        data=[markup_shape(each.markup, each.provenance, each.created_at) for each in found], next_cursor=None
    )


@router.put("/markups/{customer_id:path}")
def write_markup(customer_id: Id, given: MarkupInput, key: Admin, service: TheService) -> dict[str, Any]:
    """Add a dated markup of a customer."""
    now, set_by = utc_now(), f"key {key.key_id}"
    markup = set_markup(
        engine=service.engine,
        customer_id=customer_id,
        percent=given.percent,
        effective_from=_from(given.effective_from, now),
        set_by=set_by,
        now=now,
    )
    return markup_shape(markup, f"set by {set_by}", now)


def _from(given: datetime | None, now: datetime) -> datetime:
    return (given or now).astimezone(UTC)


def rate_card_shape(card: RateCard, provenance: str) -> dict[str, Any]:
    """A rate card with its rates; a condition that a rate does not have is left out."""
    return {
        "rate_card_id": card.rate_card_id,
        "provider": card.provider,
        "model": card.model,
        "customer_id": card.customer_id,
        "effective_from": time_text(card.effective_from),
        "provenance": provenance,
        "rates": [_rate_shape(rate) for rate in card.rates],
    }


def _rate_shape(rate: Rate) -> dict[str, Any]:
    return {
        "kind": rate.kind.value,
        "usd_per_million": cents_text(rate.usd_per_million),
        "above_input_tokens": rate.above_input_tokens,
        **({"service_tier": rate.service_tier} if rate.service_tier else {}),
        **(
            {"daily": {"start": rate.daily.start.isoformat(), "end": rate.daily.end.isoformat()}}
            if rate.daily
            else {}
        ),
    }


def cancel_policy_shape(terms: CancelTerms, provenance: str, created_at: datetime) -> dict[str, Any]:
    """A provider's cancel policy."""
    return {
        "provider": terms.provider,
        "policy": terms.policy.value,
        "version": terms.version,
        "effective_from": time_text(terms.effective_from),
        "provenance": provenance,
        "created_at": time_text(created_at),
    }


def markup_shape(markup: Markup, provenance: str, created_at: datetime) -> dict[str, Any]:
    """A customer's markup."""
    return {
        "customer_id": markup.customer_id,
        "percent": cents_text(markup.percent),
        "effective_from": time_text(markup.effective_from),
        "provenance": provenance,
        "created_at": time_text(created_at),
    }
