"""Hints about names that the service does not know: a key, a policy or an alert for them does nothing yet."""

from collections.abc import Iterable
from difflib import get_close_matches

from sqlalchemy import Connection

from metering.core.clock import utc_now
from metering.customers.queries.customers import CustomerView, get_customer, list_customers
from metering.customers.store import UnknownCustomerError
from metering.prices.store.cards import load_rate_cards
from metering.server.terminal.output import say

# Ids that are compared with a misspelt one.
_MAX_COMPARED = 5_000


def customer_or_fail(connection: Connection, customer_id: str) -> CustomerView:
    """A customer that has to exist.

    Raises:
        UnknownCustomerError: it does not; the message names a similar one.
    """
    found = get_customer(connection, customer_id=customer_id, now=utc_now(), with_similar=True)
    if found is None:
        raise UnknownCustomerError(
            f"there is no customer {customer_id!r}{_similar_customer(connection, customer_id)}"
        )
    return found


def customer_hint(connection: Connection, customer_id: str | None) -> str | None:
    """What to say if there is no such customer yet: its first event creates it, however its id is spelt there."""
    if customer_id is None or get_customer(connection, customer_id=customer_id, now=utc_now()) is not None:
        return None
    return f"note: there is no customer {customer_id!r} yet{_similar_customer(connection, customer_id)}"


def provider_hint(connection: Connection, provider: str) -> str | None:
    """What to say if no rate card is of this provider."""
    known = {each.card.provider for each in load_rate_cards(connection)}
    if provider.lower() in known:
        return None
    return f"note: provider {provider!r} has no rate card{did_you_mean(provider.lower(), known)}"


def say_hint(hint: str | None) -> None:
    """Say it, after the command has done what it was told."""
    if hint is not None:
        say(hint)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the closest names; empty if none is close.

    >>> did_you_mean("opnai", ["openai", "anthropic"])
    "; did you mean 'openai'?"
    """
    close = get_close_matches(name, list(known), n=2)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _similar_customer(connection: Connection, customer_id: str) -> str:
    customers = list_customers(connection, now=utc_now(), only=None, after="", limit=_MAX_COMPARED)
    by_folded = {each.customer_id.casefold(): each.customer_id for each in customers}
    close = get_close_matches(customer_id.casefold(), list(by_folded), n=2)
    names = " or ".join(repr(by_folded[each]) for each in close)
    return f"; did you mean {names}?" if names else ""
