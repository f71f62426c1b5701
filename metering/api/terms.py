"""Dated terms over HTTP: cancel policies, markups of customers, and accepted upstream prices."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Path
from pydantic import Field, StrictBool
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import CustomerId, Percent, Provider, Time, described, time_text
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Page, whole_page
from metering.api.parameters import (
    Db,
    EffectiveFrom,
    Id,
    Input,
    PlainNumber,
    ProviderFilter,
    TheService,
    decimal_schema,
)
from metering.api.prices import ProviderPath
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.money import cents_text
from metering.customers.store import InvalidCustomerIdError
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.price_book import Markup as SetMarkup
from metering.prices.price_book import UpstreamPrice as BookedPrice
from metering.prices.queries import list_cancel_policies, list_markups, list_upstream_prices
from metering.prices.set_terms import (
    InvalidMarkupError,
    TermsDateTakenError,
    set_cancel_policy,
    set_markup,
    set_upstream_price,
)

router = v1_router("prices")

PercentInput = Annotated[
    Decimal,
    PlainNumber,
    Field(ge=-100, le=10_000, max_digits=11, decimal_places=6, allow_inf_nan=False),
    decimal_schema(
        example="20",
        pattern=r"^(-(100|[0-9]{1,2})|10000|[0-9]{1,4})(\.0{1,6})?$|^-?[0-9]{1,2}\.[0-9]{1,6}$|^[0-9]{3,4}\.[0-9]{1,6}$",
        least=-100,
        most=10_000,
    ),
]
CustomerPath = Annotated[Id, Path(description="The customer.", examples=["acme"])]
_PROVENANCE = described("Where it comes from.", example="set by key k1")


class CancelPolicyInput(Input):
    """A new cancel policy of a provider."""

    policy: Annotated[CancelPolicy, Field(description="What a stream costs that did not complete.")]
    effective_from: EffectiveFrom = None


class MarkupInput(Input):
    """A new markup of a customer."""

    percent: Annotated[
        PercentInput, Field(description="Percent of the common rates, as a string; below 0 it is a discount.")
    ]
    effective_from: EffectiveFrom = None


class CancelPolicyVersion(TypedDict):
    """A cancel policy of a provider, for streams that start from `effective_from` on."""

    provider: Provider
    policy: Annotated[CancelPolicy, described("What a stream costs that did not complete.")]
    version: Annotated[int, described("Counts the provider's policies, from 1.")]
    effective_from: Annotated[Time, described("The start time of the first stream that it applies to.")]
    provenance: Annotated[str, _PROVENANCE]
    created_at: Annotated[Time, described("When it was set.")]


class Markup(TypedDict):
    """A markup of a customer, on the common rates, for streams that start from `effective_from` on."""

    customer_id: CustomerId
    percent: Annotated[Percent, described("Percent of the common rates; below 0 it is a discount.")]
    effective_from: Annotated[Time, described("The start time of the first stream that it applies to.")]
    provenance: Annotated[str, _PROVENANCE]
    created_at: Annotated[Time, described("When it was set.")]


class UpstreamPriceInput(Input):
    """Whether a provider's own cost is accepted as the price where no rate is."""

    accepted: Annotated[
        StrictBool, Field(description="True: `usage.upstream_cost_usd` prices a model without a rate.")
    ]
    effective_from: EffectiveFrom = None


class UpstreamPrice(TypedDict):
    """Whether a provider's own cost is accepted, for streams that start from `effective_from` on."""

    provider: Provider
    accepted: Annotated[bool, described("Whether it is the price of a model without a rate.")]
    effective_from: Annotated[Time, described("The start time of the first stream that it applies to.")]
    provenance: Annotated[str, described("Who set it.", example="set by key k1")]
    created_at: Annotated[Time, described("When it was set.")]


@router.get("/cancel-policies", operation_id="listCancelPolicies", summary="List cancel policies")
@needs(Scope.POLICIES_READ)
def read_cancel_policies(_: Caller, connection: Db, provider: ProviderFilter = None) -> Page[CancelPolicyVersion]:
    """All cancel policies, in one page, for any key. A provider without one has `delivered`, version 0."""
    found = list_cancel_policies(connection, provider=provider)
    return whole_page([cancel_policy_shape(each.terms, each.provenance, each.created_at) for each in found])


