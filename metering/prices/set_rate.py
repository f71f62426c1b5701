"""Set a rate by adding a dated card. Booked charges stay unchanged."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.core.errors import MeteringError
from metering.customers.store import CustomerDetails, put_customer
from metering.db.engine import transaction
from metering.prices.check_rates import check_rates
from metering.prices.rate_text import rate_text
from metering.prices.rates import Rate, RateCard, in_order, rate_card_id_of
from metering.prices.store.cards import SET_BY, SourcedRateCard, add_rate_cards, shared_names


class RateDateTakenError(MeteringError):
    """This model already has a card effective from this time; cards are never changed."""


def set_rate(
    *,
    engine: Engine,
    provider: str,
    model: str,
    effective_from: datetime,
    rates: Sequence[Rate],
    set_by: Author,
    now: datetime,
    customer_id: str | None = None,
) -> RateCard:
    """Add a rate card for a model, shared or for one customer. Streams that lacked a rate are rated by it.

    A customer's card without rates ends that customer's own price for the model.

    Raises:
        InvalidRateError: the rates are not a card (`check_rates`).
        RateDateTakenError: the model already has a card effective from this time.
    """
    provider = provider.lower()
    if rates or customer_id is None:
        check_rates(rates)
    with transaction(engine) as connection:
        if customer_id is not None:
            put_customer(connection, customer_id=customer_id, details=CustomerDetails(), now=now)
        card = _card(connection, provider, model, effective_from, in_order(rates), customer_id)
        try:
            add_rate_cards(
                connection, [SourcedRateCard(card=card, provenance=f"{SET_BY}{set_by}", created_at=now)]
            )
        except IntegrityError as error:
            raise RateDateTakenError(
                f"effective_from: {provider}/{model} already has a card effective from "
                f"{effective_from.isoformat()}; choose another time"
            ) from error
        log_action(
            connection,
            by=set_by,
            now=now,
            kind="rate",
            action="set",
            subject=card.rate_card_id,
            after=_state(card),
        )
    return card


def _state(card: RateCard) -> State:
    return {
        "provider": card.provider,
        "model": card.model,
        "customer_id": card.customer_id,
        "effective_from": card.effective_from,
        "rates": [rate_text(rate) for rate in card.rates],
    }


def _card(
    connection: Connection,
    provider: str,
    model: str,
    effective_from: datetime,
    rates: tuple[Rate, ...],
    customer_id: str | None,
) -> RateCard:
    """The new card, with the names of the model's shared card if there is one."""
    names, position = shared_names(connection, provider=provider, model=model) or ({"equals": model}, None)
    return RateCard(
        rate_card_id=rate_card_id_of(
            provider=provider,
            model=model,
            effective_from=effective_from,
            rates=rates,
            customer_id=customer_id,
        ),
        provider=provider,
        model=model,
        effective_from=effective_from,
        rates=rates,
        names=names,
        position=position,
        customer_id=customer_id,
    )
