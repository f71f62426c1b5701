"""The price book over HTTP: rate cards, cancel policies, markups. A change is a new dated row."""

from decimal import Decimal
from typing import Annotated, NotRequired

from fastapi import Path
from pydantic import Field, model_validator
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Amount, Count, Provider, Time, described, time_text
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import (
    WHOLE_NUMBER,
    CustomerFilter,
    Db,
    EffectiveFrom,
    Id,
    Input,
    ModelFilter,
    Name,
    PlainNumber,
    ProviderFilter,
    TheService,
    TimeOfDay,
    decimal_schema,
)
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.customers.store import InvalidCustomerIdError
from metering.events.usage import TIMED_KINDS, UsageKind
from metering.prices.check_rates import InvalidRateError
from metering.prices.queries import RateCardFilter, list_rate_cards
from metering.prices.rates import Rate as BookedRate
from metering.prices.rates import RateCard as BookedCard
from metering.prices.rates import unit_name
from metering.prices.set_rate import RateDateTakenError, set_rate
from metering.prices.windows import DailyWindow, Weekday

router = v1_router("prices")

# Within these bounds every product and sum of them stays exact (core/money.py).
UsdPerUnit = Annotated[
    Decimal,
    PlainNumber,
    Field(ge=0, max_digits=20, decimal_places=12, allow_inf_nan=False),
    decimal_schema(example="25", pattern=r"^[0-9]{1,8}(\.[0-9]{1,12})?$", least=0, most=10**8 - 1),
]
ProviderPath = Annotated[Name, Path(description="The provider.", examples=["anthropic"])]


class DailyInput(Input):
    """A part of the day in UTC, half-open, every day or on some weekdays; it may run past midnight."""

    start: Annotated[TimeOfDay, Field(description="From this time of day on.", examples=["22:00:00"])]
    end: Annotated[TimeOfDay, Field(description="Until this time of day, exclusive.", examples=["06:00:00"])]
    weekdays: Annotated[
        list[Weekday] | None,
        Field(
            min_length=1,
            max_length=7,
            description="Only on these days of the week in UTC; a part that runs past midnight belongs to the day"
            " on which it starts. Absent: every day.",
            examples=[["mon", "tue", "wed", "thu", "fri"]],
        ),
    ] = None

    @model_validator(mode="after")
    def _is_a_stretch(self) -> "DailyInput":
        if self.start.tzinfo or self.end.tzinfo:
            raise ValueError("start and end must have no offset: they are UTC")
        if self.start == self.end and (self.weekdays is None or len(set(self.weekdays)) == len(Weekday)):
            raise ValueError(
                "start and end must differ; with some weekdays they may be equal, which is a whole day"
            )
        return self

    def window(self) -> DailyWindow:
        """In the domain's words."""
        return DailyWindow(self.start, self.end, tuple(self.weekdays or ()))


class RateInput(Input):
    """USD per million units of a kind, or per hour of a kind in seconds.

    All conditions that are given must hold.
    """

    kind: Annotated[UsageKind, Field(description="What is priced.")]
    usd_per_million: Annotated[
        UsdPerUnit | None, Field(description="US dollars per million units, as a string.")
    ] = None
    usd_per_hour: Annotated[
        UsdPerUnit | None, Field(description="US dollars per hour, as a string: for kinds in seconds.")
    ] = None
    above_input_tokens: Annotated[
        int,
        Field(ge=0, le=2**53 - 1, description="Only for requests with more input tokens than this."),
        WHOLE_NUMBER,
    ] = 0
    service_tier: Annotated[Id | None, Field(description="Only for this service tier.", examples=["batch"])] = None
    daily: Annotated[DailyInput | None, Field(description="Only for this part of the day and the week.")] = None

    @model_validator(mode="after")
    def _has_the_price_of_its_kind(self) -> "RateInput":
        wanted, other = "usd_per_million", "usd_per_hour"
        if self.kind in TIMED_KINDS:
            wanted, other = other, wanted
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"{self.kind.value} is priced {unit_name(self.kind)}: send {wanted}, not {other}")
        return self

    def rate(self) -> BookedRate:
        """In the domain's words."""
        return BookedRate(
            kind=self.kind,
            usd_per_million=self.usd_per_million,
            usd_per_hour=self.usd_per_hour,
            above_input_tokens=self.above_input_tokens,
            service_tier=self.service_tier.lower() if self.service_tier else None,
            daily=self.daily.window() if self.daily else None,
        )


class RateCardInput(Input):
    """A new rate card for a model."""

    rates: Annotated[
        list[RateInput],
        Field(
            max_length=500,
            description="The rates. With `customer_id`, an empty list ends the customer's own card.",
        ),
    ]
    effective_from: EffectiveFrom = None
    customer_id: Annotated[
        Id | None, Field(description="The customer whose own card this is; without it the card is for all.")
    ] = None


