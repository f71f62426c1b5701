"""Set terms: a provider's cancel policy, a customer's markup. Each is a new dated row; what is booked stays."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from metering.core.errors import MeteringError
from metering.customers.store import CustomerDetails, put_customer
from metering.db.engine import transaction
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.price_book import Markup
from metering.prices.store import add_cancel_policy, add_markup


class TermsDateTakenError(MeteringError):
    """There are terms from this very moment already; they are never changed."""


class InvalidMarkupError(MeteringError):
    """A discount beyond the whole price."""


def set_cancel_policy(
    *, engine: Engine, provider: str, policy: CancelPolicy, effective_from: datetime, set_by: str, now: datetime
) -> CancelTerms:
    """Add a provider's cancel policy, for streams that start from `effective_from` on.

    Raises:
        TermsDateTakenError: the provider has a policy from that moment already.
    """
    try:
        with transaction(engine) as connection:
            return add_cancel_policy(
                connection,
                provider=provider.lower(),
                policy=policy,
                effective_from=effective_from,
                provenance=f"set by {set_by}",
                now=now,
            )
    except IntegrityError as error:
        raise TermsDateTakenError(
            f"effective_from: {provider} has a cancel policy from {effective_from.isoformat()} already; "
            "choose another moment"
        ) from error


def set_markup(
    *, engine: Engine, customer_id: str, percent: Decimal, effective_from: datetime, set_by: str, now: datetime
) -> Markup:
    """Add a customer's markup (below zero: a discount), for streams that start from `effective_from` on.

    Raises:
        InvalidMarkupError: a discount of more than 100 percent.
        TermsDateTakenError: the customer has a markup from that moment already.
    """
    if not percent.is_finite() or percent < -100:
        raise InvalidMarkupError(f"percent: expected a number from -100, got {percent}")
    try:
        with transaction(engine) as connection:
            put_customer(connection, customer_id=customer_id, details=CustomerDetails(), now=now)
            return add_markup(
                connection,
                customer_id=customer_id,
                percent=percent,
                effective_from=effective_from,
                provenance=f"set by {set_by}",
                now=now,
            )
    except IntegrityError as error:
        raise TermsDateTakenError(
            f"effective_from: {customer_id} has a markup from {effective_from.isoformat()} already; "
            "choose another moment"
        ) from error
