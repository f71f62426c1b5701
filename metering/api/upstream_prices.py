"""`/v1/upstream-prices`: for which providers the upstream's own cost is the price of models without a rate."""

from datetime import datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from metering.api.answers import Provider, Time, described, time_text
from metering.api.auth import Admin, Reader
from metering.api.paging import Page, whole_page
from metering.api.parameters import Db, EffectiveFrom, Input, ProviderFilter, TheService
from metering.api.prices import ProviderPath
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.prices.price_book import UpstreamPrice as BookedPrice
from metering.prices.queries import list_upstream_prices
from metering.prices.set_terms import TermsDateTakenError, set_upstream_price

router = v1_router("prices")


class UpstreamPriceInput(Input):
    """Whether a provider's own cost is accepted as the price where no rate is."""

    accepted: Annotated[bool, Field(description="True: `usage.upstream_cost_usd` prices a model without a rate.")]
    effective_from: EffectiveFrom = None


class UpstreamPrice(TypedDict):
    """Whether a provider's own cost is accepted, for streams that start from `effective_from` on."""

    provider: Provider
    accepted: Annotated[bool, described("Whether it is the price of a model without a rate.")]
    effective_from: Annotated[Time, described("The start time of the first stream that it applies to.")]
    provenance: Annotated[str, described("Who set it.", example="set by key k1")]
    created_at: Annotated[Time, described("When it was set.")]


@router.get("/upstream-prices", operation_id="listUpstreamPrices", summary="List accepted upstream prices")
def read_upstream_prices(_: Reader, connection: Db, provider: ProviderFilter = None) -> Page[UpstreamPrice]:
    """All settings, in one page. The cost of a provider without one is not accepted."""
    found = list_upstream_prices(connection, provider=provider)
    return whole_page([upstream_price_shape(each.price, each.provenance, each.created_at) for each in found])


@router.put("/upstream-prices/{provider}", operation_id="putUpstreamPrice", summary="Accept an upstream's prices")
@raises(TermsDateTakenError)
def write_upstream_price(
    provider: ProviderPath, given: UpstreamPriceInput, key: Admin, service: TheService
) -> UpstreamPrice:
    """Add a dated setting of a provider. A rate card always goes first; booked charges stay unchanged."""
    now, set_by = utc_now(), f"key {key.key_id}"
    price = set_upstream_price(
        engine=service.engine,
        provider=provider,
        accepted=given.accepted,
        effective_from=given.effective_from or now,
        set_by=set_by,
        now=now,
    )
    return upstream_price_shape(price, f"set by {set_by}", now)


def upstream_price_shape(price: BookedPrice, provenance: str, created_at: datetime) -> UpstreamPrice:
    """A provider's setting."""
    return {
        "provider": price.provider,
        "accepted": price.accepted,
        "effective_from": time_text(price.effective_from),
        "provenance": provenance,
        "created_at": time_text(created_at),
    }
