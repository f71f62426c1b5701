"""The price book as the database has it, kept until something is added to it; cancel policies and markups."""

import threading
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, insert, select, text

from metering.db.tables import cancel_policies, markups
from metering.prices.cancel_policies import CancelPolicy, CancelPolicyBook, CancelTerms
from metering.prices.markups import Markup, MarkupBook
from metering.prices.price_book import PriceBook
from metering.prices.rate_book import RateBook
from metering.prices.store.rate_rows import cancel_terms_of_row, markup_of_row
from metering.prices.store.rates import FOREVER, load_providers, load_rate_cards

# All of it is only ever added to, so how much there is and the newest time tell one state from another.
_VERSION = text(
    """
    SELECT (SELECT (count(*), max(created_at))::text FROM rate_cards)
        || (SELECT (count(*), max(created_at))::text FROM rate_providers)
        || (SELECT (count(*), max(created_at))::text FROM cancel_policies)
        || (SELECT (count(*), max(created_at))::text FROM markups)
    """
)


class PriceBooks:
    """The price book. Asking for it again costs one small query while nothing was added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: str | None = None
        self._book = PriceBook(rates=RateBook(()))

    def current(self, connection: Connection) -> PriceBook:
        """The book with all that `connection` can see."""
        version: str = connection.execute(_VERSION).scalar_one()
        with self._lock:
            if version != self._version:
                self._book = load_price_book(connection)
                self._version = version
            return self._book


def load_price_book(connection: Connection, *, known_at: datetime = FOREVER) -> PriceBook:
    """Everything that prices depend on, or as much of it as had been added by then."""
    cards = [each.card for each in load_rate_cards(connection) if each.created_at <= known_at]
    policies = connection.execute(select(cancel_policies).where(cancel_policies.c.created_at <= known_at))
    own = connection.execute(select(markups).where(markups.c.created_at <= known_at))
    return PriceBook(
        rates=RateBook(cards, load_providers(connection, known_at=known_at)),
        cancel_policies=CancelPolicyBook(map(cancel_terms_of_row, policies)),
        markups=MarkupBook(map(markup_of_row, own)),
    )


_CHANGES = text(
    """
    SELECT created_at FROM rate_cards UNION SELECT created_at FROM rate_providers
    UNION SELECT created_at FROM cancel_policies UNION SELECT created_at FROM markups ORDER BY created_at
    """
)


def price_book_changes(connection: Connection) -> list[datetime]:
    """When something was added to the price book, in order."""
    return list(connection.execute(_CHANGES).scalars())


def add_cancel_policy(
    connection: Connection,
    *,
    provider: str,
    policy: CancelPolicy,
    effective_from: datetime,
    provenance: str,
    now: datetime,
) -> CancelTerms:
    """Add a policy as its provider's next version; the database refuses a second one for a moment."""
    newest = select(func.coalesce(func.max(cancel_policies.c.version), 0))
    version = connection.execute(newest.where(cancel_policies.c.provider == provider)).scalar_one() + 1
    connection.execute(
        insert(cancel_policies).values(
            provider=provider,
            version=version,
            policy=policy.value,
            effective_from=effective_from,
            provenance=provenance,
            created_at=now,
        )
    )
    return CancelTerms(provider=provider, policy=policy, version=version, effective_from=effective_from)


def add_markup(
    connection: Connection,
    *,
    customer_id: str,
    percent: Decimal,
    effective_from: datetime,
    provenance: str,
    now: datetime,
) -> Markup:
    """Add a markup; the database refuses a second one for a customer and a moment."""
    connection.execute(
        insert(markups).values(
            customer_id=customer_id,
            percent=percent,
            effective_from=effective_from,
            provenance=provenance,
            created_at=now,
        )
    )
    return Markup(customer_id=customer_id, percent=percent, effective_from=effective_from)
