"""SQL that writes rate cards, provider names, cancel policies and markups, and loads them as a price book.

Rows are only added, never changed.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.db.rows import json_rows, json_value
from metering.events.usage import UsageKind
from metering.prices.cancel_policies import CancelPolicy, CancelPolicyBook, CancelTerms
from metering.prices.price_book import Markup, MarkupBook, PriceBook
from metering.prices.rate_book import Provider, RateBook
from metering.prices.rates import DailyWindow, Rate, RateCard, in_order

_MIDNIGHT = time()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedRateCard:
    """A rate card, where its prices come from, and when it was added."""

    card: RateCard
    provenance: str
    created_at: datetime


def rates_by_card(rows: Iterable[Any]) -> dict[str, tuple[Rate, ...]]:
    """The rates in rows of the table `rates`, by rate card id."""
    found: dict[str, list[Rate]] = {}
    for row in rows:
        found.setdefault(row.rate_card_id, []).append(_rate_of_row(row))
    return {rate_card_id: in_order(rates) for rate_card_id, rates in found.items()}


def _rate_of_row(row: Any) -> Rate:
    all_day = row.daily_start == row.daily_end == _MIDNIGHT
    return Rate(
        kind=UsageKind(row.kind),
        usd_per_million=row.usd_per_million,
        above_input_tokens=row.above_input_tokens,
        service_tier=row.service_tier or None,
        daily=None if all_day else DailyWindow(row.daily_start, row.daily_end),
    )


def sourced_rate_card(row: Any, rates: tuple[Rate, ...]) -> SourcedRateCard:
    """A row of `rate_cards` and its rates as a record."""
    card = RateCard(
        rate_card_id=row.rate_card_id,
        provider=row.provider,
        model=row.model,
        effective_from=row.effective_from,
        rates=rates,
        names=row.names,
        position=row.position,
        customer_id=row.customer_id,
    )
    return SourcedRateCard(card=card, provenance=row.provenance, created_at=row.created_at)


def provider_of_row(row: Any) -> Provider:
    """A row of `rate_providers` as a record."""
    return Provider(provider=row.provider, names=row.names, serves_models_of=tuple(row.serves_models_of))


def cancel_terms_of_row(row: Any) -> CancelTerms:
    """A row of `cancel_policies` as a record."""
    return CancelTerms(
        provider=row.provider,
        policy=CancelPolicy(row.policy),
        version=row.version,
        effective_from=row.effective_from,
    )


def markup_of_row(row: Any) -> Markup:
    """A row of `markups` as a record."""
    return Markup(customer_id=row.customer_id, percent=row.percent, effective_from=row.effective_from)


_ADD_CARDS = text(
    """
    INSERT INTO rate_cards (rate_card_id, provider, model, effective_from, names, position, customer_id,
                            provenance, created_at)
    SELECT * FROM json_to_recordset(CAST(:cards AS json))
        AS c (rate_card_id text, provider text, model text, effective_from timestamptz, names jsonb,
              position integer, customer_id text, provenance text, created_at timestamptz)
    """
)
_ADD_RATES = text(
    """
    INSERT INTO rates (rate_card_id, provenance, kind, above_input_tokens, service_tier, daily_start, daily_end,
                       usd_per_million)
    SELECT * FROM json_to_recordset(CAST(:rates AS json))
        AS r (rate_card_id text, provenance text, kind text, above_input_tokens bigint, service_tier text,
              daily_start time, daily_end time, usd_per_million numeric)
    """
)


def add_rate_cards(connection: Connection, cards: Sequence[SourcedRateCard]) -> None:
    """Add cards with their rates.

    Raises:
        IntegrityError: the model already has a card, shared or of this customer, effective from the same time.
    """
    connection.execute(_ADD_CARDS, {"cards": json_rows(map(_card_row, cards))})
    connection.execute(
        _ADD_RATES, {"rates": json_rows(_rate_row(new, rate) for new in cards for rate in new.card.rates)}
    )


def _card_row(new: SourcedRateCard) -> dict[str, Any]:
    return {
        "rate_card_id": new.card.rate_card_id,
        "provider": new.card.provider,
        "model": new.card.model,
        "effective_from": new.card.effective_from,
        "names": new.card.names,
        "position": new.card.position,
        "customer_id": new.card.customer_id,
        "provenance": new.provenance,
        "created_at": new.created_at,
    }


def _rate_row(new: SourcedRateCard, rate: Rate) -> dict[str, Any]:
    return {
        "rate_card_id": new.card.rate_card_id,
        "provenance": new.provenance,
        "kind": rate.kind.value,
        "above_input_tokens": rate.above_input_tokens,
        "service_tier": rate.service_tier or "",
        "daily_start": rate.daily.start if rate.daily else _MIDNIGHT,
        "daily_end": rate.daily.end if rate.daily else _MIDNIGHT,
        "usd_per_million": rate.usd_per_million,
    }


_CARDS, _RATES = text("SELECT * FROM rate_cards"), text("SELECT * FROM rates")


def load_rate_cards(connection: Connection) -> list[SourcedRateCard]:
    """All cards with their rates."""
    by_card = rates_by_card(connection.execute(_RATES))
    return [sourced_rate_card(row, by_card.get(row.rate_card_id, ())) for row in connection.execute(_CARDS)]


_ANY_CARD = text("SELECT FROM rate_cards LIMIT 1")


def has_rate_cards(connection: Connection) -> bool:
    """Whether any rate card is stored."""
    return connection.execute(_ANY_CARD).first() is not None


FOREVER = datetime.max.replace(tzinfo=UTC)

_PROVIDERS = text(
    """
    SELECT * FROM (
        SELECT DISTINCT ON (provider) * FROM rate_providers WHERE created_at <= :known_at
        ORDER BY provider, created_at DESC
    ) AS newest ORDER BY position
    """
)


def load_providers(connection: Connection, *, known_at: datetime = FOREVER) -> list[Provider]:
    """The newest row of each provider at `known_at`, in the catalogue's order."""
    return [provider_of_row(row) for row in connection.execute(_PROVIDERS, {"known_at": known_at})]


