"""Set terms of a provider or a customer by adding a dated row. Booked charges stay unchanged."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.core.errors import MeteringError
from metering.customers.store import CustomerDetails, put_customer
from metering.db.engine import transaction
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.price_book import Markup, UpstreamPrice
from metering.prices.store.terms import add_cancel_policy, add_markup, add_upstream_price


class TermsDateTakenError(MeteringError):
    """There are already terms effective from this time; terms are never changed."""


class InvalidMarkupError(MeteringError):
    """The markup is not a number, or is a discount of more than 100 percent."""


def set_cancel_policy(
    *, engine: Engine, provider: str, policy: CancelPolicy, effective_from: datetime, set_by: Author, now: datetime
) -> CancelTerms:
    """Add a provider's cancel policy, for streams that start from `effective_from` on.

    Raises:
        TermsDateTakenError: the provider already has a policy effective from this time.
    """
    try:
        with transaction(engine) as connection:
            terms = add_cancel_policy(
                connection,
                provider=provider.lower(),
                policy=policy,
                effective_from=effective_from,
                provenance=f"set by {set_by}",
                now=now,
            )
            after = {"policy": policy, "version": terms.version, "effective_from": effective_from}
            _log(connection, "cancel_policy", terms.provider, after, set_by, now)
            return terms
    except IntegrityError as error:
        raise TermsDateTakenError(
            f"effective_from: {provider} already has a cancel policy effective from {effective_from.isoformat()}; "
            "choose another time"
        ) from error


def set_upstream_price(
    *, engine: Engine, provider: str, accepted: bool, effective_from: datetime, set_by: Author, now: datetime
) -> UpstreamPrice:
    """Accept, or no longer accept, what a provider says that a stream cost as its price where no rate is.

    It applies to streams that start from `effective_from` on. Streams that lacked a rate are priced by it.

    Raises:
        TermsDateTakenError: the provider already has a setting effective from this time.
    """
    new = UpstreamPrice(provider=provider.lower(), accepted=accepted, effective_from=effective_from)
    try:
        with transaction(engine) as connection:
            add_upstream_price(connection, new, provenance=f"set by {set_by}", now=now)
            after = {"accepted": accepted, "effective_from": effective_from}
            _log(connection, "upstream_price", new.provider, after, set_by, now)
    except IntegrityError as error:
        raise TermsDateTakenError(
            f"effective_from: {provider} already has a setting effective from {effective_from.isoformat()}; "
            "choose another time"
        ) from error
    return new


def set_markup(
    *, engine: Engine, customer_id: str, percent: Decimal, effective_from: datetime, set_by: Author, now: datetime
) -> Markup:
    """Add a customer's markup (negative: a discount), for streams that start from `effective_from` on.

    Raises:
        InvalidMarkupError: `percent` is not a finite number of at least -100.
        TermsDateTakenError: the customer already has a markup effective from this time.
    """
    if not percent.is_finite() or percent < -100:
        raise InvalidMarkupError(f"percent: expected a number of at least -100, got {percent}")
    try:
        with transaction(engine) as connection:
            put_customer(connection, customer_id=customer_id, details=CustomerDetails(), now=now)
            markup = add_markup(
                connection,
                customer_id=customer_id,
                percent=percent,
                effective_from=effective_from,
                provenance=f"set by {set_by}",
                now=now,
            )
            after = {"percent": percent, "effective_from": effective_from}
            _log(connection, "markup", customer_id, after, set_by, now)
            return markup
    except IntegrityError as error:
        raise TermsDateTakenError(
            f"effective_from: {customer_id} already has a markup effective from {effective_from.isoformat()}; "
            "choose another time"
        ) from error


def _log(connection: Connection, kind: str, subject: str, after: State, by: Author, now: datetime) -> None:
    log_action(connection, by=by, now=now, kind=kind, action="set", subject=subject, after=after)