@router.put("/cancel-policies/{provider}", operation_id="putCancelPolicy", summary="Add a cancel policy")
@needs(Scope.RATES_WRITE)
@raises(TermsDateTakenError)
def write_cancel_policy(
    provider: ProviderPath, given: CancelPolicyInput, by: By, service: TheService
) -> CancelPolicyVersion:
    """Add a dated cancel policy of a provider."""
    now = utc_now()
    terms = set_cancel_policy(
        engine=service.engine,
        provider=provider,
        policy=given.policy,
        effective_from=given.effective_from or now,
        set_by=by,
        now=now,
    )
    return cancel_policy_shape(terms, f"set by {by}", now)


@router.get("/markups/{customer_id:id}", operation_id="listMarkups", summary="List a customer's markups")
@needs(Scope.RATES_READ)
def read_markups(customer_id: CustomerPath, key: Caller, connection: Db) -> Page[Markup]:
    """A customer's markups in one page, oldest first; without one the common rates apply unchanged."""
    require_customer(key, customer_id)
    found = list_markups(connection, customer_id=customer_id)
    return whole_page([markup_shape(each.markup, each.provenance, each.created_at) for each in found])


@router.put("/markups/{customer_id:id}", operation_id="putMarkup", summary="Add a markup")
@needs(Scope.RATES_WRITE)
@raises(InvalidMarkupError, InvalidCustomerIdError, TermsDateTakenError)
def write_markup(customer_id: CustomerPath, given: MarkupInput, by: By, service: TheService) -> Markup:
    """Add a dated markup of a customer."""
    now = utc_now()
    markup = set_markup(
        engine=service.engine,
        customer_id=customer_id,
        percent=given.percent,
        effective_from=given.effective_from or now,
        set_by=by,
        now=now,
    )
    return markup_shape(markup, f"set by {by}", now)


@router.get("/upstream-prices", operation_id="listUpstreamPrices", summary="List accepted upstream prices")
@needs(Scope.RATES_READ)
def read_upstream_prices(_: Caller, connection: Db, provider: ProviderFilter = None) -> Page[UpstreamPrice]:
    """All settings, in one page. The cost of a provider without one is not accepted."""
    found = list_upstream_prices(connection, provider=provider)
    return whole_page([upstream_price_shape(each.price, each.provenance, each.created_at) for each in found])


@router.put("/upstream-prices/{provider}", operation_id="putUpstreamPrice", summary="Accept an upstream's prices")
@needs(Scope.RATES_WRITE)
@raises(TermsDateTakenError)
def write_upstream_price(
    provider: ProviderPath, given: UpstreamPriceInput, by: By, service: TheService
) -> UpstreamPrice:
    """Add a dated setting of a provider. A rate card always goes first; booked charges stay unchanged."""
    now = utc_now()
    price = set_upstream_price(
        engine=service.engine,
        provider=provider,
        accepted=given.accepted,
        effective_from=given.effective_from or now,
        set_by=by,
        now=now,
    )
    return upstream_price_shape(price, f"set by {by}", now)


def cancel_policy_shape(terms: CancelTerms, provenance: str, created_at: datetime) -> CancelPolicyVersion:
    """A provider's cancel policy."""
    return {
        "provider": terms.provider,
        "policy": terms.policy,
        "version": terms.version,
        "effective_from": time_text(terms.effective_from),
        "provenance": provenance,
        "created_at": time_text(created_at),
    }


def markup_shape(markup: SetMarkup, provenance: str, created_at: datetime) -> Markup:
    """A customer's markup."""
    return {
        "customer_id": markup.customer_id,
        "percent": cents_text(markup.percent),
        "effective_from": time_text(markup.effective_from),
        "provenance": provenance,
        "created_at": time_text(created_at),
    }


def upstream_price_shape(price: BookedPrice, provenance: str, created_at: datetime) -> UpstreamPrice:
    """A provider's setting."""
    return {
        "provider": price.provider,
        "accepted": price.accepted,
        "effective_from": time_text(price.effective_from),
        "provenance": provenance,
        "created_at": time_text(created_at),
    }