_ADD_PROVIDERS = text(
    """
    INSERT INTO rate_providers (provider, names, serves_models_of, position, provenance, created_at)
    VALUES (:provider, CAST(:names AS jsonb), :serves_models_of, :position, :provenance, :now)
    """
)


def add_providers(
    connection: Connection, providers: Sequence[Provider], *, provenance: str, now: datetime
) -> None:
    """Add a new row for each provider; `providers` are in the catalogue's order."""
    if providers:
        rows = [
            {
                "provider": provider.provider,
                "names": json_value(provider.names),
                "serves_models_of": list(provider.serves_models_of),
                "position": position,
                "provenance": provenance,
                "now": now,
            }
            for position, provider in enumerate(providers)
        ]
        connection.execute(_ADD_PROVIDERS, rows)


# Rows are only added, so their number and the newest time identify a version.
_VERSION = text(
    """
    SELECT (SELECT (count(*), max(created_at))::text FROM rate_cards)
        || (SELECT (count(*), max(created_at))::text FROM rate_providers)
        || (SELECT (count(*), max(created_at))::text FROM cancel_policies)
        || (SELECT (count(*), max(created_at))::text FROM markups)
    """
)


class PriceBooks:
    """A cache of the price book. Reading it again costs one small query while nothing was added."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: str | None = None
        self._woken: str | None = None
        self._book = PriceBook(rates=RateBook(()))

    def current(self, connection: Connection) -> PriceBook:
        """The book with all rows that `connection` can see."""
        version: str = connection.execute(_VERSION).scalar_one()
        with self._lock:
            if version != self._version:
                self._book = load_price_book(connection)
                self._version = version
            return self._book

    def new_version(self, connection: Connection) -> str | None:
        """The version of the price book, if unpriced streams were not woken for it yet; None otherwise."""
        version: str = connection.execute(_VERSION).scalar_one()
        return None if version == self._woken else version

    def mark_woken(self, version: str) -> None:
        """Record that unpriced streams were woken for this version."""
        self._woken = version


_POLICIES = text("SELECT * FROM cancel_policies WHERE created_at <= :known_at")
_MARKUPS = text("SELECT * FROM markups WHERE created_at <= :known_at")


def load_price_book(connection: Connection, *, known_at: datetime = FOREVER) -> PriceBook:
    """The price book with all rows that were added by `known_at`."""
    cards = [each.card for each in load_rate_cards(connection) if each.created_at <= known_at]
    policies = connection.execute(_POLICIES, {"known_at": known_at})
    markups = connection.execute(_MARKUPS, {"known_at": known_at})
    return PriceBook(
        rates=RateBook(cards, load_providers(connection, known_at=known_at)),
        cancel_policies=CancelPolicyBook(map(cancel_terms_of_row, policies)),
        markups=MarkupBook(map(markup_of_row, markups)),
    )


_CHANGES = text(
    """
    SELECT created_at FROM rate_cards UNION SELECT created_at FROM rate_providers
    UNION SELECT created_at FROM cancel_policies UNION SELECT created_at FROM markups ORDER BY created_at
    """
)


def price_book_changes(connection: Connection) -> list[datetime]:
    """The times at which rows were added to the price book, in order."""
    return list(connection.execute(_CHANGES).scalars())


_ADD_POLICY = text(
    """
    INSERT INTO cancel_policies (provider, version, policy, effective_from, provenance, created_at)
    SELECT :provider, coalesce(max(version), 0) + 1, :policy, CAST(:effective_from AS timestamptz), :provenance,
           CAST(:now AS timestamptz)
    FROM cancel_policies WHERE provider = :provider RETURNING version
    """
)


def add_cancel_policy(
    connection: Connection,
    *,
    provider: str,
    policy: CancelPolicy,
    effective_from: datetime,
    provenance: str,
    now: datetime,
) -> CancelTerms:
    """Add a policy as the next version of its provider.

    Raises:
        IntegrityError: the provider already has a policy effective from the same time.
    """
    parameters = {
        "provider": provider,
        "policy": policy.value,
        "effective_from": effective_from,
        "provenance": provenance,
        "now": now,
    }
    version: int = connection.execute(_ADD_POLICY, parameters).scalar_one()
    return CancelTerms(provider=provider, policy=policy, version=version, effective_from=effective_from)


_ADD_MARKUP = text(
    """
    INSERT INTO markups (customer_id, percent, effective_from, provenance, created_at)
    VALUES (:customer_id, :percent, :effective_from, :provenance, :now)
    """
)


def add_markup(
    connection: Connection,
    *,
    customer_id: str,
    percent: Decimal,
    effective_from: datetime,
    provenance: str,
    now: datetime,
) -> Markup:
    """Add a markup.

    Raises:
        IntegrityError: the customer already has a markup effective from the same time.
    """
    parameters = {
        "customer_id": customer_id,
        "percent": percent,
        "effective_from": effective_from,
        "provenance": provenance,
        "now": now,
    }
    connection.execute(_ADD_MARKUP, parameters)
    return Markup(customer_id=customer_id, percent=percent, effective_from=effective_from)