class DailyPart(TypedDict):
    """A part of the day in UTC, half-open, every day or on some weekdays; it may run past midnight."""

    start: Annotated[str, described("From this time of day on.", example="22:00:00")]
    end: Annotated[str, described("Until this time of day, exclusive.", example="06:00:00")]
    weekdays: NotRequired[
        Annotated[list[Weekday], described("Only on these days of the week in UTC; absent for every day.")]
    ]


class Rate(TypedDict):
    """A rate per million units, or per hour of a kind in seconds; a condition that it does not have is absent."""

    kind: Annotated[UsageKind, described("What is priced.")]
    usd_per_million: Annotated[
        Amount | None, described("US dollars per million units; null for kinds in seconds.", example="25")
    ]
    usd_per_hour: NotRequired[
        Annotated[Amount, described("US dollars per hour of a kind in seconds.", example="0.36")]
    ]
    above_input_tokens: Annotated[Count, described("Only for requests with more input tokens than this.")]
    service_tier: NotRequired[Annotated[str, described("Only for this service tier.", example="batch")]]
    daily: NotRequired[Annotated[DailyPart, described("Only for this part of the day and the week.")]]


_PROVENANCE = described("Where it comes from.", example="set by key k1")


class RateCard(TypedDict):
    """The rates of a model from `effective_from` until its next card takes effect. It is never changed."""

    rate_card_id: Annotated[str, described("Follows from the content of the card.", example="rc_5d4c0a9b")]
    provider: Provider
    model: Annotated[str, described("The model that it prices.", example="claude-opus-4-7")]
    customer_id: Annotated[str | None, described("The customer whose own card it is; null: for all.")]
    effective_from: Annotated[Time, described("The start time of the first stream that it applies to.")]
    provenance: Annotated[str, _PROVENANCE]
    rates: Annotated[list[Rate], described("Its rates.")]


@router.get("/rates", operation_id="listRates", summary="List rate cards")
@needs(Scope.RATES_READ)
def read_rates(
    key: Caller,
    connection: Db,
    provider: ProviderFilter = None,
    model: ModelFilter = None,
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT, TEXT, TIME, TEXT)] = None,
) -> Page[RateCard]:
    """Rate cards by provider, model and date. With `customer_id`: that customer's own and the common ones."""
    position = decode_cursor(cursor, length=4)
    after = (position[0], position[1], parse_time(position[2]), position[3]) if position else None
    where = RateCardFilter(provider=provider, model=model, customer_id=require_customer(key, customer_id))
    cards = list_rate_cards(connection, where=where, after=after, limit=limit + 1)
    return page_of(
        cards,
        limit=limit,
        shape=lambda each: rate_card_shape(each.card, each.provenance),
        position=lambda each: _position(each.card),
    )


def _position(card: BookedCard) -> list[str]:
    return [card.provider, card.model, time_part(card.effective_from), card.customer_id or ""]


@router.put("/rates/{provider}/{model:id}", operation_id="putRate", summary="Add a rate card")
@needs(Scope.RATES_WRITE)
@raises(InvalidRateError, InvalidCustomerIdError, RateDateTakenError)
def write_rate(
    provider: ProviderPath,
    model: Annotated[Name, Path(description="The model.", examples=["claude-opus-4-7"])],
    given: RateCardInput,
    by: By,
    service: TheService,
) -> RateCard:
    """Add a dated rate card. Booked charges stay as they are; unpriced streams that it prices are finalized."""
    now = utc_now()
    card = set_rate(
        engine=service.engine,
        provider=provider,
        model=model,
        effective_from=given.effective_from or now,
        rates=[rate.rate() for rate in given.rates],
        customer_id=given.customer_id,
        set_by=by,
        now=now,
    )
    return rate_card_shape(card, f"set by {by}")


def rate_card_shape(card: BookedCard, provenance: str) -> RateCard:
    """A rate card with its rates."""
    return {
        "rate_card_id": card.rate_card_id,
        "provider": card.provider,
        "model": card.model,
        "customer_id": card.customer_id,
        "effective_from": time_text(card.effective_from),
        "provenance": provenance,
        "rates": [_rate_shape(rate) for rate in card.rates],
    }


def _rate_shape(rate: BookedRate) -> Rate:
    shape: Rate = {
        "kind": rate.kind,
        "usd_per_million": None if rate.usd_per_million is None else cents_text(rate.usd_per_million),
        "above_input_tokens": rate.above_input_tokens,
    }
    if rate.usd_per_hour is not None:
        shape["usd_per_hour"] = cents_text(rate.usd_per_hour)
    if rate.service_tier:
        shape["service_tier"] = rate.service_tier
    if rate.daily:
        shape["daily"] = {"start": rate.daily.start.isoformat(), "end": rate.daily.end.isoformat()}
        if rate.daily.weekdays:
            shape["daily"]["weekdays"] = list(rate.daily.weekdays)
    return shape
